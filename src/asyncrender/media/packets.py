"""How long sound is by its packets, where its container does not say it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

UNSTATED = frozenset({"aac", "flac", "mp3", "mpegts", "ogg"})
"""Containers (ffmpeg's names) whose header may not say how long they are: ffprobe then guesses by the bit rate of the
first packets, takes the last of several chained streams for the whole (RFC 3533, 4), takes the time at which the last
packet begins (of MPEG-TS, where one may hold a quarter of a second), or says nothing."""

ENTRIES = "packet=pts,dts,duration,flags:packet_side_data=skip_samples,discard_padding"
"""What ffprobe shall say of each packet: it comes in this order."""


def are_needed(form: Mapping[str, Any], sound: Mapping[str, Any]) -> bool:
    """Whether only the packets say how long a file's sound is; `form` and `sound` are ffprobe's.

    A live recording, as a browser's MediaRecorder makes them, says nothing; a Matroska film whose sound begins late
    tells its end alone.
    """
    late = float(sound.get("start_time", 0)) > float(form.get("start_time", 0))
    unsaid = "duration" not in form or (late and "duration" not in sound)
    return unsaid or form["format_name"] in UNSTATED


def sound_seconds(packets: Sequence[Sequence[str]], stream: Mapping[str, Any]) -> Fraction:
    """From the first sample at or after zero to the end of the last packet; chained streams follow each other.

    `packets` have `ENTRIES`, in the file's order; `stream` is ffprobe's. Decoders leave out what an MP3's encoder added
    at both ends. (In Ogg the packets are that much shorter.)
    """
    trims = [int(number) for packet in packets for number in packet[4:] if number.isdigit()]
    added = Fraction(sum(trims), int(stream["sample_rate"])) if stream["codec_name"] == "mp3" else 0
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
    return (done + end - begin) * Fraction(stream["time_base"]) - added
