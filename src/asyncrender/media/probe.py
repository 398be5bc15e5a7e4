"""What a media file is, and what the tools can do: ffprobe's answers as models. This room changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainSerializer

from asyncrender import process
from asyncrender.errors import ChunkDamaged, InvalidOption, MediaError, MissingTool, ToolFailed
from asyncrender.files import is_file
from asyncrender.media import graphs, packets
from asyncrender.specs import Model, Rate, write_fraction
from asyncrender.threads import in_thread

IDLE_SECONDS = 60.0
"""ffprobe reads a header in milliseconds; a minute is a dead disk or network."""

NEWEST = (1000, 0)
"""Release of a version such as N-112233-gabcdef: built from the newest sources."""

LEAST_FFMPEG = (5, 1)
"""The first release that knows -fps_mode and -ch_layout."""

DEADLINE = "probe's idle_seconds"

SHOWN_BYTES = 200
"""Of what ffprobe said, if that is nothing we know: it may be any program of that name."""

Time = Annotated[Fraction, PlainSerializer(write_fraction)]


class VideoStream(Model):
    """A stream of pictures."""

    codec: str
    """ffmpeg's name of the codec: h264, hevc, vp9."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    pixel_format: str | None
    """ffmpeg's pixel format, such as yuv420p."""
    frame_rate: Rate | None
    """Frames per second, exact; the average where it varies."""
    frames: int | None
    """How many; None where the container does not say and they were not counted."""
    constant_frame_rate: bool | None
    """The frames are evenly spaced, within one tick of the container's clock. None: they were not counted."""
    time_base: Time
    """Seconds of one tick of the stream's clock."""
    start_time: float | None
    """Seconds."""
    duration: float | None
    """Seconds."""
    color_space: str | None
    """The matrix from RGB, such as bt709."""
    color_range: str | None
    """tv (16-235) or pc (0-255)."""


class AudioStream(Model):
    """A stream of sound."""

    codec: str
    """ffmpeg's name of the codec: aac, opus, pcm_s16le."""
    sample_rate: int
    """Samples per second and channel."""
    channels: int
    start_time: float | None
    """Seconds."""
    duration: float | None
    """Seconds."""


class MediaInfo(Model):
    """What `probe` found in a file."""

    container: str
    """ffmpeg's name of the format; several where they are told apart by more than the content: "mov,mp4,m4a"."""
    duration: float | None
    """Seconds, of the longest stream."""
    start_time: float | None
    """Seconds, of the earliest stream."""
    size: int
    """Bytes."""
    bit_rate: int | None
    """Bits per second, all streams together."""
    video: tuple[VideoStream, ...]
    audio: tuple[AudioStream, ...]


async def probe(
    path: str | PathLike[str], *, count_frames: bool = False, idle_seconds: float = IDLE_SECONDS
) -> MediaInfo:
    """What a media file is. `count_frames` reads it whole: exact `frames` and `constant_frame_rate` of the first video.

    Sound in a file that does not say how long it is (`packets.are_needed`) is read whole, too.
    Raises InvalidOption if there is no such file, MediaError with ffprobe's last words if it is none that ffprobe
    knows, ToolStalled after `idle_seconds` without a sign of life, MissingTool.
    """
    file = fspath(path)
    if not await in_thread(lambda: is_file(Path(file))):
        raise InvalidOption("path", file, "there is no such file")
    form, streams = await _describe(file, idle_seconds)
    sound = next((stream for stream in streams if stream.get("codec_type") == "audio"), None)
    if sound is not None and packets.are_needed(form, sound):
        await _count_sound(file, form, streams, sound, idle_seconds)
    video = [_video(stream) for stream in streams if stream.get("codec_type") == "video" and stream.get("width")]
    if count_frames and video:
        video[0] = _counted(video[0], await frame_times(file, idle_seconds=idle_seconds))
    return MediaInfo(
        container=form["format_name"],
        duration=_number(form, "duration"),
        start_time=_number(form, "start_time"),
        size=int(form["size"]),
        bit_rate=int(form["bit_rate"]) if "bit_rate" in form else None,
        video=tuple(video),
        audio=tuple(_audio(stream) for stream in streams if stream.get("codec_type") == "audio"),
    )


async def tool_version(ffmpeg: str) -> str:
    """A tool's version as it says it: "5.1.9-0+deb12u1", "n7.1", "N-112233-gabcdef"."""
    words = (await _ask(ffmpeg, "-version")).split()
    if len(words) < 3 or words[1] != "version":
        raise MediaError(f"{ffmpeg} does not say its version: {' '.join(words[:20])!r}")
    return words[2]


async def fit_version(ffmpeg: str) -> str:
    """As `tool_version`; raises MissingTool for an ffmpeg that is too old to render with."""
    version = await tool_version(ffmpeg)
    if release(version) < LEAST_FFMPEG:
        least = f"ffmpeg {'.'.join(map(str, LEAST_FFMPEG))} or later"
        raise MissingTool(least, install="sudo apt-get install ffmpeg", looked=f"{ffmpeg} is {version}")
    return version


def release(version: str) -> tuple[int, int]:
    """(5, 1) of "5.1.9-0+deb12u1" and "n5.1"; NEWEST for a build that is no release."""
    number = re.match(r"n?(\d+)\.(\d+)", version)
    return (int(number[1]), int(number[2])) if number else NEWEST


async def encoders(ffmpeg: str) -> frozenset[str]:
    """Names of the encoders that this ffmpeg was built with."""
    return frozenset(re.findall(r"^ [VAS][A-Z.]{5} (\w\S*)", await _ask(ffmpeg, "-encoders"), re.MULTILINE))


async def frame_times(path: str | PathLike[str], *, idle_seconds: float = IDLE_SECONDS) -> list[int]:
    """Each frame's time in ticks of the first video stream, ascending; reads the whole file. Raises as `probe` does.

    What the container's edit list cuts away is no frame.
    """
    return (await _clock_and_times(fspath(path), idle_seconds))[1]


async def _clock_and_times(file: str, idle_seconds: float) -> tuple[Fraction | None, list[int]]:
    """(seconds of a tick, `frame_times`) in one look, for each costs ffprobe's start; no tick where no stream is."""
    wanted = ("-select_streams", "v:0", "-show_entries", "stream=time_base:packet=pts,dts,flags", "-of", "csv")
    lines = (await _ffprobe(file, *wanted, idle_seconds=idle_seconds)).decode().split()
    rows = [line.split(",") for line in lines]
    packets = [row[1:] for row in rows if row[0] == "packet"]
    tick = next((Fraction(row[1]) for row in rows if row[0] == "stream"), None)
    return tick, sorted(int(pts if pts != "N/A" else dts) for pts, dts, flags, *_ in packets if "D" not in flags)


def on_grid(times: Sequence[int], ticks: Fraction, *, tolerance: int) -> bool:
    """Whether every frame lies at most `tolerance` ticks off its place, one every `ticks`: never accumulating."""
    above, below = ticks.as_integer_ratio()  # of whole numbers, for a film has many frames
    most = tolerance * below
    return all(-most <= (time - times[0]) * below - index * above <= most for index, time in enumerate(times))


async def check_frames(
    path: str | PathLike[str], fps: Fraction, *, frames: int, tolerance: int, idle_seconds: float
) -> None:
    """Raises ChunkDamaged unless the file holds so many frames, each at most `tolerance` ticks off its place.

    MediaError if it cannot be read at all.
    """
    tick, times = await _clock_and_times(fspath(path), idle_seconds)
    if tick is None or len(times) != frames:
        raise ChunkDamaged(f"{fspath(path)} holds {len(times)} frames instead of {frames}.")
    if not on_grid(times, 1 / (fps * tick), tolerance=tolerance):
        raise ChunkDamaged(f"The frames of {fspath(path)} are not evenly spaced at {fps} frames per second.")


async def _ask(tool: str, question: str) -> str:
    doing = f"asking {tool} for {question}"
    said = await process.run(
        [tool, "-hide_banner", question], doing=doing, idle_seconds=IDLE_SECONDS, deadline=DEADLINE
    )
    return said.decode(errors="replace")


async def _ffprobe(file: str, *arguments: str, idle_seconds: float) -> bytes:
    tool = process.find_tool("ffprobe", package="ffmpeg")
    argv = [tool, "-hide_banner", "-loglevel", "error", *arguments, graphs.local(file)]
    try:
        return await process.run(argv, doing=f"reading {file}", idle_seconds=idle_seconds, deadline=DEADLINE)
    except ToolFailed as error:
        if error.returncode < 0:
            raise
        raise MediaError(f"{file} cannot be read as a media file. ffprobe's last words: {error.stderr}") from error


async def _describe(file: str, idle_seconds: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the file, its streams) in ffprobe's words. Raises MediaError if those are none."""
    said = await _ffprobe(file, "-of", "json", "-show_format", "-show_streams", idle_seconds=idle_seconds)
    try:
        found = json.loads(said)
        return found["format"], found.get("streams", [])
    except (ValueError, KeyError, TypeError):
        shown = said[:SHOWN_BYTES].decode(errors="replace")
        raise MediaError(f"reading {file}: ffprobe does not say what it is, but {shown!r}.") from None


async def _count_sound(
    file: str, form: dict[str, Any], streams: list[dict[str, Any]], sound: dict[str, Any], idle_seconds: float
) -> None:
    """Put down how long the sound is, and with it the file, unless that is a film. (A cover is no film.)"""
    wanted = ("-select_streams", str(sound["index"]), "-show_entries", packets.ENTRIES, "-of", "csv=p=0")
    lines = (await _ffprobe(file, *wanted, idle_seconds=idle_seconds)).decode().split()
    seconds = packets.sound_seconds([line.split(",") for line in lines], sound)
    sound["duration"] = round(float(seconds), 6)
    if not any(one.get("width") and not one["disposition"]["attached_pic"] for one in streams):
        form["duration"] = sound["duration"]


def _counted(video: VideoStream, times: list[int]) -> VideoStream:
    ticks = Fraction(times[-1] - times[0], len(times) - 1) if len(times) > 1 else Fraction(0)
    return video.model_copy(update={"frames": len(times), "constant_frame_rate": on_grid(times, ticks, tolerance=1)})


def _video(stream: dict[str, Any]) -> VideoStream:
    rate = _ratio(stream.get("avg_frame_rate")) or _ratio(stream.get("r_frame_rate"))
    return VideoStream(
        codec=stream.get("codec_name", "unknown"),
        width=stream["width"],
        height=stream["height"],
        pixel_format=stream.get("pix_fmt"),
        frame_rate=rate,
        frames=int(stream["nb_frames"]) if "nb_frames" in stream else None,
        constant_frame_rate=None,
        time_base=Fraction(stream["time_base"]),
        start_time=_number(stream, "start_time"),
        duration=_duration(stream),
        color_space=stream.get("color_space"),
        color_range=stream.get("color_range"),
    )


def _audio(stream: dict[str, Any]) -> AudioStream:
    return AudioStream(
        codec=stream.get("codec_name", "unknown"),
        sample_rate=int(stream.get("sample_rate", 0)),
        channels=stream.get("channels", 0),
        start_time=_number(stream, "start_time"),
        duration=_duration(stream),
    )


def _number(entry: dict[str, Any], name: str) -> float | None:
    return float(entry[name]) if name in entry else None


def _duration(stream: dict[str, Any]) -> float | None:
    """Matroska has it in a tag alone, such as 00:00:03.344000000, and counts the encoder's delay in."""
    parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.get("tags", {}).get("DURATION", ""))
    if "duration" in stream or parts is None:
        return _number(stream, "duration")
    return round(int(parts[1]) * 3600 + int(parts[2]) * 60 + float(parts[3]) - _delay(stream), 6)


def _delay(stream: dict[str, Any]) -> float:
    """Seconds that the encoder put before the first sample; ffprobe 5 says it by a negative time alone."""
    if "initial_padding" in stream:
        return int(stream["initial_padding"]) / int(stream["sample_rate"])
    return max(0.0, -(_number(stream, "start_time") or 0)) if stream.get("codec_name") == "opus" else 0.0


def _ratio(text: str | None) -> Fraction | None:
    """Of ffprobe's "30000/1001"; None where it says "0/0", or a rate that no film has."""
    above, _, below = (text or "0/0").partition("/")
    if not below.isdigit() or not int(below) or not 0 < Fraction(int(above), int(below)) <= 1000:
        return None
    return Fraction(int(above), int(below))
