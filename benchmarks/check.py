"""Whether a film shows what it should: every frame of it, in its place. No record is made of blank frames.

The reference is our own render by the slowest and plainest path: screenshots, one worker, a lossless codec. Films are
compared small, because encoders and fonts differ in the details, and a wrong, blank or misplaced frame shows anyway.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import meter, scenes

SMALL = (240, 135)
"""Columns and rows of the pictures that are compared."""

Film = NDArray[np.uint8]
"""(frames, rows, columns, 3)."""

SHIFTS = range(-3, 4)
"""By so many frames a peer may be off; a render that is further off shows something else."""

MOVING = 0.05
"""Mean difference to the frame before, of 255, above which a frame tells where in the film it is."""

MOST_BLANK_DB = 18.0
"""A blank, torn or other picture is at the most this similar to a reference; a good one at least twenty-odd."""

RENDER_SECONDS = 1800
"""A reference that takes longer has hung."""


@dataclass(frozen=True)
class Verdict:
    """How a film compares with its reference."""

    frames: int
    shift: int
    """By so many frames it is late (as a whole); 0 is right."""
    lowest_psnr_db: float
    """Of the worst frame, against the reference so shifted, in the small pictures."""

    def fault(self, frames: int, *, exact: bool) -> str | None:
        """What is wrong with it, if anything; `exact`: it must not be late either."""
        if self.frames != frames:
            return f"{self.frames} frames instead of {frames}"
        if self.lowest_psnr_db < MOST_BLANK_DB:
            return f"a frame is not the reference's ({self.lowest_psnr_db:.1f} dB)"
        return f"it is {self.shift} frames late" if exact and self.shift else None


def decode(file: Path) -> Film:
    """All frames, small."""
    columns, rows = SMALL
    graph = f"scale={columns}:{rows}:flags=area:in_color_matrix=bt709,format=rgb24"
    argv = ["ffmpeg", "-v", "error", "-i", str(file), "-fps_mode", "passthrough", "-vf", graph]
    told = subprocess.run([*argv, "-f", "rawvideo", "pipe:1"], capture_output=True, check=True)
    return np.frombuffer(told.stdout, np.uint8).reshape(-1, rows, columns, 3)


def render_reference(scene: str, size: str, frames: int, folder: Path) -> Path:
    """The film that all others are compared with, lossless."""
    width, height = scenes.SIZES[size]
    output = folder / "reference.mkv"
    options = {
        "width": width,
        "height": height,
        "fps": scenes.FPS,
        "frame_count": frames,
        "concurrency": 1,
        "capture": "screenshot",
        "video": {"codec": "ffv1", "pixel_format": "bgr0"},
    }
    job = {"scene": str(scenes.page(scene)), "output": str(output), "options": options}
    usage = meter.measure(meter.our_render(job, folder), timeout_seconds=RENDER_SECONDS)
    if usage.returncode:
        raise SystemExit(f"the reference of {scene} could not be rendered: {usage.stderr}")
    return output


def compare(film: Film, reference: Film) -> Verdict:
    """At the shift that fits the moving frames best."""
    count = min(len(film), len(reference))
    if count == 0:
        return Verdict(len(film), 0, 0.0)
    errors = {shift: _errors(film[:count], reference[:count], shift) for shift in SHIFTS}
    moving = np.flatnonzero(np.abs(np.diff(reference[:count].astype(np.int16), axis=0)).mean((1, 2, 3)) > MOVING) + 1
    inner = moving[(moving >= max(SHIFTS)) & (moving < count - max(SHIFTS))]
    best = min(SHIFTS, key=lambda shift: (errors[shift][inner].mean() if inner.size else 0, abs(shift)))
    first, last = max(0, best), count + min(0, best)
    worst = float(errors[best][first:last].max(initial=0.0))
    return Verdict(len(film), best, float(10 * np.log10(255**2 / max(worst, 1e-3))))


def _errors(film: Film, reference: Film, shift: int) -> NDArray[np.float64]:
    """Mean squared error of each frame against the reference's frame `shift` earlier; the ends keep to their own."""
    count = len(film)
    wanted = np.clip(np.arange(count) - shift, 0, count - 1)
    found = np.empty(count)
    for index in range(count):  # one after another: all at once would take gigabytes
        difference = film[index].astype(np.float32) - reference[wanted[index]]
        found[index] = float(np.mean(difference * difference))
    return found
