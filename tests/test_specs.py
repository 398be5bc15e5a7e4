"""The models: what JSON may say, and that a plan can touch nothing but its own files."""

from __future__ import annotations

import json
import posixpath
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from asyncrender.plan import make_plan
from asyncrender.specs import AudioOptions, AudioTrack, Html, RenderOptions, RenderPlan, VideoOptions

WORK = ".out.mp4.asyncrender"
PLAN = json.loads(make_plan("scene.html", "out.mp4", RenderOptions(duration=1, concurrency=2)).model_dump_json())

HOSTILE_PATHS = [
    "/etc/passwd",
    "../secret",
    "chunk-00000.mov",
    "..",
    ".",
    "",
    "/",
    WORK,
    f"{WORK}/",
    f"{WORK}/..",
    f"{WORK}/../out.mp4",
    f"{WORK}/../../etc/passwd",
    f"{WORK}/deeper/chunk.mov",
    f"/{WORK}/chunk.mov",
    f"./{WORK}/../x",
    f"{WORK}\\..\\x",
    f"{WORK}/a\0b",
    ".other.mp4.asyncrender/chunk.mov",
    "~/x",
    "file:///etc/passwd",
]


def plan_with(**changes: Any) -> RenderPlan:
    return RenderPlan.model_validate_json(json.dumps({**PLAN, **changes}))


def plan_whose_chunk_goes_to(path: str) -> RenderPlan:
    first = {**PLAN["chunks"][0], "output_file": path}
    manifest = [path, *PLAN["concat_manifest"][1:]]
    return plan_with(chunks=[first, PLAN["chunks"][1]], concat_manifest=manifest)


# ---- nothing outside the work folder and the final output is written or deleted


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_a_plan_that_reaches_out_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="is not in the plan's work folder"):
        plan_whose_chunk_goes_to(path)
    with pytest.raises(ValidationError, match="is not in the plan's work folder"):
        plan_with(concat_output_file=path)
    with pytest.raises(ValidationError, match="is not in the plan's work folder"):
        plan_with(cleanup_files=[*PLAN["cleanup_files"], path])


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../out.mp4", "a/out.mp4", "..", ".", "", "/", "a\0b.mp4", "./.", "..."]
)
def test_the_final_output_is_a_plain_name(name: str) -> None:
    with pytest.raises(ValidationError, match="final_output_file"):
        plan_with(final_output_file=name)


@given(text=st.text(st.sampled_from("./\\~ab\0 "), max_size=12) | st.text(max_size=12), inside=st.booleans())
def test_whatever_a_plan_says_its_files_lie_in_its_folder(text: str, inside: bool) -> None:
    path = f"{WORK}/{text}" if inside else text
    try:
        plan = plan_with(cleanup_files=[path])
    except ValidationError:
        return
    for file in plan.cleanup_files:
        assert posixpath.dirname(posixpath.normpath(file)) == WORK
        assert "\0" not in file


@pytest.mark.parametrize(
    "change",
    [
        {"chunks": [], "concat_manifest": []},
        {"chunks": PLAN["chunks"][:1], "concat_manifest": PLAN["concat_manifest"][:1]},
        {"chunks": PLAN["chunks"][::-1], "concat_manifest": PLAN["concat_manifest"][::-1]},
        {"concat_manifest": PLAN["concat_manifest"][::-1]},
        {"total_frames": 29},
        {"total_frames": 0},
        {"schema_version": 2},
        {"options": {**PLAN["options"], "frame_count": 29}},
        {"composition_url": "a\0b"},
        {"chunks": [{**PLAN["chunks"][0], "frame_count": 14}, PLAN["chunks"][1]]},
        {"chunks": [{**PLAN["chunks"][0], "start_frame": 1}, PLAN["chunks"][1]]},
    ],
    ids=str,
)
def test_a_plan_with_a_hole_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        plan_with(**change)


# ---- the models travel


def test_the_plan_has_a_json_schema_with_the_fixed_vocabulary() -> None:
    schema = RenderPlan.model_json_schema()
    json.dumps(schema)
    fixed = {
        "total_frames",
        "chunks",
        "concat_manifest",
        "concat_output_file",
        "final_output_file",
        "mix_options",
        "cleanup_files",
        "schema_version",
        "fingerprint",
        "composition_url",
        "base",
    }
    assert fixed <= schema["properties"].keys()
    chunk = schema["$defs"]["RenderChunk"]["properties"]
    assert {"id", "start_frame", "frame_count", "output_file", "options"} <= chunk.keys()
    options = schema["$defs"]["RenderOptions"]["properties"]
    assert {
        "width",
        "height",
        "fps",
        "duration",
        "concurrency",
        "video",
        "audio",
        "browser",
        "timeouts",
    } <= options.keys()
    undescribed = [name for name, field in options.items() if "description" not in field and "$ref" not in field]
    assert set(undescribed) <= {"video", "audio", "browser", "timeouts"}


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RenderOptions(width=2).width = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "options", [{"widht": 2}, {"video": {"cfr": 2}}, {"audio": {"tracks": [{"path": "a", "vol": 1}]}}]
)
def test_a_misspelt_field_is_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        RenderOptions.model_validate(options)


@pytest.mark.parametrize("field", ["offset", "seek", "fade_in", "fade_out", "duration"])
@pytest.mark.parametrize("value", [-1, "-0.1", timedelta(seconds=-1), float("nan"), "1e99999"])
def test_times_of_a_track_are_finite_and_not_negative(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        AudioTrack.model_validate({"path": "a.mp3", field: value})


def test_props_are_text_that_can_be_written() -> None:
    for props in ({"a": "\ud800"}, {"\ud800": 1}):
        with pytest.raises(ValueError, match="no Unicode"):
            RenderOptions(props=props)


@pytest.mark.parametrize("bitrate", ["0", "0M", "٥M", "5m", "", "1" * 99])
def test_a_bitrate_is_a_number_of_bits(bitrate: str) -> None:
    for model in (VideoOptions, AudioOptions):
        with pytest.raises(ValidationError, match="bitrate"):
            model(bitrate=bitrate)


def test_html_is_text() -> None:
    assert Html("<h1>") == "<h1>"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_props_are_json(number: str) -> None:
    with pytest.raises(ValueError, match=r"NaN|finite"):
        RenderOptions.model_validate_json(f'{{"props": {{"a": [{number}]}}}}')
    with pytest.raises(ValueError, match=r"NaN|finite"):
        RenderOptions(props={"a": [float(number)]})
