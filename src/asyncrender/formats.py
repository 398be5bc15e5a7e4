"""Which encoder fits which container, and what each can take. Tables and look-ups, pure.

Sources: `ffmpeg -h encoder=NAME`, `ffmpeg -h muxer=NAME`, and the container specifications: WebM allows VP8, VP9, AV1
with Vorbis or Opus (webmproject.org/docs/container); ISO BMFF has no mapping for plain PCM that players read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from asyncrender.errors import InvalidOption

RAW_FORMAT = "yuv420p"
"""What Chromium hands out raw (I420)."""

YUV_8 = ("yuv420p", "yuv422p", "yuv444p")
YUV_10 = ("yuv420p10le", "yuv422p10le", "yuv444p10le")

X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
"""Of x265 too."""


@dataclass(frozen=True)
class VideoCodec:
    """One of ffmpeg's video encoders. `chunk_muxer` is an ffmpeg muxer that holds it, and PCM, on exact time bases."""

    containers: tuple[str, ...]
    pixel_formats: tuple[str, ...]
    chunk_muxer: str
    crf: float | None = None
    """Its default; None where the encoder has no constant rate factor."""
    crf_max: float = 63
    presets: tuple[str, ...] = ()
    """Empty where the encoder has none."""
    bitrate: bool = True
    tag: str | None = None
    """The sample entry players expect in mp4 and mov."""
    least_bits: float = 0.0
    """Per pixel, beside LEAST_FRAME_BYTES: what a black film takes (measured at 720p)."""
    usual_bits: float = 0.15
    """Per pixel, at the default crf: what films take that move all over, testsrc2 and mandelbrot (measured at 720p)."""


@dataclass(frozen=True)
class Container:
    """An output format. The first of `audio_codecs` is its default."""

    muxer: str
    audio_codecs: tuple[str, ...]


LEAST_FRAME_BYTES = 32
"""Of any codec, container included (measured: a black film)."""

VIDEO_CODECS = {
    "libx264": VideoCodec(("mp4", "mov", "mkv"), (*YUV_8, *YUV_10), "mov", crf=18, crf_max=51, presets=X264_PRESETS),
    "libx265": VideoCodec(
        ("mp4", "mov", "mkv"), (*YUV_8, *YUV_10), "mov", crf=20, crf_max=51, presets=X264_PRESETS, tag="hvc1"
    ),
    "prores_ks": VideoCodec(
        ("mov", "mkv"), ("yuv422p10le", "yuv444p10le"), "mov", bitrate=False, least_bits=0.07, usual_bits=2.5
    ),
    "libvpx": VideoCodec(("webm", "mkv"), ("yuv420p",), "nut", crf=24),
    "libvpx-vp9": VideoCodec(("webm", "mkv", "mp4"), ("yuv420p", "yuv444p"), "nut", crf=24),
    "libaom-av1": VideoCodec(("webm", "mkv", "mp4"), ("yuv420p", "yuv444p", "yuv420p10le"), "nut", crf=24),
    "libsvtav1": VideoCodec(
        ("webm", "mkv", "mp4"), ("yuv420p", "yuv420p10le"), "nut", crf=24, presets=tuple(map(str, range(14)))
    ),
    "ffv1": VideoCodec(("mkv",), (*YUV_8, *YUV_10, "bgr0"), "nut", bitrate=False, least_bits=0.004, usual_bits=1.5),
}

_ISO_AUDIO = ("aac", "libmp3lame", "alac", "libopus", "flac")
CONTAINERS = {
    "mp4": Container("mp4", _ISO_AUDIO),
    "mov": Container("mov", ("aac", "libmp3lame", "alac", "pcm_s16le")),
    "mkv": Container("matroska", ("aac", "libopus", "libvorbis", "flac", "libmp3lame", "pcm_s16le", "alac")),
    "webm": Container("webm", ("libopus", "libvorbis")),
}

_JPEG = ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj444p")
IMAGES = {"png": None, "jpg": _JPEG, "jpeg": _JPEG, "webp": ("-c:v", "libwebp", "-lossless", "1")}
"""Endings of an image, and how ffmpeg makes it of a PNG."""

MPEG_4_PART_14 = ("mp4", "mov")
"""Containers whose index can be moved to the front, and whose time scale can be set."""

OPUS_RATES = (8000, 12_000, 16_000, 24_000, 48_000)
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
AAC_RATES = (*MP3_RATES, 7350, 64_000, 88_200, 96_000)
SAMPLE_RATES = {"libopus": OPUS_RATES, "libmp3lame": MP3_RATES, "aac": AAC_RATES}
"""Encoders that know only some rates; the others take any (ffmpeg -h encoder=NAME)."""


def video_codec(name: str) -> VideoCodec:
    """The encoder of that name. Raises InvalidOption, listing those there are."""
    if name not in VIDEO_CODECS:
        raise InvalidOption("video.codec", name, f"choose one of {', '.join(sorted(VIDEO_CODECS))}")
    return VIDEO_CODECS[name]


def video_codecs(ending: str) -> list[str]:
    """The encoders whose films a container of that ending holds."""
    return sorted(name for name, codec in VIDEO_CODECS.items() if ending in codec.containers)


def container(output: str) -> Container:
    """The container an output's ending names. Raises InvalidOption, listing those there are."""
    return CONTAINERS[container_name(output)]


def container_name(output: str) -> str:
    return _ending(output, CONTAINERS)


def image(output: str) -> tuple[str, ...] | None:
    """How ffmpeg makes such an image of a PNG; None: it is one. Raises InvalidOption, listing the endings there are."""
    return IMAGES[_ending(output, IMAGES)]


def _ending(output: str, known: Iterable[str]) -> str:
    ending = output.rpartition(".")[2].lower() if "." in output else ""
    if ending not in known:
        raise InvalidOption("output", output, f"its name must end with one of {', '.join('.' + one for one in known)}")
    return ending


def chroma_step(pixel_format: str) -> tuple[int, int]:
    """What width and height must be multiples of: one chroma sample covers so many pixels."""
    if "420" in pixel_format:
        return 2, 2
    return (2, 1) if "422" in pixel_format else (1, 1)
