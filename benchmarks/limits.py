"""What a frame costs at the least: a browser that only draws, and an ffmpeg that only encodes, each alone.

The machine's limit is its cores ÷ the sum of the two. How pictures get from one to the other is what a renderer is
measured by: it costs nothing here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, meter, scenes

BROWSER_FRAMES = (30, 630)
"""A page is drawn so often without a picture being taken; the difference is free of start-up. What a browser uses in
its last tenth of a second is not seen: with 120 frames between the two, `dom` took 3.5 ms one day and 9 another."""

TO_BT709 = "colorspace=ispace=smpte170m:iprimaries=bt709:itrc=bt709:irange=tv:all=bt709:range=tv"
"""What is left to convert of pictures as the compositor can hand them out, in 4:2:0 by the matrix of BT.601."""

RUN_SECONDS = 600


@dataclass(frozen=True)
class Limit:
    """CPU milliseconds of one frame."""

    browser_ms: float
    convert_ms: float
    encode_ms: float

    @property
    def fps(self) -> float:
        """Frames a second, were all cores busy with nothing else."""
        return 1000 * machine.cores() / (self.browser_ms + self.convert_ms + self.encode_ms)


def measure(
    scene: str, size: str, presets: Sequence[str], reference: Path, frames: tuple[int, int], folder: Path
) -> dict[str, Limit]:
    """By the encoder's preset. `reference` is a lossless film of the scene.

    `frames` of it, few and many, are encoded; the difference is free of start-up.
    """
    browser = _browser_ms(scene, size, folder)
    convert = _ffmpeg_ms(reference, size, frames, ["-f", "null"])
    whole = {preset: _ffmpeg_ms(reference, size, frames, _encoder(preset)) for preset in presets}
    return {preset: Limit(browser, convert, max(0.0, both - convert)) for preset, both in whole.items()}


def _browser_ms(scene: str, size: str, folder: Path) -> float:
    """Of a page that is lived through: each frame is drawn by the compositor, no picture is taken."""
    width, height = scenes.SIZES[size]
    spent = []
    for before in BROWSER_FRAMES:
        options = {
            "width": width,
            "height": height,
            "fps": scenes.FPS,
            "start_frame": before,
            "frame_count": 1,
            "preroll": "always",
            "capture": "beginframe",
            "video": {"preset": "ultrafast"},
        }
        output = str(folder / "alone.mp4")
        job = {"scene": str(scenes.page(scene)), "output": output, "options": options, "draws_all": True}
        usage = meter.measure(meter.our_render(job, folder), timeout_seconds=RUN_SECONDS)
        if usage.returncode:
            raise SystemExit(f"{scene} could not be drawn: {usage.stderr}")
        spent.append(sum(seconds for kind, seconds in usage.cpu_seconds.items() if kind.startswith("chromium")))
    return 1000 * (spent[1] - spent[0]) / (BROWSER_FRAMES[1] - BROWSER_FRAMES[0])


def _encoder(preset: str) -> list[str]:
    """One thread costs least."""
    group = str(2 * scenes.FPS)
    closed = ["-g", group, "-keyint_min", group, "-x264-params", "scenecut=0:open-gop=0", "-threads", "1"]
    return ["-c:v", "libx264", "-preset", preset, "-crf", "18", *closed, "-f", "mov", "-y"]


def _ffmpeg_ms(film: Path, size: str, frames: tuple[int, int], output: list[str]) -> float:
    """CPU per frame of an ffmpeg that gets raw pictures."""
    few, many = (_ffmpeg_seconds(film, size, count, output) for count in frames)
    return 1000 * (many - few) / (frames[1] - frames[0])


def _ffmpeg_seconds(film: Path, size: str, frames: int, output: list[str]) -> float:
    width, height = scenes.SIZES[size]
    first = ["-i", str(film), "-frames:v", str(frames)]
    raw = ["ffmpeg", "-v", "error", *first, "-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:1"]
    source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", str(scenes.FPS), "-i", "pipe:0"]
    to = [*output, os.devnull]
    with subprocess.Popen(raw, stdout=subprocess.PIPE) as feeder:
        argv = ["ffmpeg", "-v", "error", *source, "-vf", TO_BT709, *to]
        eater = subprocess.Popen(argv, stdin=feeder.stdout)
        assert feeder.stdout is not None
        feeder.stdout.close()
        _, status, usage = os.wait4(eater.pid, 0)
        eater.returncode = os.waitstatus_to_exitcode(status)
    if eater.returncode or feeder.returncode:
        raise SystemExit(f"ffmpeg failed: {argv}")
    return usage.ru_utime + usage.ru_stime
