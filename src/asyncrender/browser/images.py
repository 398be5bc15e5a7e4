"""Whether an image moves by itself. Only its first bytes are looked at; in doubt it does. Pure.

Sources: the specifications of GIF89a, WebP (RIFF container), PNG (acTL, third edition) and AVIF (image sequences).
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


def moves(data: bytes) -> bool:
    """Whether it is an animation. Every GIF counts as one: what it is shows only in its last byte."""
    head = data[:HEAD_BYTES]
    if data.startswith(b"GIF8"):
        return True
    if data.startswith(b"RIFF"):
        return b"ANIM" in head
    if data.startswith(b"\x89PNG"):
        return b"acTL" in data[: max(0, data.find(b"IDAT"))]
    return b"avis" in head


def svg_moves(data: bytes) -> bool:
    """Whether it is an SVG image with an animation."""
    return bool(SVG.match(data) and SVG_MOTION.search(data))
