"""Pictures on a pipe, with the times from which they are shown: as much of Matroska as ffmpeg needs for that. Pure.

A picture that stays is sent once; the time of the next one tells how long. The format: RFC 9559.
"""

from __future__ import annotations

import struct
from fractions import Fraction

TICKS_PER_SECOND = 1_000_000_000
"""Times are in nanoseconds, so that frames of any rate are told apart."""

EBML = {"": "1A45DFA3", "DocType": "4282", "DocTypeVersion": "4287", "DocTypeReadVersion": "4285"}
INFO = {"": "1549A966", "TimestampScale": "2AD7B1"}
TRACKS = {"": "1654AE6B"}
TRACK = {"": "AE", "TrackNumber": "D7", "TrackUID": "73C5", "TrackType": "83", "DefaultDuration": "23E383"}
TRACK |= {"CodecID": "86", "CodecPrivate": "63A2"}
VIDEO = {"": "E0", "PixelWidth": "B0", "PixelHeight": "BA", "DisplayUnit": "54B2", "UncompressedFourCC": "2EB524"}
CLUSTER = {"": "1F43B675", "Timestamp": "E7"}
"""Masters and what stands in them, by their identifiers (RFC 9559, section 5)."""

SEGMENT_WITHOUT_END = bytes.fromhex("18538067 01FFFFFFFFFFFFFF")
SIMPLE_BLOCK = bytes.fromhex("A3")
KEY_FRAME_OF_TRACK_1 = bytes.fromhex("81 0000 80")
"""In front of a block's data: the track, the time after the cluster's, the flags."""

OF_VIDEO, UNKNOWN_UNIT = 1, 4

Value = int | bytes


def head(size: tuple[int, int], fps: Fraction, *, raw: bool) -> bytes:
    """What comes before the first picture. Pictures of `size` (pixels) are I420 if they are `raw`, else PNGs."""
    width, height = size
    video: dict[str, Value] = {"PixelWidth": width, "PixelHeight": height, "DisplayUnit": UNKNOWN_UNIT}
    codec: dict[str, Value]
    if raw:
        video["UncompressedFourCC"] = b"I420"
        codec = {"CodecID": b"V_UNCOMPRESSED"}
    else:
        codec = {"CodecID": b"V_MS/VFW/FOURCC", "CodecPrivate": _bitmap_header(size, b"MPNG")}
    track = {"TrackNumber": 1, "TrackUID": 1, "TrackType": OF_VIDEO, "DefaultDuration": _time(1, fps), **codec}
    return (
        _master(EBML, {"DocType": b"matroska", "DocTypeVersion": 4, "DocTypeReadVersion": 2})
        + SEGMENT_WITHOUT_END
        + _master(INFO, {"TimestampScale": 1})
        + _master(TRACKS, {}, _master(TRACK, track, _master(VIDEO, video)))
    )


def before(frame: int, fps: Fraction, picture_bytes: int) -> bytes:
    """What comes before the picture that is shown from a frame on."""
    block = SIMPLE_BLOCK + _length(len(KEY_FRAME_OF_TRACK_1) + picture_bytes) + KEY_FRAME_OF_TRACK_1
    return _master(CLUSTER, {"Timestamp": _time(frame, fps)}, block, more_bytes=picture_bytes)


def _time(frame: int, fps: Fraction) -> int:
    return round(frame * TICKS_PER_SECOND / fps)


def _bitmap_header(size: tuple[int, int], codec: bytes) -> bytes:
    """A BITMAPINFOHEADER, by which Matroska names what it has no name for."""
    return struct.pack("<IiiHH4s5I", 40, *size, 1, 24, codec, 0, 0, 0, 0, 0)


def _master(names: dict[str, str], values: dict[str, Value], inner: bytes = b"", more_bytes: int = 0) -> bytes:
    """An element that holds others: values, then `inner`, then `more_bytes` that the caller appends."""
    content = b"".join(_element(names[name], value) for name, value in values.items()) + inner
    return bytes.fromhex(names[""]) + _length(len(content) + more_bytes) + content


def _element(identifier: str, value: Value) -> bytes:
    data = value if isinstance(value, bytes) else value.to_bytes(8, "big")
    return bytes.fromhex(identifier) + _length(len(data)) + data


def _length(number: int) -> bytes:
    """As eight bytes."""
    return (1 << 56 | number).to_bytes(8, "big")
