"""Whole renders, looked at as a viewer would: frames, rates, sound, names; real browser, real ffmpeg."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import av
import numpy as np
import pytest

import asyncrender as ar
from children import make_old_setpriv
from frames import LOSSLESS, SCENES, digests, frame_seconds, html, left_in, pictures, served, small

one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])
pytestmark = pytest.mark.anyio


async def test_a_render_on_each_event_loop(tmp_path: Path) -> None:
    seen: list[ar.Progress] = []
    result = await ar.render(SCENES / "css.html", tmp_path / "out.mkv", small(concurrency=2), on_progress=seen.append)
    assert len(pictures(result.output)) == result.frames == 10
    assert left_in(tmp_path) == {"out.mkv"}
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == seen[0].frames_done == 0
    assert fractions.count(1.0) == 1
    assert fractions[-1] == 1.0
    assert [chunk.attempts for chunk in result.chunks] == [1, 1]


@one_loop
async def test_a_silent_films_files_are_read_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look is a process: at two chunks, at what they make together, at the film."""
    log, counting = tmp_path / "log", tmp_path / "tools" / "ffprobe"
    counting.parent.mkdir()
    counting.write_text(f'#!/bin/sh\necho "$@" >>{log}\nexec {shutil.which("ffprobe")} "$@"\n')
    counting.chmod(0o755)
    monkeypatch.setenv("PATH", str(counting.parent), prepend=os.pathsep)
    await ar.render(SCENES / "css.html", tmp_path / "out.mkv", small(concurrency=2))
    assert len(log.read_text().splitlines()) == 4


@pytest.mark.asyncio
async def test_as_an_asyncio_user_writes_it(tmp_path: Path) -> None:
    picture = "<img src='data:image/svg+xml,<svg xmlns=%22http://www.w3.org/2000/svg%22/>'>"  # is looked into beside
    scene = ar.Html((SCENES / "css.html").read_text() + picture)
    task = asyncio.create_task(ar.render(scene, tmp_path / "out.mkv", small()))
    result = await asyncio.wait_for(task, 120)
    assert result.output == tmp_path / "out.mkv"


@one_loop
@pytest.mark.parametrize(
    "scene",
    [pytest.param("css", marks=pytest.mark.soak), pytest.param("waapi", marks=pytest.mark.soak), "canvas", "interval"],
)
async def test_any_number_of_chunks_gives_the_same_frames(scene: str, tmp_path: Path) -> None:
    films = []
    for concurrency in (1, 2, 5):
        output = tmp_path / f"{concurrency}.mkv"
        options = small(frame_count=13, concurrency=concurrency)
        assert len((await ar.render(SCENES / f"{scene}.html", output, options)).chunks) == concurrency
        films.append(digests(output))
    assert films[0] == films[1] == films[2]
    assert len(set(films[0])) > 6, "the scene hardly moves: the comparison would say nothing"


@one_loop
async def test_start_frame_gives_the_later_frames_of_the_full_render(tmp_path: Path) -> None:
    await ar.render(SCENES / "canvas.html", tmp_path / "full.mkv", small(frame_count=12))
    await ar.render(SCENES / "canvas.html", tmp_path / "part.mkv", small(frame_count=7, start_frame=5, concurrency=2))
    assert digests(tmp_path / "part.mkv") == digests(tmp_path / "full.mkv")[5:]


@one_loop
@pytest.mark.parametrize(
    ("fps", "seconds", "frames", "rate"),
    [
        (30, 1.1, 33, Fraction(30)),
        (29.97, 0.5, 15, Fraction(30000, 1001)),
        ("23.976", 0.5, 12, Fraction(24000, 1001)),
        (60, "1/60", 1, Fraction(60)),
    ],
)
async def test_h264_has_an_exact_rate(
    fps: object, seconds: object, frames: int, rate: Fraction, tmp_path: Path
) -> None:
    options = ar.RenderOptions(width=160, height=90, fps=fps, duration=seconds, concurrency=3)
    output = (await ar.render(SCENES / "css.html", tmp_path / "out.mp4", options)).output
    (video,) = (await ar.probe(output)).video
    assert (video.codec, video.pixel_format, video.frame_rate) == ("h264", "yuv420p", rate)
    assert frame_seconds(output) == [index / rate for index in range(frames)]


@one_loop
async def test_awkward_names(tmp_path: Path) -> None:
    folder = tmp_path / "a b'c%20é #1"
    folder.mkdir()
    scene = folder / "my 'scene' 50%#?.html"
    size = "width='160' height='90'"
    picture = f"<svg xmlns='http://www.w3.org/2000/svg' {size}><rect fill='red' {size}/></svg>"
    (folder / "é #%.svg").write_text(picture)
    scene.write_text("<style>body{margin:0}</style><img src='é%20%23%25.svg'>")
    result = await ar.render(scene, folder / "my 'film' 50%.mkv", small(frame_count=2, concurrency=2))
    assert pictures(result.output)[0][40, 40].tolist() == [255, 0, 0]
    assert result.warnings == ()


@one_loop
async def test_html_text_and_urls_are_scenes_too(tmp_path: Path) -> None:
    text = "<meta name=asyncrender content='width=64, height=48, fps=10, duration=0.3'><body bgcolor=#00ff00>"
    results = [await ar.render(ar.Html(text), tmp_path / "text.mkv", ar.RenderOptions(video=LOSSLESS))]
    with served(lambda request: html(request, text)) as url:
        results.append(await ar.render(url, tmp_path / "url.mkv", ar.RenderOptions(video=LOSSLESS)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "index.html").write_text(text)
    for name, scene in (("data", f"data:text/html,{quote(text)}"), ("folder", tmp_path / "folder")):
        results.append(await ar.render(scene, tmp_path / f"{name}.mkv", ar.RenderOptions(video=LOSSLESS)))
    for result in results:
        shown = pictures(result.output)
        assert (len(shown), shown[0].shape, shown[0][9, 9].tolist()) == (3, (48, 64, 3), [0, 255, 0])


@one_loop
async def test_two_renders_at_once_share_a_limiter(tmp_path: Path) -> None:
    limiter, most = anyio.CapacityLimiter(2), 0

    def look(progress: ar.Progress) -> None:
        nonlocal most
        most = max(most, int(limiter.borrowed_tokens))

    async with anyio.create_task_group() as tasks:
        for name in ("a", "b"):

            async def run(output: Path = tmp_path / f"{name}.mkv") -> None:
                options = small(concurrency=2)
                await ar.render(SCENES / "canvas.html", output, options, limiter=limiter, on_progress=look)

            tasks.start_soon(run)
    assert digests(tmp_path / "a.mkv") == digests(tmp_path / "b.mkv")
    assert 1 <= most <= 2


@one_loop
async def test_tracks_are_mixed_whatever_the_chunks(tmp_path: Path) -> None:
    tone = tmp_path / "tone.wav"
    make = "ffmpeg -v error -f lavfi -i sine=frequency=440:sample_rate=48000:duration=3 -c:a pcm_s16le"
    subprocess.run([*make.split(), str(tone)], check=True)
    tracks = (ar.AudioTrack(path=str(tone), volume=0.5, offset="0.2"),)
    sounds = []
    for concurrency in (1, 3):
        output = tmp_path / f"{concurrency}.mkv"
        audio = ar.AudioOptions(codec="pcm_s16le", tracks=tracks)
        await ar.render(SCENES / "css.html", output, small(concurrency=concurrency, frame_count=25, audio=audio))
        with av.open(str(output)) as film:
            sounds.append(np.concatenate([frame.to_ndarray().reshape(-1) for frame in film.decode(audio=0)]))
    assert np.array_equal(*sounds)
    left = sounds[0][::2].astype(float)
    assert len(left) == 48000
    assert not left[: 48 * 200].any()
    with av.open(str(tone)) as film:
        original = np.concatenate([frame.to_ndarray().reshape(-1) for frame in film.decode(audio=0)]).astype(float)
    assert np.abs(left[48 * 200 :] - original[: 48 * 800] / 2).max() <= 1


@one_loop
async def test_the_sound_of_a_film_keeps_its_place(tmp_path: Path) -> None:
    film, output = tmp_path / "late.mkv", tmp_path / "out.mkv"
    late = "-f lavfi -i color=s=64x64:d=1 -itsoffset 0.5 -f lavfi -i sine=d=0.5:r=48000 -c:a pcm_s16le"
    subprocess.run(["ffmpeg", "-v", "error", *late.split(), str(film)], check=True)
    places: tuple[dict[str, Any], ...] = ({}, {"seek": "0.3"}, {"seek": "0.7", "offset": "0.1"})
    tracks = tuple(ar.AudioTrack(path=str(film), **place) for place in places)
    options = small(audio=ar.AudioOptions(tracks=tracks))
    found = (await ar.resolve(SCENES / "css.html", output, options)).audio.tracks
    placed = [tuple(map(float, (track.offset, track.seek, track.duration or 0))) for track in found]
    assert placed == pytest.approx(np.array([(0.5, 0, 0.5), (0.2, 0, 0.5), (0.1, 0.2, 0.3)]), abs=0.002)


@one_loop
async def test_plan_chunks_assemble_is_render(tmp_path: Path) -> None:
    await ar.render(SCENES / "canvas.html", tmp_path / "render.mkv", small(concurrency=3))
    plan = ar.RenderOrchestrator.plan(SCENES / "canvas.html", tmp_path / "parts.mkv", small(concurrency=3))
    plan = ar.RenderPlan.model_validate_json(plan.model_dump_json())
    with pytest.raises(ar.ChunkDamaged, match="chunk 0, 1, 2"):
        await ar.assemble(plan)
    for chunk in (2, 0, 1):
        assert (await ar.render_chunk(plan, chunk)).attempts == 1
    assert (await ar.render_chunk(plan, 1)).attempts == 0
    result = await ar.assemble(plan)
    assert [chunk.attempts for chunk in result.chunks] == [0, 0, 0]
    assert digests(tmp_path / "parts.mkv") == digests(tmp_path / "render.mkv")
    assert left_in(tmp_path) == {"parts.mkv", "render.mkv"}


@one_loop
async def test_a_plan_goes_with_its_folder(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "scene.html").write_text((SCENES / "css.html").read_text())
    make = "ffmpeg -v error -f lavfi -i sine=duration=1 -c:a pcm_s16le"
    subprocess.run([*make.split(), str(here / "tone.wav")], check=True)
    options = small(frame_count=2, audio={"codec": "pcm_s16le", "tracks": [{"path": str(here / "tone.wav")}]})
    options = await ar.resolve(here / "scene.html", here / "out.mkv", options)
    plan = ar.RenderOrchestrator.plan(here / "scene.html", here / "out.mkv", options)
    await ar.render_chunk(plan, 0)
    here.rename(there)
    result = await ar.assemble(plan.model_copy(update={"base": str(there)}))
    assert (await ar.probe(result.output)).audio


@one_loop
async def test_events_end_with_exactly_one_terminal_event(tmp_path: Path) -> None:
    plan = ar.RenderOrchestrator.plan(SCENES / "css.html", tmp_path / "out.mkv", small())
    async with ar.open_render(plan) as job:
        events = [event async for event in job.events()]
        again = [event async for event in job.events()]
        result = await job.result()
    *progress, end = events
    assert end == ar.Finished(result)
    assert all(isinstance(event, ar.Progress) for event in progress)
    assert progress[-1].fraction == 1.0
    assert [type(event) for event in again] == [ar.Progress, ar.Finished]


@one_loop
async def test_resolved_options_say_what_was_found(tmp_path: Path) -> None:
    options = await ar.resolve(SCENES / "css.html", tmp_path / "out.mp4", ar.RenderOptions(duration=2))
    assert options.capture in ("raw", "beginframe", "screenshot")
    assert (options.width, options.height, options.fps, options.frame_count) == (1920, 1080, 30, 60)
    assert options.concurrency
    assert options.environment
    assert "Chrome" in options.environment.browser
    assert await ar.resolve(SCENES / "css.html", tmp_path / "out.mp4", options) == options


@one_loop
async def test_doctor_finds_what_these_tests_use() -> None:
    report = await ar.doctor()
    assert {check.name for check in report.checks} >= {"ffmpeg", "ffprobe", "browser", "capture"}
    assert report.ok


@one_loop
async def test_doctor_asks_the_tools_whether_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg = shutil.which("ffmpeg")
    scripts = {"ffprobe": "exit 1", "ffmpeg": f'{ffmpeg} "$@" | grep -v libx264'}
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    checks = {check.name: check for check in (await ar.doctor()).checks}
    assert [name for name, check in checks.items() if not check.ok] == ["ffprobe"]
    assert "without libx264, the default" in checks["encoders"].found
    with pytest.raises(ar.InvalidOption, match=r"built without that encoder; for \.mp4 it has libaom-av1, "):
        await ar.resolve(SCENES / "css.html", tmp_path / "out.mp4", ar.RenderOptions(frame_count=1))


@one_loop
async def test_doctor_says_whether_children_die_with_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def setpriv() -> ar.DoctorCheck:
        (check,) = [check for check in (await ar.doctor()).checks if check.name == "setpriv"]
        return check

    assert (await setpriv()).ok
    monkeypatch.setenv("PATH", f"{make_old_setpriv(tmp_path).parent}:{os.environ['PATH']}")
    check = await setpriv()
    assert not check.ok
    assert check.found == f"{tmp_path}/setpriv cannot set a parent-death signal: children outlive us if SIGKILL ends us"
