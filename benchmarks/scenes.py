"""The pages that are measured. See scenes/README.md for what moves in each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).with_name("scenes")

SCENES = ("dom", "canvas", "webgl", "slides", "photo", "text", "mixed", "stateful")

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "4K": (3840, 2160)}

FPS = 30

PHOTO_OCTAVES = ((24, 14, 0.35), (96, 54, 0.25), (384, 216, 0.18), (960, 540, 0.12), (1920, 1080, 0.08))
"""(columns, rows, share) of the noise in the photo, from coarse to fine: no encoder finds it easy."""


def page(scene: str) -> Path:
    """The page's file; what it needs lies beside it."""
    if scene == "photo":
        make_photo(FOLDER / "photo.jpg")
    return FOLDER / f"{scene}.html"


def make_photo(file: Path) -> None:
    """A picture like a photograph, always the same, unless it is there."""
    if file.exists():
        return
    dice = np.random.default_rng(42)

    def noise(columns: int, rows: int, low: int, high: int) -> Image.Image:
        small = Image.fromarray(dice.integers(low, high, (rows, columns, 3), dtype=np.uint8))
        return small.resize((1920, 1080), Image.Resampling.BICUBIC)

    picture = noise(6, 4, 20, 235)
    for columns, rows, share in PHOTO_OCTAVES:
        picture = Image.blend(picture, noise(columns, rows, 0, 255), share)
    part = file.with_suffix(".part")
    picture.save(part, "JPEG", quality=92, subsampling=0)
    part.replace(file)
