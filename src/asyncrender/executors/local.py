"""Chunks on this machine: as many workers as the plan says, each with a browser and a contiguous run of chunks.

A transient failure (a browser or an encoder died) is tried again, with a fresh browser, from the first chunk that is
not finished; any other ends the render, its siblings first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import anyio

from asyncrender import retry
from asyncrender.chunk import render_chunks
from asyncrender.errors import AsyncRenderError
from asyncrender.progress import ChunkBegan, ChunkResult, Event
from asyncrender.specs import RenderChunk, RenderPlan
from asyncrender.tasks import open_task_group
from asyncrender.workspace import Sidecar


class LocalExecutor:
    """Runs chunks in this process' children. Renders that share a `limiter` share its tokens: one for each browser."""

    def __init__(self, limiter: anyio.CapacityLimiter | None = None) -> None:
        self._limiter = limiter

    async def run(
        self, plan: RenderPlan, chunks: Sequence[RenderChunk], emit: Callable[[Event], None]
    ) -> list[ChunkResult]:
        """Render the chunks, publish each in the work folder, and say how each came to be. Raises the first failure."""
        results: list[ChunkResult] = []
        async with open_task_group() as tasks:
            for worker, part in enumerate(split_runs(chunks, plan.options.concurrency or 1)):
                tasks.start_soon(self._work, worker, plan, part, emit, results)
        return results

    async def _work(
        self,
        worker: int,
        plan: RenderPlan,
        chunks: Sequence[RenderChunk],
        emit: Callable[[Event], None],
        results: list[ChunkResult],
    ) -> None:
        left, attempts = list(chunks), 1

        def finished(chunk: RenderChunk, sidecar: Sidecar, seconds: float) -> None:
            nonlocal attempts
            results.append(ChunkResult(chunk.id, attempts, seconds, sidecar.capture, sidecar.warnings))
            left.remove(chunk)
            attempts = 1
            if left:
                emit(ChunkBegan(left[0].id, attempts))

        async with AsyncExitStack() as stack:
            if self._limiter is not None:
                await stack.enter_async_context(self._limiter)
            while left:
                emit(ChunkBegan(left[0].id, attempts))
                try:
                    folder = Path(plan.base)
                    await render_chunks(plan, list(left), folder, emit=emit, on_finished=finished, worker=worker)
                except AsyncRenderError as error:
                    if not retry.may_help(error, attempts):
                        raise
                    await retry.pause(error, attempts, doing=f"chunk {left[0].id}")
                    attempts += 1


def split_runs(chunks: Sequence[RenderChunk], workers: int) -> list[Sequence[RenderChunk]]:
    """Contiguous runs of chunks, one for each worker, none empty, sizes differing by at most one."""
    count = min(workers, len(chunks))
    size, larger = divmod(len(chunks), count) if count else (0, 0)
    starts = [index * size + min(index, larger) for index in range(count + 1)]
    return [chunks[start:end] for start, end in pairwise(starts)]
