"""Our own engine: scenes × sizes × workers × ways of capturing, each measured by a long run less a short one."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import anyio

import asyncrender as ar
from benchmarks import check, meter, scenes
from benchmarks.check import Film

RUN_SECONDS = 1800
"""A render that takes longer has hung."""

PARTS = {
    "page": ("chromium renderer",),
    "draw": ("chromium gpu-process",),
    "code": ("chromium browser", "chromium utility", "chromium zygote"),
    "ffmpeg": ("ffmpeg",),
}
"""What each process does: the renderer runs scripts, layout and raster; the GPU process composes the frame; the browser
process makes a PNG of it and hands it over; ffmpeg decodes, converts, encodes. All else is ours."""


@dataclass(frozen=True)
class Config:
    scene: str
    size: str = "1080p"
    workers: int | None = 1
    """None: as `resolve` decides."""
    capture: str = "auto"
    preset: str = "medium"
    preroll: str = "auto"
    """How workers come to their first frame, as in `RenderOptions`."""


@dataclass(frozen=True)
class Run:
    """One configuration, measured once. CPU and wall in milliseconds per frame, without start-up."""

    config: Config
    capture: str
    """The way that was taken."""
    fps: float
    """Frames between the short and the long run ÷ the seconds between them."""
    startup_seconds: float
    """What a render takes besides its frames: the short run less its frames at `fps`."""
    first_frame_seconds: float
    """From the call of `render` until the first frame was encoded; the short run's."""
    cpu_ms: dict[str, float]
    """By part: page, draw, code, ffmpeg, ours."""
    wall_ms: dict[str, float]
    """By slice of the trace, of a short run of its own: page, picture, wait for the encoder, write."""
    peak_memory_mb: float
    lowest_psnr_db: float


LONG_FRAMES = (60, 1260)
"""For the second `resolve` takes as many workers as for any longer film. Far apart, by whole cycles of what moves: with
1210 and 1570 frames the difference of two runs of 15 s was off by a quarter."""

TRACED_FRAMES = 60


def frames_of(size: str, *, quick: bool) -> tuple[int, int]:
    """Frames of the short and of the long run."""
    short, long = {"720p": (60, 240), "1080p": (60, 240), "4K": (20, 80)}[size]
    return (short // 2, long // 3) if quick else (short, long)


def measure(config: Config, frames: tuple[int, int], reference: Film, folder: Path) -> Run:
    """Three renders: a short and a long one, and a short one that is traced. Raises SystemExit if one is not right."""
    short, long = frames
    (few, said), (many, _) = (_render(config, count, folder, reference) for count in frames)
    trace = folder / "trace.json"
    _render(config, min(short, TRACED_FRAMES), folder, reference, trace=trace)
    fps = (long - short) / max(1e-9, many.seconds - few.seconds)
    film = check.compare(check.decode(folder / "out.mp4"), reference)
    return Run(
        config=config,
        capture="+".join(said["capture"]),
        fps=fps,
        startup_seconds=few.seconds - short / fps,
        first_frame_seconds=said["first_frame_seconds"],
        cpu_ms=_per_frame(few, many, long - short),
        wall_ms=dict(_walls(trace)),
        peak_memory_mb=many.peak_memory_mb,
        lowest_psnr_db=film.lowest_psnr_db,
    )


@cache
def as_for_long(config: Config) -> Config:
    """With the workers that `resolve` takes for a long film, however short this one is.

    Of a slope both ends must have as many: else the second worker's start counts as if it were frames.
    """
    options = ar.RenderOptions.model_validate(_options(config, LONG_FRAMES[1]))
    resolved = anyio.run(ar.resolve, scenes.page(config.scene), Path("out.mp4"), options)
    return replace(config, workers=resolved.concurrency, preroll=resolved.preroll)


def program(config: Config, frames: int, output: Path, trace: Path | None = None) -> meter.Program:
    """What renders one film, in the folder of its output."""
    options = {**_options(config, frames), "trace": str(trace) if trace else None, "resume": False}
    job = {"scene": str(scenes.page(config.scene)), "output": str(output), "options": options}
    return meter.our_render(job, output.parent)


def _options(config: Config, frames: int) -> dict[str, Any]:
    width, height = scenes.SIZES[config.size]
    return {
        "width": width,
        "height": height,
        "fps": scenes.FPS,
        "frame_count": frames,
        "concurrency": config.workers,
        "capture": config.capture,
        "preroll": config.preroll,
        "video": {"preset": config.preset, "crf": 18},
    }


def _render(
    config: Config, frames: int, folder: Path, reference: Film, trace: Path | None = None
) -> tuple[meter.Usage, dict[str, object]]:
    output = folder / "out.mp4"
    output.unlink(missing_ok=True)
    usage = meter.measure(program(config, frames, output, trace), timeout_seconds=RUN_SECONDS)
    if usage.returncode or usage.left_behind:
        raise SystemExit(f"{config}: exit code {usage.returncode}, {usage.left_behind} processes left; {usage.stderr}")
    fault = check.compare(check.decode(output), reference[:frames]).fault(frames, exact=True)
    if fault:
        raise SystemExit(f"{config}: {fault}")
    return usage, json.loads(usage.stdout)


def _per_frame(few: meter.Usage, many: meter.Usage, frames: int) -> dict[str, float]:
    kinds = few.cpu_seconds.keys() | many.cpu_seconds.keys()
    cost = {kind: 1000 * (many.cpu_seconds.get(kind, 0) - few.cpu_seconds.get(kind, 0)) / frames for kind in kinds}
    parts = {part: sum(cost.pop(kind, 0.0) for kind in kinds) for part, kinds in PARTS.items()}
    return {**parts, "ours": sum(cost.values())}


def _walls(trace: Path) -> Iterator[tuple[str, float]]:
    """Mean milliseconds of a frame's slices."""
    spent: dict[str, list[float]] = {}
    for event in json.loads(trace.read_text())["traceEvents"]:
        if event["ph"] == "X" and "frame" in event["args"]:
            spent.setdefault(event["name"], []).append(event["dur"] / 1000)
    yield from ((name, statistics.fmean(values)) for name, values in spent.items())
