"""Whether an image moves by itself; in doubt it does. Of all but GIFs only the first bytes are looked at. Pure.

Sources: the specifications of GIF89a (appendix B has the grammar), WebP (RIFF container), PNG (acTL, third edition) and
AVIF (image sequences).
"""

from __future__ import annotations

import re

STILL_TYPES = ("image/jpeg", "image/bmp", "image/x-icon", "image/vnd.microsoft.icon")
"""Media types that need no look. (Browsers find out what an image of an unknown type is, so such may move.)"""

SVG = re.compile(rb"\s*(\xef\xbb\xbf)?\s*<")
SVG_MOTION = re.compile(rb"<(\w+:)?(animate|set\b)|@keyframes\b", re.IGNORECASE)
"""SMIL (animate, animateTransform, …), CSS. Nothing else moves an image: no script runs there, and nobody hovers."""

HEAD_BYTES = 64
"""WebP and AVIF tell in their first boxes."""


GIF_HEAD_BYTES, GIF_PICTURE_HEAD_BYTES = 13, 10
"""The last byte but two of the one, and the last of the other, tell of a table of colours that follows."""

GIF_PICTURE, GIF_EXTENSION, GIF_END = 0x2C, 0x21, 0x3B


def moves(data: bytes) -> bool:
    """Whether it is an animation."""
    head = data[:HEAD_BYTES]
    if data.startswith(b"GIF8"):
        return not _is_one_picture(data)
    if data.startswith(b"RIFF"):
        return b"ANIM" in head
    if data.startswith(b"\x89PNG"):
        return b"acTL" in data[: max(0, data.find(b"IDAT"))]
    return b"avis" in head


def _is_one_picture(gif: bytes) -> bool:
    """Whether it ends after one picture, or before."""
    pictures = 0
    try:
        at = GIF_HEAD_BYTES + _gif_table_bytes(gif[10])
        while gif[at] != GIF_END:
            if gif[at] == GIF_PICTURE:
                pictures += 1
                at += GIF_PICTURE_HEAD_BYTES + _gif_table_bytes(gif[at + 9]) + 1
            elif gif[at] == GIF_EXTENSION:
                at += 2
            else:
                return False
            if pictures > 1:
                return False
            while gif[at]:  # blocks, each with its length before it
                at += 1 + gif[at]
            at += 1
    except IndexError:
        return False
    return True


def _gif_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def svg_moves(data: bytes) -> bool:
    """Whether it is an SVG image with an animation."""
    return bool(SVG.match(data) and SVG_MOTION.search(data))
