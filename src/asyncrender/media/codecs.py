"""A chunk's pictures become an ffmpeg command line: their colours, and what each encoder is told. Pure."""

from __future__ import annotations

from fractions import Fraction

from asyncrender import formats
from asyncrender.media import graphs
from asyncrender.specs import RenderOptions, VideoOptions

X265_FRAME_THREADS = 16
"""x265 takes no more (X265_MAX_FRAME_THREADS)."""

KEEP_GRAPH = ("-reinit_filter", "0")
"""Chromium's PNGs have alpha or not; where that changed, a picture was lost. `scale`, the first filter, takes both."""

TO_BT709 = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"

FROM_RAW = "colorspace=ispace=smpte170m:iprimaries=bt709:itrc=bt709:irange=tv:all=bt709:range=tv"
"""Chromium converts with the matrix of BT.601 (libyuv's ARGBToI420), whatever it says. A tenth of TO_BT709's time."""

UNBOUNDED = {
    "libvpx": ("-qmin", "0", "-b:v", "1000M", "-bufsize", "1000M"),
    "libvpx-vp9": ("-b:v", "0"),
    "libaom-av1": ("-b:v", "0"),
}
"""Without it they keep to their default bit rate and take crf for a lower bound. VP8 takes 0 for that default, too, and
no crf below 4 without qmin. White noise at 1080p60 does not reach its bound (measured); the usual buffer, of six
seconds, would not fit an int in bits."""


def encode_argv(options: RenderOptions, *, ffmpeg: str, muxer: str, output: str) -> list[str]:
    """Pictures on standard input (see `media.matroska`) become one chunk: a closed run of frames on an exact time base.

    `options` are complete (`plan.complete`); `muxer` is ffmpeg's name of the chunk's container.
    """
    video, fps = options.video, graphs.rate(options)
    return [
        *(ffmpeg, *graphs.QUIET, "-y", "-f", "matroska", "-fpsprobesize", "0", *KEEP_GRAPH, "-i", "pipe:0"),
        *("-map", "0:v:0", "-an", "-fps_mode", "cfr", "-r", graphs.decimal_or_ratio(fps)),
        *_picture(video, fps, FROM_RAW if options.capture == "raw" else TO_BT709),
        *("-c:v", video.codec, *_quality(video), *_codec_settings(video, key_interval(video, fps))),
        *_sample_entry(video.codec, muxer),
        *("-fflags", "+bitexact", "-flags:v", "+bitexact+cgop"),
        *graphs.time_scale_argv(muxer, fps, None),
        *("-f", muxer, graphs.local(output)),
    ]


def key_interval(video: VideoOptions, fps: Fraction) -> int:
    """Frames from one key frame to the next."""
    return max(1, round(Fraction(video.key_frame_seconds) * fps))


def _picture(video: VideoOptions, fps: Fraction, conversion: str) -> list[str]:
    """Each picture is converted once, and then repeated for as long as it is shown."""
    repeated = f"format={video.pixel_format},fps={graphs.decimal_or_ratio(fps)}"
    if video.pixel_format in graphs.RGB:
        return ["-vf", f"scale,{repeated}"]
    named = ":".join(f"{name}={value}" for name, value in graphs.TAGS.items())
    graph = f"{conversion},{repeated},setparams={named}:range=tv"
    return ["-vf", graph, *(word for name, value in graphs.tags(video).items() for word in (f"-{name}", value))]


def _quality(video: VideoOptions) -> list[str]:
    preset = ["-preset", video.preset] if video.preset is not None else []
    if video.bitrate is not None:
        return [*preset, "-b:v", video.bitrate]
    if video.crf is None:
        return preset
    return [*preset, "-crf", graphs.decimal(video.crf), *UNBOUNDED.get(video.codec, ())]


def _codec_settings(video: VideoOptions, interval: int) -> list[str]:
    """Closed groups of pictures, and every choice that would otherwise follow from the machine's core count."""
    assert video.threads is not None
    threads, group = str(video.threads), ["-g", str(interval)]
    match video.codec:
        case "libx264":
            closed = "scenecut=0:open-gop=0"
            return [*group, "-keyint_min", str(interval), "-x264-params", closed, "-threads", threads]
        case "libx265":
            frame_threads = min(video.threads, X265_FRAME_THREADS)
            closed = f"keyint={interval}:min-keyint={interval}:scenecut=0:open-gop=0"
            pool = f"pools={threads}:frame-threads={frame_threads}:log-level=error"
            return [*group, "-x265-params", f"{closed}:{pool}"]
        case "libvpx":  # its alternate references would be packets of their own, and the frames could not be counted
            return [*group, "-auto-alt-ref", "0", "-deadline", "good", "-cpu-used", "4", "-threads", threads]
        case "libvpx-vp9":
            return [*group, "-deadline", "good", "-cpu-used", "4", "-row-mt", "1", "-threads", threads]
        case "libaom-av1":
            return [*group, "-cpu-used", "6", "-row-mt", "1", "-threads", threads]
        case "libsvtav1":
            best = ":crf=0" if video.crf is not None and round(video.crf) == 0 else ""  # ffmpeg takes -crf 0 for unset
            return [*group, "-svtav1-params", f"lp={threads}{best}"]
        case "ffv1":
            return ["-g", "1", "-level", "3", "-slices", "4", "-slicecrc", "1", "-threads", threads]
        case _:
            return ["-threads", threads]


def _sample_entry(codec: str, muxer: str) -> list[str]:
    tag = formats.video_codec(codec).tag
    return ["-tag:v", tag] if tag is not None and muxer in formats.MPEG_4_PART_14 else []
