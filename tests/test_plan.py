"""The planner: what a spec becomes, what is refused, and that nothing but the spec has a say."""

from __future__ import annotations

import builtins
import io
import os
import random
import socket
import subprocess
import time
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrender.errors import InvalidOption, InvalidPlan
from asyncrender.plan import NOT_IN_FINGERPRINT, check_plan, chunk_key, make_plan, page_text, replan
from asyncrender.specs import (
    AudioOptions,
    AudioTrack,
    Environment,
    Html,
    RenderOptions,
    RenderPlan,
    Timeouts,
    VideoOptions,
)

MUSIC = AudioTrack(path="music.mp3", volume=0.6, fade_out=1.5)


def plan_of(scene: str = "scene.html", output: str = "out.mp4", **options: Any) -> RenderPlan:
    return make_plan(scene, output, RenderOptions.model_validate({"duration": 1, **options}))


# ---- what comes out


def test_a_render_is_planned() -> None:
    options = RenderOptions(fps=30, duration=10, concurrency=4, audio=AudioOptions(tracks=(MUSIC,)))
    plan = make_plan("scene.html", "out.mp4", options)

    assert plan.total_frames == 300
    assert [(chunk.id, chunk.start_frame, chunk.frame_count) for chunk in plan.chunks] == [
        (0, 0, 75),
        (1, 75, 75),
        (2, 150, 75),
        (3, 225, 75),
    ]
    for chunk in plan.chunks:
        assert chunk.options.audio.codec == "pcm_s16le"
        assert chunk.options.audio.tracks == ()
        assert (chunk.options.start_frame, chunk.options.frame_count) == (chunk.start_frame, chunk.frame_count)
        assert chunk.options.video.codec == "libx264"
    assert plan.mix_options.video.codec == "copy"
    assert plan.mix_options.mix_input_audio is True
    assert plan.mix_options.audio.codec == "aac"
    assert plan.mix_options.audio.tracks == (MUSIC,)
    assert plan.concat_manifest == tuple(chunk.output_file for chunk in plan.chunks)
    assert plan.final_output_file == "out.mp4"
    assert set(plan.cleanup_files) == {*plan.concat_manifest, plan.concat_output_file}
    assert len({*plan.cleanup_files, plan.final_output_file}) == 6


def test_defaults_are_written_out() -> None:
    options = plan_of().options
    assert (options.width, options.height, options.fps, options.frame_count) == (1920, 1080, 30, 30)
    assert (options.video.crf, options.video.pixel_format, options.audio.codec) == (18, "yuv420p", "aac")


@pytest.mark.parametrize(
    ("scene", "output", "url", "base"),
    [
        ("scene.html", "out.mp4", "scene.html", "."),
        ("a/scene.html", "a/out.mp4", "../a/scene.html", "a"),
        ("/page/scene.html", "/page/out.mp4", "scene.html", "/page"),
        ("/page/scene.html", "/films/out.mp4", "/page/scene.html", "/films"),
        ("a b/100%/é.html", "out.mp4", "a b/100%/é.html", "."),
        ("file:///page/a%20b.html", "/films/out.mp4", "/page/a b.html", "/films"),
        ("https://example.org/?a=1", "/films/out.mp4", "https://example.org/?a=1", "/films"),
        (Html("<h1>é</h1>"), "out.mp4", "data:text/html;charset=utf-8;base64,PGgxPsOpPC9oMT4=", "."),
        (Path("scene.html"), Path("out.mp4"), "scene.html", "."),
    ],
)
def test_a_scene_is_a_path_a_url_or_text(scene: str, output: str, url: str, base: str) -> None:
    plan = make_plan(scene, output, RenderOptions(duration=1))
    assert (plan.composition_url, plan.base) == (url, base)


@pytest.mark.parametrize(
    ("path", "output", "planned"),
    [
        ("music.mp3", "out.mp4", "music.mp3"),
        ("music.mp3", "films/out.mp4", "../music.mp3"),
        ("/films/music.mp3", "/films/out.mp4", "music.mp3"),
        ("/music.mp3", "/films/out.mp4", "/music.mp3"),
    ],
)
def test_a_track_is_found_from_the_outputs_folder(path: str, output: str, planned: str) -> None:
    plan = plan_of("/scene.html", output, audio={"tracks": [{"path": path}]})
    assert plan.mix_options.audio.tracks[0].path == plan.options.audio.tracks[0].path == planned
    check_plan(plan)


@given(
    total=st.integers(1, 3000),
    concurrency=st.integers(1, 64),
    chunk_frames=st.integers(1, 1000),
    start=st.integers(0, 10**6),
    fps=st.sampled_from(["1/3", 1, 24, "24000/1001", 29.97, 30, "59.94", 120, 1000]),
)
def test_any_plan_covers_its_window_exactly(
    total: int, concurrency: int, chunk_frames: int, start: int, fps: Any
) -> None:
    options = {"frame_count": total, "concurrency": concurrency, "chunk_frames": chunk_frames, "fps": fps}
    plan = plan_of(**options, start_frame=start)
    sizes = [chunk.frame_count for chunk in plan.chunks]

    assert len(sizes) == min(total, max(concurrency, -(-total // chunk_frames)))
    assert [
        frame for chunk in plan.chunks for frame in range(chunk.start_frame, chunk.start_frame + chunk.frame_count)
    ] == [*range(start, start + total)]
    assert min(sizes) >= 1
    assert max(sizes) <= max(chunk_frames, -(-total // concurrency))
    assert max(sizes) - min(sizes) <= 1
    assert [chunk.id for chunk in plan.chunks] == [*range(len(sizes))]


@given(
    total=st.integers(1, 200),
    concurrency=st.integers(1, 8),
    fps=st.fractions(min_value=Fraction(1, 100), max_value=240, max_denominator=1001),
    props=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=3),
)
def test_a_plan_travels_as_json_and_is_the_same_every_time(
    total: int, concurrency: int, fps: Fraction, props: dict[str, Any]
) -> None:
    options = {"frame_count": total, "concurrency": concurrency, "fps": fps, "props": props}
    plan = plan_of(**options)
    text = plan.model_dump_json()
    assert RenderPlan.model_validate_json(text) == plan
    assert RenderPlan.model_validate_json(text).model_dump_json() == text
    assert plan_of(**options).model_dump_json() == text


def test_a_million_frames_are_planned_at_once() -> None:
    began = time.perf_counter()
    plan = plan_of(frame_count=1_000_000, chunk_frames=100)
    # "Well under a second" is the promise; the bound is generous, because test machines are busy.
    assert time.perf_counter() - began < 5
    assert len(plan.chunks) == 10_000


def test_a_resolved_plan_keeps_its_chunks() -> None:
    plan = plan_of(duration=10, start_frame=7, concurrency=3)
    found = Environment(asyncrender="1", browser="HeadlessChrome/1", ffmpeg="7")
    resolved = replan(plan, plan.options.model_copy(update={"environment": found, "concurrency": 5}))
    assert [(chunk.start_frame, chunk.frame_count) for chunk in resolved.chunks] == [(7, 100), (107, 100), (207, 100)]
    assert all(chunk.options.environment == found for chunk in resolved.chunks)
    assert resolved.fingerprint != plan.fingerprint


# ---- durations and rates


@pytest.mark.parametrize(
    ("duration", "fps", "frames"),
    [
        (1.1, 30, 33),
        ("1.1", 30, 33),
        (Decimal("1.1"), 30, 33),
        (Fraction(11, 10), 30, 33),
        (timedelta(seconds=1, milliseconds=100), 30, 33),
        (1, 30, 30),
        (0.1 + 0.2, 10, 3),
        (1.0001, 30, 31),
        (0.001, 30, 1),
        (10, "30000/1001", 300),
        (1001, "30000/1001", 30000),
        (3600, 23.976, 86314),
    ],
)
def test_a_duration_is_so_many_frames(duration: Any, fps: Any, frames: int) -> None:
    assert plan_of(duration=duration, fps=fps).total_frames == frames


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_a_float_of_n_frames_is_n_frames(fps: int) -> None:
    assert [plan_of(duration=n / fps, fps=fps).total_frames for n in range(1, 301)] == [*range(1, 301)]


@pytest.mark.parametrize(
    ("given", "exact"),
    [
        (29.97, Fraction(30000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (Decimal("59.94"), Fraction(60000, 1001)),
        (119.88, Fraction(120000, 1001)),
        ("30000/1001", Fraction(30000, 1001)),
        (12.5, Fraction(25, 2)),
        (25.0, 25),
        (30, 30),
    ],
)
def test_a_rate_is_an_exact_fraction(given: Any, exact: Fraction) -> None:
    plan = plan_of(fps=given)
    assert plan.options.fps == exact
    assert RenderPlan.model_validate_json(plan.model_dump_json()).options.fps == exact


def test_frame_count_wins_over_duration() -> None:
    assert plan_of(duration=10, frame_count=7).total_frames == 7


def test_start_frame_shifts_the_window() -> None:
    plan = plan_of(duration=2, start_frame=45, concurrency=2)
    assert plan.total_frames == 60
    assert [(chunk.start_frame, chunk.frame_count) for chunk in plan.chunks] == [(45, 30), (75, 30)]


# ---- what is refused: the error names the option, the value and what is allowed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": -5}, ["width", "-5", "greater than or equal to 1"]),
        ({"height": 0}, ["height", "0", "greater than or equal to 1"]),
        ({"width": 20_000}, ["width", "20000", "less than or equal to 16384"]),
        ({"width": 16_384, "height": 16_130}, ["height=16130", "16128 at the most, 16384 wide"]),
        ({"width": 641}, ["width=641", "even", "642"]),
        ({"height": 361}, ["height=361", "even", "362"]),
        ({"width": 641, "video": {"pixel_format": "yuv422p"}}, ["width=641", "even"]),
        ({"fps": 0}, ["fps", "0", "above 0 and at most 1000"]),
        ({"fps": -1}, ["fps", "-1", "above 0 and at most 1000"]),
        ({"fps": 1001}, ["fps", "1001", "at most 1000"]),
        ({"fps": float("nan")}, ["fps", "nan", "30000/1001"]),
        ({"fps": float("inf")}, ["fps", "inf", "30000/1001"]),
        ({"fps": "1e999999999"}, ["fps", "1e999999999", "30000/1001"]),
        ({"fps": "30/0"}, ["fps", "30/0", "30000/1001"]),
        ({"fps": "fast"}, ["fps", "fast", "30000/1001"]),
        ({"fps": True}, ["fps", "True", "30000/1001"]),
        ({"duration": None}, ["duration=None", "frame_count"]),
        ({"duration": 0}, ["duration", "0", "1 to 100000000"]),
        ({"duration": -2}, ["duration", "-2", "0 or more"]),
        ({"duration": float("inf")}, ["duration", "inf", "finite"]),
        ({"duration": timedelta(seconds=-1)}, ["duration", "0 or more"]),
        ({"duration": 10**9}, ["duration", "1000000000", "100000000"]),
        ({"frame_count": 0}, ["frame_count", "0", "greater than or equal to 1"]),
        ({"start_frame": -1}, ["start_frame", "-1", "greater than or equal to 0"]),
        ({"concurrency": 0}, ["concurrency", "0", "greater than or equal to 1"]),
        ({"chunk_frames": 0}, ["chunk_frames", "0", "greater than or equal to 1"]),
        ({"frame_count": 10**8, "chunk_frames": 1}, ["chunk_frames=1", "100000 "]),
        ({"capture": "camera"}, ["capture", "camera", "beginframe", "screenshot"]),
        ({"seed": -1}, ["seed", "-1", "greater than or equal to 0"]),
        ({"video": {"codec": "h264"}}, ["video.codec='h264'", "libx264", "ffv1"]),
        ({"video": {"codec": "ffv1"}}, ["video.codec='ffv1'", ".mp4", ".mkv"]),
        ({"video": {"codec": "prores_ks"}}, ["video.codec='prores_ks'", ".mov"]),
        ({"video": {"crf": 52}}, ["video.crf=52", "0 to 51"]),
        ({"video": {"crf": 64}}, ["video.crf", "64", "less than or equal to 63"]),
        ({"video": {"crf": -1}}, ["video.crf", "-1", "greater than or equal to 0"]),
        ({"video": {"crf": 20, "bitrate": "5M"}}, ["video.bitrate='5M'", "either"]),
        ({"video": {"codec": "libvpx-vp9", "preset": "fast"}}, ["video.preset='fast'", "no presets"]),
        ({"video": {"preset": "quick"}}, ["video.preset='quick'", "ultrafast, superfast", "placebo"]),
        ({"video": {"pixel_format": "gbrp"}}, ["video.pixel_format='gbrp'", "yuv420p"]),
        ({"video": {"pixel_format": "yuv420p; rm"}}, ["video.pixel_format", "yuv420p; rm", "[a-z0-9]"]),
        ({"video": {"bitrate": "fast"}}, ["video.bitrate", "fast", "kM"]),
        ({"audio": {"codec": "libvorbis"}}, ["audio.codec='libvorbis'", "aac"]),
        ({"audio": {"codec": "libopus", "sample_rate": 44_100}}, ["audio.sample_rate=44100", "48000"]),
        ({"audio": {"tracks": [{"path": "a.mp3", "volume": -1}]}}, ["audio.tracks.0.volume", "-1", "greater than"]),
        ({"audio": {"tracks": [{"path": ""}]}}, ["audio.tracks.0.path", "at least 1 character"]),
        ({"audio": {"tracks": [{"path": "a\0.mp3"}]}}, ["audio.tracks.0.path", "match pattern"]),
        ({"browser": {"args": ["a\0"]}}, ["browser.args.0", "match pattern"]),
        ({"browser": {"timezone": ""}}, ["browser.timezone", "at least 1 character"]),
        ({"browser": {"locale": ""}}, ["browser.locale", "at least 1 character"]),
        ({"timeouts": {"frame": 0}}, ["timeouts.frame", "0", "greater than 0"]),
    ],
    ids=str,
)
def test_a_bad_option_is_named_with_its_value_and_what_is_allowed(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as refused:
        plan_of(**options)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("preset", ["fast"])
def test_ffv1_has_neither_crf_nor_preset_nor_bitrate(preset: str) -> None:
    for name, value in {"crf": 1, "preset": preset, "bitrate": "5M"}.items():
        with pytest.raises(InvalidOption) as refused:
            plan_of(output="out.mkv", video={"codec": "ffv1", name: value})
        assert (refused.value.option, refused.value.value) == (f"video.{name}", value)
        assert "ffv1" in refused.value.allowed


@pytest.mark.parametrize(
    "output",
    ["", "out", "out.avi", ".mp4", "folder/", "a\0b.mp4", "x" * 300 + ".mp4", ".hidden.mp4", "mp4", "\udcff/a.mp4"],
)
def test_an_output_must_be_a_file_in_a_known_format(output: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        plan_of(output=output)
    assert refused.value.option == "output"


@pytest.mark.parametrize(
    "scene",
    [
        "",
        "a\0b.html",
        "file:///a/b.html?w=50",
        "file:///a/b.html#x",
        "file://[a/b.html",
        "http://[::1",
        "\udcff.html",
        Html("\ud800"),
    ],
)
def test_a_scene_must_be_named(scene: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        plan_of(scene=scene)
    assert refused.value.option == "scene"


def test_the_text_of_a_page_is_text() -> None:
    assert page_text("data:text/html,<b>%C3%A9") == page_text("data:text/html;base64,PGI+w6k=") == "<b>é".encode()
    with pytest.raises(InvalidOption, match="base64"):
        page_text("data:text/html;base64,PGI+w6k")


def test_a_relative_scene_needs_an_output_it_can_be_found_from() -> None:
    with pytest.raises(InvalidOption, match="absolute path"):
        plan_of(scene="scene.html", output="/films/out.mp4")


# ---- purity


LOOKS = [
    (builtins, "open"),
    (io, "open"),
    *(
        (os, name)
        for name in ("open", "stat", "lstat", "getcwd", "listdir", "scandir", "cpu_count", "urandom", "getpid")
    ),
    *((time, name) for name in ("time", "time_ns", "monotonic", "perf_counter", "localtime", "gmtime")),
    *((random, name) for name in ("random", "getrandbits")),
    (socket, "socket"),
    (subprocess, "Popen"),
]


def test_planning_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the planner looked at the machine")

    expected = plan_of(duration=10, concurrency=4).model_dump_json()
    with monkeypatch.context() as patch:
        for module, name in LOOKS:
            patch.setattr(module, name, forbidden)
        planned = plan_of(duration=10, concurrency=4).model_dump_json()
    assert planned == expected


# ---- the fingerprint


OTHER_VALUES: dict[str, Any] = {
    "width": 640,
    "height": 360,
    "fps": 25,
    "duration": 2,
    "frame_count": 7,
    "start_frame": 1,
    "composition_duration": 9,
    "chunk_frames": 10,
    "props": {"a": 1},
    "seed": 1,
    "epoch_ms": 0,
    "capture": "screenshot",
    "page_errors": "warn",
    "preroll": "always",
    "mix_input_audio": False,
    "video": {"crf": 20},
    "audio": {"tracks": [{"path": "music.mp3"}]},
    "browser": {"locale": "de-DE"},
    "environment": {"asyncrender": "1", "browser": "HeadlessChrome/1", "ffmpeg": "7"},
}


def test_every_other_option_changes_the_fingerprint() -> None:
    assert OTHER_VALUES.keys() | NOT_IN_FINGERPRINT == RenderOptions.model_fields.keys()
    prints = {plan_of(**{name: value}).fingerprint for name, value in OTHER_VALUES.items()}
    assert len(prints | {plan_of().fingerprint, plan_of(scene="other.html").fingerprint}) == len(OTHER_VALUES) + 2


@pytest.mark.parametrize(
    "how",
    [
        {"concurrency": 7},
        {"timeouts": {"frame": 1}},
        {"resume": False},
        {"output": "other.mp4"},
        {"video": {"threads": 7}},
    ],
    ids=str,
)
def test_how_a_render_is_run_does_not_change_its_fingerprint(how: dict[str, Any]) -> None:
    assert plan_of(**how).fingerprint == plan_of().fingerprint


def test_a_page_of_the_web_has_one_fingerprint_wherever_its_film_goes() -> None:
    prints = {plan_of("https://example.org/", output).fingerprint for output in ("out.mp4", "a/b.mp4", "/c/d.mp4")}
    assert len(prints) == 1


@pytest.mark.parametrize("outputs", [("out.mp4", "a/b.mp4", "a/c/d.mp4"), ("/out.mp4", "/films/b.mp4", "/x/y/d.mp4")])
def test_a_local_page_has_one_fingerprint_wherever_its_film_goes(outputs: tuple[str, ...]) -> None:
    scene = "/films/scene.html" if outputs[0].startswith("/") else "scene.html"
    prints = {plan_of(scene, output).fingerprint for output in outputs}
    assert len(prints) == 1


def test_a_chunks_key_is_its_plans_and_its_windows() -> None:
    one, two = plan_of(concurrency=2), plan_of(concurrency=2, seed=1)
    keys = {chunk_key(plan, chunk) for plan in (one, two) for chunk in plan.chunks}
    assert len(keys) == 4


def test_a_chunk_that_was_rendered_before_its_plan_was_changed_has_another_key() -> None:
    plan = plan_of()
    other = replan(plan, plan.options.model_copy(update={"seed": 1})).model_copy(
        update={"fingerprint": plan.fingerprint}
    )
    elsewhere = plan.model_copy(update={"composition_url": "other.html"})
    assert len({chunk_key(one, one.chunks[0]) for one in (plan, other, elsewhere)}) == 3


# ---- plans that somebody changed


def changed(part: str, **update: Any) -> RenderPlan:
    """A plan of two chunks in which the options of one part are not those of the others."""
    plan = plan_of(concurrency=2)
    if part == "options":
        return plan.model_copy(update={"options": plan.options.model_copy(update=update)})
    first, second = plan.chunks
    second = second.model_copy(update={"options": second.options.model_copy(update=update)})
    return plan.model_copy(update={"chunks": (first, second)})


@pytest.mark.parametrize(
    ("part", "update", "words"),
    [
        ("options", {"width": 320}, r"chunks\.0\.options, width was 320, is 1920"),
        ("chunks", {"width": 320}, r"chunks\.1\.options, width was 1920, is 320"),
        ("chunks", {"fps": None}, r"chunks\.1\.options, fps was 30, is unset"),
        ("options", {"fps": None}, r"options, fps was 30, is unset"),
        ("chunks", {"video": VideoOptions(codec="libx265")}, r"chunks\.1\.options, video\.codec was libx264"),
    ],
)
def test_a_plan_that_was_changed_in_one_place_only_is_refused(part: str, update: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidPlan, match=words):
        check_plan(changed(part, **update))


def test_chunks_have_files_of_their_own() -> None:
    plan = plan_of(concurrency=2)
    same = tuple(chunk.model_copy(update={"output_file": plan.concat_manifest[0]}) for chunk in plan.chunks)
    files = {"chunks": same, "concat_manifest": tuple(chunk.output_file for chunk in same)}
    with pytest.raises(InvalidPlan, match="names"):
        check_plan(plan.model_copy(update=files))


def test_a_plan_may_be_run_in_another_way() -> None:
    check_plan(changed("options", concurrency=7, timeouts=Timeouts(load=1)))
    check_plan(plan_of(concurrency=3).model_copy(update={"base": "/elsewhere"}))
