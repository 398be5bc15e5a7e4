"""What a film is: its pictures' times and pixels, and how ffmpeg hands them out raw. Pure: no look at the disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from asyncrender.errors import MediaError
from asyncrender.media import graphs
from asyncrender.media.packets import UNSTATED, sound_seconds

COARSEST_ROUNDING_SECONDS = Fraction(1, 2000)
"""Half a millisecond: Matroska's rounding. Coarser clocks (AVI) count whole frames, and round nothing."""

HIGH_DEFINITION_LINES = 720
"""Of those that do not say their matrix: from so many lines on Chromium takes BT.709, else BT.601 (measured)."""

FREE_CODECS = ("vp9", "av1")
"""But without a matrix Chromium always takes these for BT.601 (measured)."""

DEMUXERS = "aac,flac,matroska,webm,mov,mp4,mp3,ogg,wav"
"""What a browser plays. Play lists are not among them: they could name any file of the disk."""

UNROUNDED = ("mov", "matroska")
"""Containers (ffmpeg's names) whose time 0 is the player's; others begin at their first time stamp."""

MATRICES = {"bt709": "bt709", "smpte170m": "smpte170m", "bt470bg": "bt470bg", "bt2020nc": "bt2020-ncl", "gbr": "rgb"}
PRIMARIES = {name: name for name in ("bt709", "smpte170m", "bt470bg", "bt2020", "smpte432")}
TRANSFERS = {name: name for name in ("bt709", "smpte170m", "iec61966-2-1", "linear")} | {"smpte2084": "pq"}
"""ffmpeg's names to those of WebCodecs' VideoColorSpace (https://www.w3.org/TR/webcodecs/#videocolorspace)."""

HDR = ("smpte2084", "arib-std-b67")
"""Transfers (ffmpeg's names; PQ and HLG) that no VideoFrame of eight bits shows as they are meant."""

ONLY = ("-format_whitelist", DEMUXERS, "-protocol_whitelist", "file,pipe")

BOX_HEADER_BYTES = 8
"""Size and type of an MP4 box (ISO/IEC 14496-12, 4.2)."""

RAW_TAG = 0x20776172
"""The sample entry "raw ": ffmpeg's mov muxer has no name for most pixel formats, and we need none."""


@dataclass(frozen=True)
class Pixels:
    """A raw format under ffmpeg's name and under that of a WebCodecs VideoFrame. `planes`: (across, down, bytes)."""

    name: str
    web_name: str
    planes: tuple[tuple[int, int, int], ...]

    @property
    def full_range_name(self) -> str:
        """ffmpeg has no such name for what has alpha, and leaves its range as it is."""
        return self.name.replace("yuv4", "yuvj4")

    def frame_bytes(self, width: int, height: int) -> int:
        return sum(-(-width // across) * -(-height // down) * size for across, down, size in self.planes)


RGBA = Pixels("rgba", "RGBA", ((1, 1, 4),))
I420 = Pixels("yuv420p", "I420", ((1, 1, 1), (2, 2, 1), (2, 2, 1)))
I420A = Pixels("yuva420p", "I420A", (*I420.planes, (1, 1, 1)))
I422 = Pixels("yuv422p", "I422", ((1, 1, 1), (2, 1, 1), (2, 1, 1)))
I444 = Pixels("yuv444p", "I444", ((1, 1, 1),) * 3)


def raw_pixels(name: str, *, alpha: bool) -> Pixels:
    """What a film's pixels are handed out as: as they are where a VideoFrame can hold them, so that the browser
    converts their colours as it does those of its own decoders."""
    if alpha or name.startswith("yuva"):
        return I420A
    for start, pixels in (("yuv420", I420), ("yuvj420", I420), ("nv12", I420), ("nv21", I420), ("p010", I420)):
        if name.startswith(start):
            return pixels
    for start, pixels in (("yuv422", I422), ("yuvj422", I422), ("yuv444", I444), ("yuvj444", I444)):
        if name.startswith(start):
            return pixels
    return RGBA


@dataclass(frozen=True)
class Film:
    """A media file as the page's clock needs it. Times are ticks of `time_base`; sound alone has no pictures."""

    path: Path
    start: Fraction
    """Seconds: the earliest position, as in Chromium that of the first time stamp of all streams. Of sound alone, 0."""
    duration: Fraction
    """Seconds."""
    time_base: Fraction
    zero: int
    """The tick at which the film begins to play."""
    ticks: tuple[int, ...]
    """When each picture is shown, ascending."""
    keys: tuple[int, ...]
    """Of those, where decoding can begin."""
    times: tuple[float, ...]
    """Seconds from the beginning, what the container's clock had rounded put back on the grid."""
    rounding: Fraction
    """Seconds by which a picture may be stamped too late."""
    width: int
    height: int
    display_width: int
    display_height: int
    decoder: str | None
    """ffmpeg's decoder where its own choice would lose the transparency."""
    pixels: Pixels
    color: dict[str, Any] | None
    hdr: str | None
    """The transfer, if it is one of HDR: its colours come out wrong."""

    @property
    def frame_bytes(self) -> int:
        return self.pixels.frame_bytes(self.width, self.height)

    @property
    def conversion(self) -> str:
        """ffmpeg's filters to the raw pixels; the range of the values stays as it is."""
        if self.color and self.color["fullRange"]:
            return f"scale=in_range=pc:out_range=pc,format={self.pixels.full_range_name}"
        return f"format={self.pixels.name}"

    def describe(self) -> dict[str, Any]:
        """As media.js takes it; `format` and `color` are those of a WebCodecs VideoFrame."""
        return {
            "start": float(self.start),
            "duration": float(self.duration),
            "times": self.times,
            "epsilon": float(self.rounding) + 1e-6,
            "width": self.width,
            "height": self.height,
            "display_width": self.display_width,
            "display_height": self.display_height,
            "format": self.pixels.web_name,
            "bytes": self.frame_bytes,
            "color": self.color,
            "hdr": self.hdr,
        }


def decode_argv(film: Film, *, ffmpeg: str, seek_tick: int | None, first_tick: int) -> list[str]:
    """Raw pictures from `first_tick` on, each in an MP4 fragment that tells its time, on standard output.

    `seek_tick`: a key frame at or before it; None: from the beginning.
    """
    start = [] if seek_tick is None else ["-ss", graphs.decimal(float((seek_tick - film.zero) * film.time_base))]
    decoder = [] if film.decoder is None else ["-c:v", film.decoder]
    fragments = "frag_every_frame+empty_moov+default_base_moof+frag_discont"
    return [
        *(
            ffmpeg,
            *graphs.QUIET,
            *start,
            "-noaccurate_seek",
            "-copyts",
            *decoder,
            *ONLY,
            "-i",
            graphs.local(str(film.path)),
        ),
        *(
            "-map",
            "0:V:0",
            "-vf",
            rf"select=gte(pts\,{first_tick}),{film.conversion}",
            "-fps_mode",
            "passthrough",
            "-enc_time_base",  # else times are rounded to whole frames of the rate that ffmpeg thinks it is
            f"{film.time_base.numerator}:{film.time_base.denominator}",
        ),
        *("-c:v", "rawvideo", "-tag:v", str(RAW_TAG), "-avoid_negative_ts", "disabled"),
        *("-video_track_timescale", str(film.time_base.denominator), "-movflags", fragments, "-f", "mov", "pipe:1"),
    ]


class FragmentReader:
    """Collects bytes of a fragmented MP4, gives (time, sample): one sample in each fragment (ISO/IEC 14496-12, 8.8)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._time = 0

    def feed(self, data: bytes | memoryview) -> list[tuple[int, bytes]]:
        """The samples that are complete with these bytes. Times are in ticks of the track."""
        self._buffer += data
        samples = []
        while (end := self._end_of_first()) is not None:
            kind, box = self._buffer[4:8], bytes(memoryview(self._buffer)[BOX_HEADER_BYTES:end])
            if kind == b"moof":
                self._time = _fragment_time(box)
            elif kind == b"mdat":
                samples.append((self._time, box))
            del self._buffer[:end]
        return samples

    def _end_of_first(self) -> int | None:
        if len(self._buffer) < BOX_HEADER_BYTES:
            return None
        end = int.from_bytes(self._buffer[:4], "big")
        return end if len(self._buffer) >= end else None


def _fragment_time(box: bytes) -> int:
    """Of `tfdt`, the fragment's decode time: version 1 has 64 bits, signed in practice, for times before zero."""
    at = box.index(b"tfdt") + 4
    length = 8 if box[at] == 1 else 4
    return int.from_bytes(box[at + 4 : at + 4 + length], "big", signed=length == 8)


def make_film(
    path: Path, form: dict[str, Any], stream: dict[str, Any], packets: list[list[str]], *, pictures: bool
) -> Film:
    base = Fraction(stream["time_base"])
    kept = sorted(
        (int(pts if pts != "N/A" else dts), int(length) if length.isdigit() else 0, flags.startswith("K"))
        for pts, dts, length, flags, *_ in packets
        if "D" not in flags and (pts, dts) != ("N/A", "N/A")
    )
    if not kept:
        raise MediaError(f"{path} holds no packet that could be played")
    begins = Fraction(form.get("start_time", 0)) if form.get("start_time", "N/A") != "N/A" else Fraction(0)
    zero = 0 if re.search("|".join(UNROUNDED), form.get("format_name", "")) else round(begins / base)
    ticks = tuple(tick for tick, _, _ in kept)
    step = Fraction(ticks[-1] - ticks[0], len(ticks) - 1) if len(ticks) > 1 else Fraction(kept[-1][1])
    end = (ticks[-1] + (kept[-1][1] or step) - zero) * base
    said = Fraction(form["duration"]) if form.get("duration", "N/A") != "N/A" else Fraction(0)
    duration = end if abs(end - said) < Fraction(1, 500) or not said else max(said, end)
    if not pictures and form.get("format_name") in UNSTATED:
        duration = sound_seconds(packets, stream)
    grid = _grid(stream, ticks, base) if pictures else None
    times = [
        ((ticks[0] - zero) * base + number * grid) if grid else (tick - zero) * base
        for number, tick in enumerate(ticks)
    ]
    width, height = _size(stream) if pictures else (0, 0)
    aspect = 1 / _aspect(stream) if _is_turned(stream) else _aspect(stream)
    pixels = raw_pixels(stream.get("pix_fmt", ""), alpha=_is_transparent(stream))
    return Film(
        path=path,
        start=max(Fraction(0), begins) if pictures and not zero else Fraction(0),
        duration=duration,
        time_base=base,
        zero=zero,
        ticks=ticks,
        keys=tuple(tick for tick, _, key in kept if key),
        times=tuple(float(time) for time in times) if pictures else (),
        rounding=Fraction(0) if grid else min(base / 2, COARSEST_ROUNDING_SECONDS),
        width=width,
        height=height,
        display_width=round(width * max(Fraction(1), aspect)),
        display_height=round(height / min(Fraction(1), aspect)),
        decoder={"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream["codec_name"]) if _is_transparent(stream) else None,
        pixels=pixels,
        color=_color(stream, height) if pixels.web_name.startswith("I4") else None,
        hdr=stream["color_transfer"] if stream.get("color_transfer") in HDR else None,
    )


def _grid(stream: dict[str, Any], ticks: tuple[int, ...], base: Fraction) -> Fraction | None:
    """Seconds from picture to picture, exact, if their rate is constant but for the container's rounding."""
    for name in ("r_frame_rate", "avg_frame_rate"):
        above, _, below = str(stream.get(name, "0/0")).partition("/")
        rate = Fraction(int(above), int(below)) if below.isdigit() and int(below) else Fraction(0)
        if 0 < rate <= 1000 and len(ticks) > 1 and _is_even(ticks, 1 / rate / base):
            return 1 / rate
    return None


def _is_even(ticks: Sequence[int], step: Fraction) -> bool:
    """Whether every picture lies at most a tick off its place, never accumulating."""
    return all(abs(tick - ticks[0] - number * step) <= 1 for number, tick in enumerate(ticks))


def _size(stream: dict[str, Any]) -> tuple[int, int]:
    """Pixels, after the turn that ffmpeg makes by itself."""
    size = stream["width"], stream["height"]
    return (size[1], size[0]) if _is_turned(stream) else size


def _is_turned(stream: dict[str, Any]) -> bool:
    return any(abs(int(data.get("rotation", 0))) % 180 == 90 for data in stream.get("side_data_list", []))


def _aspect(stream: dict[str, Any]) -> Fraction:
    """Of one pixel, before any turn. The film is shown wider where it is more than 1, and higher where it is less."""
    above, _, below = str(stream.get("sample_aspect_ratio", "1:1")).partition(":")
    return (
        Fraction(int(above), int(below))
        if above.isdigit() and below.isdigit() and int(above) and int(below)
        else Fraction(1)
    )


def _is_transparent(stream: dict[str, Any]) -> bool:
    tags = {name.lower(): value for name, value in stream.get("tags", {}).items()}
    return tags.get("alpha_mode") == "1"


def _color(stream: dict[str, Any], height: int) -> dict[str, Any]:
    free = stream["codec_name"] in FREE_CODECS
    guess = "bt709" if height >= HIGH_DEFINITION_LINES and not free else "smpte170m"
    matrix = MATRICES.get(stream.get("color_space", ""), guess)
    return {
        "matrix": matrix,
        "primaries": PRIMARIES.get(stream.get("color_primaries", ""), "bt709"),
        "transfer": TRANSFERS.get(stream.get("color_transfer", ""), "bt709"),
        "fullRange": stream.get("color_range") == "pc",
    }
