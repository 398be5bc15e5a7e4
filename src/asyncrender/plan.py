"""A spec becomes chunks: the planner. Pure: same inputs, same plan, byte for byte; it never looks at the machine.

Every rule that joins two fields stands here, so that a wrong option is refused before anything starts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import posixpath
import re
import urllib.parse
from collections.abc import Callable
from fractions import Fraction
from pathlib import PurePath, PurePosixPath
from typing import Any, TypeVar

from asyncrender import formats
from asyncrender.errors import InvalidOption, InvalidPlan, shortened
from asyncrender.specs import AudioOptions, Html, RenderChunk, RenderOptions, RenderPlan, VideoOptions

DEFAULT_WIDTH = 1920
DEFAULT_HEIGHT = 1080
DEFAULT_FPS = Fraction(30)

MOST_RAW_FPS = 240
"""Frames that the browser hands out are a millisecond apart at the least; some air is left for what lies between."""

MOST_PIXELS, SIZE_MARGIN = (2**31 - 1) // 8, 128
"""What ffmpeg takes (av_image_check_size2): so many pixels at the most, with a margin added to each side."""

FRAME_TOLERANCE = Fraction(1, 1_000_000)
"""Of a frame: a duration this close to a whole number of frames is that number (n/30 as a float is n frames)."""

SHOWN_CHARS = 60
"""Of a value in a sentence: props may be long."""

T = TypeVar("T")

MAX_CHUNKS = 100_000
"""More would spend longer on starting encoders than on frames; a mistyped chunk_frames, not a wish."""

DEFAULT_THREADS = 2
"""Of each encoder, where nobody has looked at a machine."""

NOT_IN_FINGERPRINT: dict[str, Any] = {
    "concurrency": True,
    "timeouts": True,
    "resume": True,
    "trace": True,
    "environment": {"notes", "capture_chosen"},
    "video": {"threads"},
}
"""Options that change how a render is run, not what comes out, and why they were chosen: for the memory then free.

The encoder's threads follow from the workers; what they change in the file nobody can see, and chunks fit together."""


def make_plan(scene: str | PurePath, output: str | PurePath, options: RenderOptions) -> RenderPlan:
    """Split a render into chunks, a concat and a mix.

    `scene` is a path, a URL or `Html`; `output` the video file. Unset options get the documented defaults, except the
    length: without `duration` and `frame_count` it raises. Raises InvalidOption for what cannot be rendered.
    """
    folder, name = split_output(output)
    whole = with_paths(
        complete(options, name), lambda number, path: _seen_from(folder, path, option=f"audio.tracks.{number}.path")
    )
    total = _given(whole.frame_count)
    ranges = split_frames(total, whole.concurrency or 1, whole.chunk_frames)
    return _join(scene_url(scene, folder), folder, name, whole, ranges)


def replan(plan: RenderPlan, resolved: RenderOptions) -> RenderPlan:
    """The same chunks with resolved options: what an executor makes of a plan whose options were not resolved."""
    whole = complete(resolved, plan.final_output_file)
    start = plan.options.start_frame
    ranges = [(chunk.start_frame - start, chunk.frame_count) for chunk in plan.chunks]
    return _join(plan.composition_url, plan.base, plan.final_output_file, whole, ranges)


def check_plan(plan: RenderPlan) -> None:
    """Raise InvalidPlan, or InvalidOption, if no planner makes such a plan: its parts would not make one film."""
    planned = replan(plan, plan.options)
    if (planned.concat_manifest, planned.concat_output_file) != (plan.concat_manifest, plan.concat_output_file):
        raise InvalidPlan("The plan's files do not have the names that a planner gives: each needs its own.")
    parts = {"options": (planned.options, plan.options)}
    for ours, theirs in zip(planned.chunks, plan.chunks, strict=True):
        parts[f"chunks.{ours.id}.options"] = (ours.options, theirs.options)
    for name, (wanted, found) in parts.items():
        if wanted != found and (changes := differences(wanted, found)):
            raise InvalidPlan(f"The plan was changed, and does not make one film any more: of {name}, {changes[0]}.")


def _join(url: str, folder: str, name: str, whole: RenderOptions, ranges: list[tuple[int, int]]) -> RenderPlan:
    whole = with_paths(whole, lambda _, path: _below(folder, path))
    work, muxer = f".{name}.asyncrender", formats.video_codec(whole.video.codec).chunk_muxer
    chunk_audio = whole.audio.model_copy(update={"codec": "pcm_s16le", "tracks": ()})
    chunk_whole = whole.model_copy(update={"audio": chunk_audio})
    chunks = []
    for index, (first, count) in enumerate(ranges):
        window: dict[str, Any] = {"start_frame": whole.start_frame + first, "frame_count": count}
        options = chunk_whole.model_copy(update=window)
        file = f"{work}/chunk-{index:05d}.{muxer}"
        chunks.append(RenderChunk.model_construct(id=index, output_file=file, options=options, **window))
    manifest = tuple(chunk.output_file for chunk in chunks)
    joined = f"{work}/concat.{muxer}"
    copied = whole.video.model_copy(update={"codec": "copy"})
    return RenderPlan(
        fingerprint=fingerprint(url if is_url(url) else posixpath.normpath(posixpath.join(folder, url)), whole),
        composition_url=url,
        base=folder,
        total_frames=_given(whole.frame_count),
        options=whole,
        chunks=tuple(chunks),
        concat_manifest=manifest,
        concat_output_file=joined,
        final_output_file=name,
        mix_options=whole.model_copy(update={"video": copied, "mix_input_audio": True}),
        cleanup_files=(*manifest, joined),
    )


def count_frames(duration: Fraction, fps: Fraction) -> int:
    """How many frames a duration holds: the nearest integer if within FRAME_TOLERANCE of it, else rounded up."""
    exact = duration * fps
    nearest = round(exact)
    return nearest if abs(exact - nearest) <= FRAME_TOLERANCE else math.ceil(exact)


def split_frames(total: int, concurrency: int, chunk_frames: int) -> list[tuple[int, int]]:
    """(first frame, frame count) of each chunk: contiguous, none empty, sizes differing by at most one."""
    count = min(total, max(concurrency, -(-total // chunk_frames)))
    if count > MAX_CHUNKS:
        allowed = f"{total} frames would become {count} chunks, at most {MAX_CHUNKS} are possible"
        raise InvalidOption("chunk_frames", chunk_frames, allowed)
    size, larger = divmod(total, count)
    return [(index * size + min(index, larger), size + (index < larger)) for index in range(count)]


def complete(options: RenderOptions, output_name: str) -> RenderOptions:
    """The options with every default written out. Raises InvalidOption where two options do not fit together."""
    fps = options.fps or DEFAULT_FPS
    start = options.start_frame
    total = _total_frames(options, fps)
    size = {"width": options.width or DEFAULT_WIDTH, "height": options.height or DEFAULT_HEIGHT}
    _check_trace(options.trace, output_name)
    video = _complete_video(options.video, output_name)
    steps = formats.chroma_step(_given(video.pixel_format))
    for (side, pixels), step in zip(size.items(), steps, strict=True):
        if pixels % step:
            allowed = f"{video.pixel_format} needs an even {side}; use {pixels + 1}, or a pixel format such as yuv444p"
            raise InvalidOption(side, pixels, allowed)
    tallest = MOST_PIXELS // (size["width"] + SIZE_MARGIN) - SIZE_MARGIN
    if size["height"] > tallest:
        raise InvalidOption("height", size["height"], f"ffmpeg takes {tallest} at the most, {size['width']} wide")
    if options.capture == "raw" and (unfit := unfit_for_raw(video, fps)):
        raise InvalidOption("capture", "raw", f"{unfit}; beginframe takes all")
    update = {
        **size,
        "fps": fps,
        "frame_count": total,
        "duration": options.duration if options.duration is not None else total / fps,
        "composition_duration": options.composition_duration or (start + total) / fps,
        "video": video,
        "audio": _complete_audio(options, output_name),
    }
    return options.model_copy(update=update)


def unfit_for_raw(video: VideoOptions, fps: Fraction) -> str | None:
    """Why such a film cannot be made of raw frames; None if it can."""
    if video.pixel_format != formats.RAW_FORMAT:
        return f"they are {formats.RAW_FORMAT}, and the film shall be {video.pixel_format}"
    if fps > MOST_RAW_FPS:
        return f"the browser hands out {MOST_RAW_FPS} a second, and the film shall have {float(fps):g}"
    return None


def _check_trace(trace: str | None, output_name: str) -> None:
    if trace is not None and (trace != posixpath.basename(trace) or trace in ("", ".", "..", output_name)):
        raise InvalidOption("trace", trace, "in a plan it is a plain file name, other than the output's, beside it")


def fingerprint(scene: str, options: RenderOptions) -> str:
    """Hash of the scene (its URL or path) and all that changes its frames or its file: SHA-256 of canonical JSON."""
    text = json.dumps([scene, _fingerprinted(options)], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(before: RenderOptions, now: RenderOptions) -> list[str]:
    """What makes the fingerprints of two options differ: "video.crf was 18, is 23"."""
    old, new = _flat(_fingerprinted(before)), _flat(_fingerprinted(now))
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return [f"{name} was {_shown(old.get(name))}, is {_shown(new.get(name))}" for name in names]


def _fingerprinted(options: RenderOptions) -> dict[str, Any]:
    return options.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested values by their dotted names."""
    if not isinstance(value, dict | list) or not value:
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    flat = [_flat(inner, f"{name}.{key}" if name else str(key)) for key, inner in items]
    return {key: inner for part in flat for key, inner in part.items()}


def _shown(value: Any) -> str:
    return shortened("unset" if value is None else str(value), SHOWN_CHARS)


def chunk_key(plan: RenderPlan, chunk: RenderChunk) -> str:
    """What a finished chunk must carry to be used again: the plan's fingerprint, the window, and its own options.

    Its scene, too: somebody may have changed that in the plan, and its fingerprint is taken as it comes.
    """
    made_of = f"{plan.fingerprint}:{chunk.start_frame}:{chunk.frame_count}:{plan.composition_url}"
    return fingerprint(made_of, chunk.options)


def split_output(output: str | PurePath) -> tuple[str, str]:
    """(folder, name) of the output. Raises InvalidOption if it does not name a file in a known container."""
    folder, name = posixpath.split(str(output))
    if not is_text(str(output)):
        raise InvalidOption("output", str(output), "its path has to be UTF-8, because a plan is JSON")
    formats.container(name)
    if not name.strip(".") or "\0" in name or name.startswith(".") or len(name.encode()) > 200:
        raise InvalidOption(
            "output", str(output), "a file name such as out.mp4, at most 200 bytes, without a leading dot"
        )
    return posixpath.normpath(folder or "."), name


def is_url(scene: str) -> bool:
    return scene.partition(":")[0].lower() in {"http", "https", "data"}


def is_text(value: str) -> bool:
    """Whether JSON can hold it. A file's name that is no UTF-8 has lone surrogates in Python."""
    return re.search("[\ud800-\udfff]", value) is None


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        return urllib.parse.urlsplit(url)
    except ValueError as error:
        raise InvalidOption("scene", _shown(url), f"it is no URL: {error}") from None


def page_text(url: str) -> bytes:
    """The HTML of a `data:text/html` URL. Raises InvalidOption."""
    head, _, body = url.partition(",")
    data = urllib.parse.unquote_to_bytes(body)
    try:
        return base64.b64decode(data) if head.endswith(";base64") else data
    except ValueError as error:
        raise InvalidOption("scene", _shown(url), f"it is not base64: {error}") from None


def scene_url(scene: str | PurePath, base: str) -> str:
    """The scene as a plan carries it: a URL, or a path relative to `base` where that can be said without looking."""
    if not is_text(str(scene)):
        raise InvalidOption("scene", str(scene), "it has to be UTF-8, because a plan is JSON")
    if isinstance(scene, Html):
        return "data:text/html;charset=utf-8;base64," + base64.b64encode(scene.encode()).decode()
    text = str(scene)
    if is_url(text):
        _split(text)
        return text
    if text.lower().startswith("file:"):
        parts = _split(text)
        if parts.query or parts.fragment:
            raise InvalidOption("scene", text, "a file's address without ? and #; the page gets values by props")
        text = urllib.parse.unquote(parts.path)
    if not text or "\0" in text:
        raise InvalidOption("scene", text, "a path, a URL, or asyncrender.Html('<h1>…')")
    return _seen_from(base, text, option="scene")


def _seen_from(base: str, text: str, *, option: str) -> str:
    """A path from the working folder as a plan carries it: relative to `base`, or absolute if it does not lie below."""
    path, folder = PurePosixPath(posixpath.normpath(text)), PurePosixPath(base)
    if path.is_absolute():
        return _below(base, text)
    if folder.is_absolute() or ".." in folder.parts:
        allowed = f"give an absolute path, because the output's folder {base!r} is not below the working folder"
        raise InvalidOption(option, text, allowed)
    return posixpath.normpath(posixpath.join(*[".."] * len(folder.parts), path)) if folder.parts else str(path)


def _below(base: str, text: str) -> str:
    path, folder = PurePosixPath(posixpath.normpath(text)), PurePosixPath(base)
    return str(path.relative_to(folder)) if path.is_absolute() and path.is_relative_to(folder) else str(path)


def with_paths(options: RenderOptions, change: Callable[[int, str], str]) -> RenderOptions:
    """The options with the tracks' paths changed: `change(number, path)`."""
    tracks = [
        track.model_copy(update={"path": change(number, track.path)})
        for number, track in enumerate(options.audio.tracks)
    ]
    return options.model_copy(update={"audio": options.audio.model_copy(update={"tracks": tuple(tracks)})})


def _total_frames(options: RenderOptions, fps: Fraction) -> int:
    if options.frame_count is not None:
        return options.frame_count
    if options.duration is None:
        allowed = 'give duration or frame_count, or let the page say it: <meta name="asyncrender" content="duration=6">'
        raise InvalidOption("duration", None, allowed)
    total = count_frames(options.duration, fps)
    if not 1 <= total <= 100_000_000:
        raise InvalidOption(
            "duration", str(options.duration), f"it is {total} frames at {fps} fps; 1 to 100000000 are possible"
        )
    return total


def _complete_video(video: VideoOptions, output_name: str) -> VideoOptions:
    codec, ending = formats.video_codec(video.codec), formats.container_name(output_name)
    if ending not in codec.containers:
        others = ", ".join(formats.video_codecs(ending))
        allowed = f"it goes into {', '.join('.' + c for c in codec.containers)}, and into .{ending} go {others}"
        raise InvalidOption("video.codec", video.codec, allowed)
    pixel_format = video.pixel_format or codec.pixel_formats[0]
    if pixel_format not in codec.pixel_formats:
        raise InvalidOption("video.pixel_format", pixel_format, f"{video.codec} takes {', '.join(codec.pixel_formats)}")
    if video.crf is not None and (codec.crf is None or video.crf > codec.crf_max):
        allowed = f"{video.codec} " + (f"takes 0 to {codec.crf_max:g}" if codec.crf is not None else "has no crf")
        raise InvalidOption("video.crf", video.crf, allowed)
    if video.crf is not None and video.bitrate is not None:
        raise InvalidOption("video.bitrate", video.bitrate, "give either crf or bitrate")
    if video.preset is not None and video.preset not in codec.presets:
        allowed = f"{video.codec} has " + (f"the presets {', '.join(codec.presets)}" if codec.presets else "no presets")
        raise InvalidOption("video.preset", video.preset, allowed)
    if video.bitrate is not None and not codec.bitrate:
        raise InvalidOption("video.bitrate", video.bitrate, f"{video.codec} has no bitrate setting")
    crf = codec.crf if video.crf is None and video.bitrate is None else video.crf
    threads = video.threads or DEFAULT_THREADS
    return video.model_copy(update={"pixel_format": pixel_format, "crf": crf, "threads": threads})


def _complete_audio(options: RenderOptions, output_name: str) -> AudioOptions:
    audio, holder = options.audio, formats.container(output_name)
    codec = audio.codec or holder.audio_codecs[0]
    if codec not in holder.audio_codecs:
        raise InvalidOption("audio.codec", codec, f"{holder.muxer} holds {', '.join(holder.audio_codecs)}")
    rates = formats.SAMPLE_RATES.get(codec)
    if rates is not None and audio.sample_rate not in rates:
        raise InvalidOption(
            "audio.sample_rate", audio.sample_rate, f"{codec} takes {', '.join(map(str, sorted(rates)))}"
        )
    return audio.model_copy(update={"codec": codec})


def _given(value: T | None) -> T:
    assert value is not None
    return value
