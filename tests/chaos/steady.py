"""Many renders in one process: open files, threads and memory stay what they were."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import psutil

import asyncrender as ar
from chaos.ground import Ground, open_files


@dataclass(frozen=True)
class Sample:
    """After one render."""

    files: int
    threads: int
    rss: int
    """Bytes."""


def carry_out(ground: Ground, plan: ar.RenderPlan, count: int, on_sample: Callable[[Sample], None]) -> list[Sample]:
    """Render the same plan again and again, in one event loop, and measure the process after each."""
    return anyio.run(_render_again_and_again, ground, plan, count, on_sample)


async def _render_again_and_again(
    ground: Ground, plan: ar.RenderPlan, count: int, on_sample: Callable[[Sample], None]
) -> list[Sample]:
    samples = []
    for _ in range(count):
        await ar.RenderOrchestrator().render(plan)
        sample = Sample(open_files(), threading.active_count(), psutil.Process().memory_info().rss)
        samples.append(sample)
        on_sample(sample)
    return samples


def slope(values: list[int]) -> float:
    """Least squares: by how much a value grows from one sample to the next."""
    count = len(values)
    mean_x, mean_y = (count - 1) / 2, sum(values) / count
    above = sum((x - mean_x) * (y - mean_y) for x, y in enumerate(values))
    return above / max(1e-9, sum((x - mean_x) ** 2 for x in range(count)))
