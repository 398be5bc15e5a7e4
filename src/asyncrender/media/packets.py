"""How long sound is by its packets, where its container does not say it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

UNSTATED = frozenset({"aac", "flac", "mp3", "ogg"})
"""Containers (ffmpeg's names) whose header may not say how long they are: ffprobe then guesses by the bit rate of the
first packets, takes the last of several chained streams for the whole (RFC 3533, 4), or says nothing."""

ENTRIES = "packet=pts,dts,duration,flags"
"""What ffprobe shall say of each packet: it comes in this order."""


def sound_seconds(packets: Sequence[Sequence[str]], time_base: Fraction) -> Fraction:
    """From the first sample at or after zero to the end of the last packet; chained streams follow each other.

    `packets` have `ENTRIES`, in the file's order.
    """
    done = begin = end = 0
    before: int | None = None
    for pts, dts, length, flags, *_ in packets:
        if "D" in flags or (pts, dts) == ("N/A", "N/A"):
            continue
        time = int(pts if pts != "N/A" else dts)
        if before is None or time < before:  # a stream begins
            done, begin = done + end - begin, max(0, time)
            end = begin
        before, end = time, max(end, time + (int(length) if length.isdigit() else 0))
    return (done + end - begin) * time_base
