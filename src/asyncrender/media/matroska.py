"""Pictures on a pipe, with the times from which they are shown: as much of Matroska as ffmpeg needs for that. Pure.

A picture that stays is sent once; the time of the next one tells how long. The format: RFC 9559.
"""

from __future__ import annotations

import struct
from fractions import Fraction

TICKS_PER_SECOND = 1_000_000_000
"""Times are in nanoseconds, so that frames of any rate are told apart."""

IDENTIFIERS = {
    "EBML": "1A45DFA3",
    "DocType": "4282",
    "DocTypeVersion": "4287",
    "DocTypeReadVersion": "4285",
    "Info": "1549A966",
    "TimestampScale": "2AD7B1",
    "Tracks": "1654AE6B",
    "TrackEntry": "AE",
    "TrackNumber": "D7",
    "TrackUID": "73C5",
    "TrackType": "83",
    "DefaultDuration": "23E383",
    "CodecID": "86",
    "CodecPrivate": "63A2",
    "Video": "E0",
    "PixelWidth": "B0",
    "PixelHeight": "BA",
    "DisplayUnit": "54B2",
    "UncompressedFourCC": "2EB524",
    "Cluster": "1F43B675",
    "Timestamp": "E7",
    "SimpleBlock": "A3",
}

SEGMENT_WITHOUT_END = bytes.fromhex("18538067 01FFFFFFFFFFFFFF")

KEY_FRAME = bytes.fromhex("81 0000 80")
"""In front of a block's data: it is of track 1, at its cluster's time, and needs no other."""

VIDEO, UNKNOWN_UNIT = 1, 4


def head(size: tuple[int, int], fps: Fraction, *, raw: bool) -> bytes:
    """What comes before the first picture. Pictures of `size` (pixels) are I420 if they are `raw`, else PNGs."""
    width, height = size
    video = [_element("PixelWidth", width), _element("PixelHeight", height), _element("DisplayUnit", UNKNOWN_UNIT)]
    if raw:
        video.append(_element("UncompressedFourCC", b"I420"))
        codec = _element("CodecID", b"V_UNCOMPRESSED")
    else:
        codec = _element("CodecID", b"V_MS/VFW/FOURCC") + _element("CodecPrivate", _bitmap_header(size, b"MPNG"))
    number = [_element("TrackNumber", 1), _element("TrackUID", 1), _element("TrackType", VIDEO)]
    track = [*number, _element("DefaultDuration", _time(1, fps)), codec, _element("Video", *video)]
    kind = [_element("DocType", b"matroska"), _element("DocTypeVersion", 4), _element("DocTypeReadVersion", 2)]
    about = _element("Info", _element("TimestampScale", 1)) + _element("Tracks", _element("TrackEntry", *track))
    return _element("EBML", *kind) + SEGMENT_WITHOUT_END + about


def before(frame: int, fps: Fraction, picture_bytes: int) -> bytes:
    """What comes before the picture that is shown from a frame on."""
    block = _element("SimpleBlock", KEY_FRAME, to_come=picture_bytes)
    return _element("Cluster", _element("Timestamp", _time(frame, fps)), block, to_come=picture_bytes)


def _time(frame: int, fps: Fraction) -> int:
    numerator, denominator = fps.as_integer_ratio()
    return (2 * frame * TICKS_PER_SECOND * denominator + numerator) // (2 * numerator)


def _bitmap_header(size: tuple[int, int], codec: bytes) -> bytes:
    """A BITMAPINFOHEADER, by which Matroska names what it has no name for."""
    return struct.pack("<IiiHH4s5I", 40, *size, 1, 24, codec, 0, 0, 0, 0, 0)


def _element(name: str, *content: int | bytes, to_come: int = 0) -> bytes:
    """An element with its content, or the beginning of it: so many bytes are `to_come`."""
    data = b"".join(part if isinstance(part, bytes) else part.to_bytes(8, "big") for part in content)
    size = (1 << 56 | len(data) + to_come).to_bytes(8, "big")
    return bytes.fromhex(IDENTIFIERS[name]) + size + data
