"""What is typed becomes options, and errors about options speak of what was typed. Reads, shows nothing, ends nothing.

The table FLAGS is the one place that says which flag sets which option.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from asyncrender.errors import SHOWN_CHARS, AsyncRenderError, InvalidOption, InvalidPlan, shortened
from asyncrender.specs import AudioTrack, RenderOptions, RenderPlan

SHOWN_ERRORS = 5
"""Of a plan that does not validate: one wrong field can make a thousand chunks wrong."""

PLAN_FORM = "a plan as `asyncrender plan` prints it"

PICTURE, SOUND, PAGE, RUN = "Picture", "Sound", "Page", "Run"


@dataclass(frozen=True)
class Flag:
    """One flag of `render` and `plan`. `options` are the dotted options it sets; unset, it sets nothing."""

    names: tuple[str, ...]
    options: tuple[str, ...]
    type: Any
    panel: str
    help: str
    metavar: str | None = None

    @property
    def parameter(self) -> str:
        """Its name as a parameter of a Python function."""
        return self.options[0].replace(".", "_")


def _flag(names: str, options: str, kind: Any, about: tuple[str, str], metavar: str | None = None) -> Flag:
    return Flag(tuple(names.split()), tuple(options.split()), kind, *about, metavar)


TRACK_FORM = r"PATH\[@OFFSET]\[,NAME=VALUE…], names: volume fade_in fade_out seek duration;"
DEADLINES = "timeouts.load timeouts.ready timeouts.request timeouts.frame"

FLAGS = (
    _flag("--width", "width", str, (PICTURE, "Pixels; the page's own, else 1920."), "N"),
    _flag("--height", "height", str, (PICTURE, "Pixels; the page's own, else 1080."), "N"),
    _flag("--fps", "fps", str, (PICTURE, "Such as 30 or 30000/1001; the page's own, else 30."), "RATE"),
    _flag("--duration", "duration", str, (PICTURE, "Length; the page's own."), "SECONDS"),
    _flag("--frames", "frame_count", str, (PICTURE, "Length in frames, instead of --duration."), "N"),
    _flag("--start-frame", "start_frame", str, (PICTURE, "The first frame that is rendered; 0."), "N"),
    _flag("--codec", "video.codec", str, (PICTURE, "ffmpeg's name of the encoder; libx264."), "NAME"),
    _flag("--crf", "video.crf", str, (PICTURE, "Constant rate factor: less is better."), "N"),
    _flag("--bitrate", "video.bitrate", str, (PICTURE, "Such as 5M, instead of --crf."), "BITS"),
    _flag("--preset", "video.preset", str, (PICTURE, "The encoder's speed against size."), "NAME"),
    _flag("--pixel-format", "video.pixel_format", str, (PICTURE, "ffmpeg's name, such as yuv420p."), "NAME"),
    _flag("--audio", "audio.tracks", list[str], (SOUND, f"{TRACK_FORM} or JSON; repeatable"), "TRACK"),
    _flag("--audio-codec", "audio.codec", str, (SOUND, "ffmpeg's name; the container's usual one."), "NAME"),
    _flag("--muted", "audio.muted", bool, (SOUND, "Leave the sound out.")),
    _flag("--props", "props", str, (PAGE, "Data for the page: window.asyncrender.props."), "JSON|@FILE"),
    _flag("--seed", "seed", str, (PAGE, "Of the page's random numbers; 0."), "N"),
    _flag("--page-errors", "page_errors", str, (PAGE, "What an uncaught error does; fail."), "fail|warn"),
    _flag("--timeout", DEADLINES, str, (PAGE, "Deadline of load, readiness, a request, a frame."), "SECONDS"),
    _flag("--capture", "capture", str, (PAGE, "How frames leave: auto, raw, beginframe, screenshot."), "WAY"),
    _flag("--preroll", "preroll", str, (PAGE, "Live through earlier frames, or jump: auto, always, never."), "WHEN"),
    _flag("--browser", "browser.executable", str, (PAGE, "Which Chromium; $ASYNCRENDER_BROWSER."), "PATH"),
    _flag("--concurrency -j", "concurrency", str, (RUN, "Browsers at work at once; as the machine allows."), "N"),
    _flag("--chunk-frames", "chunk_frames", str, (RUN, "The most frames of one chunk; 900."), "N"),
    _flag("--trace", "trace", str, (RUN, "Write a Chrome trace, for ui.perfetto.dev."), "FILE"),
    _flag("--resume/--fresh", "resume", bool, (RUN, "Use finished chunks of an earlier run, or keep none.")),
)

STILL_FLAGS = tuple(f for f in FLAGS if f.panel == PAGE or f.parameter in ("width", "height", "fps", "duration"))
"""What concerns a single frame."""

FLAG_NAMES = {"scene": "SCENE", "output": "--output", "frame": "--frame"} | {
    option: f.names[0] for f in FLAGS for option in f.options
}
"""Each option's flag, so that errors speak to the user in the words of the command line."""


READERS: dict[str, Callable[[Any], Any]] = {
    "props": lambda text: read_props(text),
    "audio.tracks": lambda texts: [read_track(text) for text in texts],
}
"""Options whose flag has a syntax of its own."""


def read_options(values: Mapping[str, Any]) -> RenderOptions:
    """The options that the values of some FLAGS' parameters stand for. Raises InvalidOption, ValidationError."""
    data: dict[str, Any] = {}
    for flag in FLAGS:
        given = values.get(flag.parameter)
        if given is None or given == []:
            continue
        for option in flag.options:
            *group, field = option.split(".")
            place = data.setdefault(group[0], {}) if group else data
            place[field] = READERS.get(option, lambda value: value)(given)
    return RenderOptions.model_validate(data)


def read_track(text: str) -> dict[str, Any]:
    """The fields of one `--audio`: `music.mp3@1.5,volume=0.6`, or an AudioTrack as JSON. Raises InvalidOption."""
    form = 'PATH[@OFFSET][,NAME=VALUE…]; a path with @ or , goes as JSON: {"path": "…"}'
    if text.lstrip().startswith("{"):
        fields = _read_object("audio.tracks", text, source=text)
    else:
        head, *settings = text.split(",")
        path, at, offset = head.rpartition("@") if "@" in head else (head, "", "")
        fields = {"path": path, **({"offset": offset} if at else {})}
        if at and not re.fullmatch(r"[\d./]+", offset):
            raise InvalidOption("audio.tracks", text, f"{offset!r} is not a time in seconds; write {form}")
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not equals or name.strip() in fields:
                raise InvalidOption("audio.tracks", text, f"{setting!r} is not NAME=VALUE, once each; write {form}")
            fields[name.strip()] = value.strip()
    if unknown := fields.keys() - AudioTrack.model_fields.keys():
        known = ", ".join(AudioTrack.model_fields)
        raise InvalidOption("audio.tracks", text, f"{min(unknown)!r} is unknown; a track has {known}")
    return fields


def read_props(text: str) -> dict[str, Any]:
    """The object that `--props` gives: JSON, or `@FILE` with JSON in it. Raises InvalidOption."""
    if not text.startswith("@"):
        return _read_object("props", text, source=text)
    try:
        return _read_object("props", Path(text[1:]).read_bytes(), source=text)
    except OSError as error:
        raise InvalidOption("props", text, f"the file cannot be read: {error.strerror}") from None


def _read_object(option: str, data: str | bytes, *, source: str) -> dict[str, Any]:
    try:
        value = from_json(os.fsencode(data), allow_inf_nan=False)
    except ValueError as error:
        raise InvalidOption(option, source, f"it must be a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise InvalidOption(option, source, 'it must be a JSON object, such as {"title": "Hello"}')
    return value


def read_plan(text: bytes, *, source: str, base: Path | None) -> RenderPlan:
    """A plan, rebased if `base` is given. `source` is what an error calls it. Raises InvalidPlan."""
    try:
        plan = RenderPlan.model_validate_json(text)
    except ValidationError as error:
        raise InvalidPlan(f"{source} is not {PLAN_FORM}: {_why_invalid(error)}") from None
    return plan if base is None else plan.model_copy(update={"base": str(base.absolute())})


def _why_invalid(error: ValidationError) -> str:
    found = error.errors(include_url=False)
    reasons = [
        f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg'].removeprefix('Value error, ')}" for item in found
    ]
    more = f"; and {len(found) - SHOWN_ERRORS} more" if len(found) > SHOWN_ERRORS else ""
    return "; ".join(reasons[:SHOWN_ERRORS]) + more + "."


def flag_name(option: str) -> str:
    """What the command line calls an option: `video.crf` is --crf, `audio.tracks.0.volume` is "--audio volume"."""
    name = re.sub(r"\.\d+|\[\d+\]", "", option)
    parent, _, field = name.rpartition(".")
    return FLAG_NAMES.get(name) or (f"{FLAG_NAMES[parent]} {field}" if parent in FLAG_NAMES else name)


def explain(error: BaseException) -> tuple[str, int]:
    """An error as one paragraph, and the exit code it asks for."""
    match error:
        case InvalidOption():
            return _refusal(error.option, error.value, error.allowed), error.exit_code
        case AsyncRenderError():
            return _in_flags(str(error)), error.exit_code
        case ValidationError():
            refusals = [
                _refusal(".".join(map(str, item["loc"])), item["input"], item["msg"].removeprefix("Value error, "))
                for item in error.errors(include_url=False)
            ]
            return " ".join(dict.fromkeys(refusals)), InvalidOption.exit_code
    what = "".join(traceback.format_exception_only(error)).strip()
    return f"{what}. That was not expected; run with --debug to see where it comes from.", 1


def _refusal(option: str, value: object, allowed: str) -> str:
    shown = shortened(str(value) if re.fullmatch(r"[-+.\w]+", str(value)) else repr(value), SHOWN_CHARS)
    given = "is missing" if value is None else f"{shown} is not possible"
    return f"{flag_name(option)} {given}: {_in_flags(allowed).rstrip('.')}."


def _in_flags(text: str) -> str:
    """The library's advice names options; the command line's names flags."""
    text = text.replace("page_errors='warn'", "--page-errors warn")
    return re.sub(r"\btimeouts\.(load|ready|request|frame)\b", "--timeout", text)
