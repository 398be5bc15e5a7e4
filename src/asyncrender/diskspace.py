"""Whether a film can fit on the disk, before it is made. It estimates; what the disk says later counts more."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

from asyncrender import formats
from asyncrender.errors import DiskFull
from asyncrender.log import get_logger
from asyncrender.specs import RenderPlan

COPIES = 3
"""The chunks, the joined chunks, the film: until it is in its place, all three lie there."""

_log = get_logger("asyncrender.diskspace")


def check_space(plan: RenderPlan, folder: Path, *, finished_frames: int = 0) -> tuple[str, ...]:
    """Raise DiskFull if the film surely finds no room in the folder; a warning if films of this kind usually do not.

    `finished_frames` lie there already, in chunks.
    """
    least, usual = estimate(plan, finished_frames=finished_frames)
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # the first write will say more
        return ()
    if free < least:
        raise DiskFull(f"{_megabytes(free)} are free in {folder}, and this film needs at least {_megabytes(least)}.")
    if free < usual:
        warning = (
            f"{_megabytes(free)} are free in {folder}; making such a film takes {_megabytes(usual)} more often than not"
        )
        _log.warning("the disk may become full", free_bytes=free, usual_bytes=usual, folder=str(folder))
        return (warning,)
    return ()


def estimate(plan: RenderPlan, *, finished_frames: int = 0) -> tuple[int, int]:
    """(least, usual) bytes that making the film still takes: of a black one, and of one that moves all over."""
    video = plan.options.video
    pixels = (plan.options.width or 0) * (plan.options.height or 0)
    codec = formats.video_codec(video.codec)
    frames = plan.total_frames * COPIES - finished_frames
    usual = frames * pixels * codec.usual_bits / 8
    if video.bitrate is not None:
        usual = float(frames / (plan.options.fps or 1)) * bits_per_second(video.bitrate) / 8
    return int(frames * (formats.LEAST_FRAME_BYTES + pixels * codec.least_bits / 8)), int(usual)


def bits_per_second(bitrate: str) -> Fraction:
    """Of "5M", "192k", "800000"."""
    number = Fraction(bitrate.rstrip("kM"))
    return number * {"k": 1000, "M": 1_000_000}.get(bitrate[-1], 1)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.3g} MB" if count < 1e9 else f"{count / 1e9:.3g} GB"
