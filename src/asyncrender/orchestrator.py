"""Plan, then chunks, concat, mix, publish: the one way from a scene to a film, for every caller.

Planning is pure and stands apart; what is carried out here is a plan, wherever it was made.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path, PurePath
from typing import Protocol, TypeVar

import anyio
import anyio.to_thread

from asyncrender.errors import ChunkDamaged, InvalidPlan, RenderCancelled, single_error
from asyncrender.executors.local import LocalExecutor
from asyncrender.log import bound
from asyncrender.media.concat import concat
from asyncrender.media.mix import mix
from asyncrender.plan import is_url, make_plan, replan
from asyncrender.progress import (
    Cancelled,
    ChunkResult,
    ChunkReused,
    Event,
    Failed,
    Finished,
    JobEvent,
    Progress,
    RenderResult,
    Stage,
    StageBegan,
    StageMoved,
    Tally,
)
from asyncrender.resolve import resolve
from asyncrender.specs import Html, RenderChunk, RenderOptions, RenderPlan
from asyncrender.workspace import Sidecar, Workspace

OnProgress = Callable[[Progress], Awaitable[object] | object]

RENDER_ID_LENGTH = 8
"""Digits of the fingerprint that name a render in the logs."""

Outcome = TypeVar("Outcome")


class Executor(Protocol):
    """Renders chunks somewhere, so that they lie finished in the plan's work folder when `run` returns.

    The only protocol of the library. `emit` takes ChunkBegan, FrameWritten and ChunkFinished events at any pace.
    Must raise the first failure after ending everything else, and end everything when it is cancelled.
    """

    async def run(
        self, plan: RenderPlan, chunks: Sequence[RenderChunk], emit: Callable[[Event], None]
    ) -> Sequence[ChunkResult]: ...


class _Board:
    """Where a render stands, for whoever looks. Lookers see the present; nothing is queued for them."""

    def __init__(self, plan: RenderPlan) -> None:
        self.tally = Tally(plan.total_frames, len(plan.chunks), began=time.monotonic())
        self.changed = anyio.Event()

    def emit(self, event: Event) -> None:
        self.tally.fold(event)
        self.wake()

    def enter(self, stage: Stage) -> None:
        self.emit(StageBegan(stage, time.monotonic()))

    def moved(self, stage: Stage) -> Callable[[float], None]:
        return lambda fraction: self.emit(StageMoved(stage, fraction, time.monotonic()))

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


class RenderOrchestrator:
    """Plans renders (`plan`, pure) and carries plans out (`render`).

    `executor` renders the chunks, by default in this process' own children. `limiter` is for the default executor:
    renders that share one have at most that many browsers together.
    """

    def __init__(self, executor: Executor | None = None, limiter: anyio.CapacityLimiter | None = None) -> None:
        self._executor = executor or LocalExecutor(limiter)

    @staticmethod
    def plan(composition_url: str | PurePath, output_path: str | PurePath, options: RenderOptions) -> RenderPlan:
        """Split a render into chunks, a concat and a mix. Pure: looks at no disk, clock, network or processor.

        `composition_url` is a path, a URL or `Html`. Raises InvalidOption.
        """
        return make_plan(composition_url, output_path, options)

    async def render(self, plan: RenderPlan, on_progress: OnProgress | None = None) -> RenderResult:
        """Carry a plan out; returns when the output is in its place and nothing else is left.

        `on_progress` is called with the latest state: first at 0, last, once, at exactly 1.0. A slow one misses states
        and slows nothing. Raises what the error tree says; a cancelled scope raises the backend's own cancellation.
        """
        board = _Board(plan)
        return await _reporting(lambda: self._carry_out(plan, board), board, on_progress)

    async def _carry_out(self, plan: RenderPlan, board: _Board) -> RenderResult:
        board.enter("prepare")
        workspace = Workspace(plan, Path(plan.base))
        with bound(render=plan.fingerprint[:RENDER_ID_LENGTH]), workspace.lock():
            try:
                plan = await _settle(plan, workspace, fresh=True)
            except BaseException:
                workspace.remove_if_empty()
                raise
            workspace = Workspace(plan, Path(plan.base))
            async with _tidied(workspace, keep_chunks=plan.options.resume):
                reused = await _reuse(plan, workspace, board)
                rendered = await self._render_missing(plan, reused, board)
                await _join_and_publish(plan, workspace, board)
        return _result(plan, workspace, board, [*reused.values(), *rendered])

    async def _render_missing(
        self, plan: RenderPlan, reused: dict[int, ChunkResult], board: _Board
    ) -> Sequence[ChunkResult]:
        board.enter("render")
        missing = [chunk for chunk in plan.chunks if chunk.id not in reused]
        return await self._executor.run(plan, missing, board.emit) if missing else []


class RenderJob:
    """A render under way. Made by `open_render`."""

    def __init__(self, plan: RenderPlan) -> None:
        self._plan, self._board = plan, _Board(plan)
        self._scope = anyio.CancelScope()
        self._outcome: Finished | Failed | Cancelled | None = None
        self._over = anyio.Event()

    def cancel(self) -> None:
        """End the render; returns at once. `result` raises RenderCancelled when everything is tidied."""
        self._scope.cancel()

    async def result(self) -> RenderResult:
        """Wait for the end. Raises the render's error, or RenderCancelled after `cancel`."""
        await self._over.wait()
        match self._outcome:
            case Finished(result):
                return result
            case Failed(error):
                raise error
            case _:
                raise RenderCancelled(f"The render of {self._plan.final_output_file} was cancelled.")

    def events(self) -> AsyncIterator[JobEvent]:
        """Progress as it changes, then exactly one terminal event: Finished, Failed or Cancelled.

        Who asks late sees the latest state, not the past ones. May be left at any time.
        """
        return _Events(self)

    async def _run(self, orchestrator: RenderOrchestrator) -> None:
        try:
            with self._scope:
                self._outcome = Finished(await orchestrator._carry_out(self._plan, self._board))
        except Exception as error:
            self._outcome = Failed(error)
        finally:
            if self._outcome is None or (isinstance(self._outcome, Failed) and self._scope.cancel_called):
                self._outcome = Cancelled()
            self._over.set()
            self._board.wake()


class _Events(AsyncIterator[JobEvent]):
    """A look-out on a job. No generator: those want to be closed when a loop over them is left."""

    def __init__(self, job: RenderJob) -> None:
        self._job = job
        self._shown: JobEvent | None = None

    async def __anext__(self) -> JobEvent:
        job = self._job
        while True:
            changed, progress, outcome = job._board.changed, job._board.tally.progress(), job._outcome
            if outcome is not None and self._shown == outcome:
                raise StopAsyncIteration
            if progress != self._shown:
                self._shown = progress
                return progress
            if outcome is not None:
                self._shown = outcome
                return outcome
            await changed.wait()


@asynccontextmanager
async def open_render(
    plan: RenderPlan, *, executor: Executor | None = None, limiter: anyio.CapacityLimiter | None = None
) -> AsyncIterator[RenderJob]:
    """Start a plan and hold its job: `events()`, `cancel()`, `result()`. Leaving the block early cancels and tidies."""
    job = RenderJob(plan)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(job._run, RenderOrchestrator(executor, limiter))
            yield job
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise single_error(group) from None


async def render(
    scene: str | PurePath,
    output: str | PurePath,
    options: RenderOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
    executor: Executor | None = None,
    limiter: anyio.CapacityLimiter | None = None,
) -> RenderResult:
    """Render a scene (path, URL or `Html`) to a video file: resolve, plan, carry out.

    See `RenderOrchestrator.render` for `on_progress` and the errors.
    """
    output = Path(output).absolute()
    scene = anchored(scene)
    resolved = await resolve(scene, output, options)
    plan = RenderOrchestrator.plan(scene, output, resolved)
    return await RenderOrchestrator(executor, limiter).render(plan, on_progress)


def anchored(scene: str | PurePath) -> str | PurePath:
    """The scene with a relative path made absolute, so that it can be planned for any output folder."""
    if isinstance(scene, Html) or is_url(str(scene)) or str(scene).lower().startswith("file:"):
        return scene
    return Path(scene).absolute()


async def render_chunk(plan: RenderPlan, chunk_id: int, *, on_progress: OnProgress | None = None) -> ChunkResult:
    """Render one chunk of a plan into the work folder, unless it lies there finished. Takes no lock.

    Raises InvalidPlan if the plan has no such chunk, and what rendering raises.
    """
    if not 0 <= chunk_id < len(plan.chunks):
        raise InvalidPlan(f"The plan has no chunk {chunk_id}; its chunks are 0 to {len(plan.chunks) - 1}.")
    workspace = Workspace(plan, Path(plan.base))
    workspace.prepare()
    plan = await _settle(plan, workspace, fresh=False)
    workspace, chunk = Workspace(plan, Path(plan.base)), plan.chunks[chunk_id]
    if (sidecar := await anyio.to_thread.run_sync(workspace.finished, chunk)) is not None:
        return _reused_result(chunk, sidecar)
    alone = plan.model_copy(update={"chunks": (chunk,), "total_frames": chunk.frame_count})
    board = _Board(alone)
    board.enter("render")

    async def run() -> ChunkResult:
        (result,) = await LocalExecutor().run(plan, [chunk], board.emit)
        board.enter("done")
        return result

    return await _reporting(run, board, on_progress)


async def assemble(plan: RenderPlan, *, on_progress: OnProgress | None = None) -> RenderResult:
    """Concatenate, mix and publish what the plan's chunks left in the work folder, then remove the folder.

    Raises ChunkDamaged, naming the chunks that are missing or not whole; finished ones stay.
    """
    board = _Board(plan)

    async def run() -> RenderResult:
        workspace = Workspace(plan, Path(plan.base))
        with workspace.lock():
            settled = await _settle(plan, workspace, fresh=False)
            workspace = Workspace(settled, Path(plan.base))
            async with _tidied(workspace, keep_chunks=True):
                reused = await _reuse(settled, workspace, board)
                missing = [str(chunk.id) for chunk in settled.chunks if chunk.id not in reused]
                if missing:
                    listed = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
                    raise ChunkDamaged(f"Not finished, or not from this plan: chunk {listed}. Render them first.")
                await _join_and_publish(settled, workspace, board)
        return _result(settled, workspace, board, list(reused.values()))

    return await _reporting(run, board, on_progress)


async def _reporting(run: Callable[[], Awaitable[Outcome]], board: _Board, on_progress: OnProgress | None) -> Outcome:
    if on_progress is None:
        return await run()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_report, board, on_progress)
            outcome = await run()
    except BaseExceptionGroup as group:
        raise single_error(group) from None
    return outcome


async def _report(board: _Board, on_progress: OnProgress) -> None:
    shown: Progress | None = None
    while shown is None or shown.stage != "done":
        changed, progress = board.changed, board.tally.progress()
        if progress == shown:
            await changed.wait()
            continue
        shown = progress
        answer = on_progress(progress)
        if inspect.isawaitable(answer):
            await answer


async def _settle(plan: RenderPlan, workspace: Workspace, *, fresh: bool) -> RenderPlan:
    """The plan with resolved options: resolved once for all chunks, which is recorded in the work folder.

    `fresh`: look again although an earlier run recorded something.
    """
    if plan.options.environment is not None:
        return plan
    recorded = None if fresh else workspace.recorded_options()
    if recorded is None:
        url = plan.composition_url
        scene = url if is_url(url) else Path(plan.base) / url
        resolved = await resolve(scene, workspace.output, plan.options)
        recorded = workspace.record_options(resolved, replace_old=fresh)
    return replan(plan, recorded)


@asynccontextmanager
async def _tidied(workspace: Workspace, *, keep_chunks: bool) -> AsyncIterator[None]:
    """Leave the work folder as its rule says: nothing after success, finished chunks (or nothing) after a failure."""
    keep = keep_chunks
    try:
        yield
        keep = False
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: workspace.sweep(keep_chunks=keep))
            workspace.remove_if_empty()


async def _reuse(plan: RenderPlan, workspace: Workspace, board: _Board) -> dict[int, ChunkResult]:
    """The chunks that an earlier run finished, verified; all others are removed."""
    reused: dict[int, ChunkResult] = {}
    if plan.options.resume:
        for chunk in plan.chunks:
            sidecar = await anyio.to_thread.run_sync(workspace.finished, chunk)
            if sidecar is not None:
                reused[chunk.id] = _reused_result(chunk, sidecar)
                board.emit(ChunkReused(chunk.id, chunk.frame_count))
    await anyio.to_thread.run_sync(lambda: workspace.sweep(keep_chunks=plan.options.resume))
    return reused


async def _join_and_publish(plan: RenderPlan, workspace: Workspace, board: _Board) -> None:
    board.enter("concat")
    await concat(plan, workspace.folder, on_progress=board.moved("concat"))
    board.enter("mix")
    part = workspace.part(workspace.output)
    await mix(plan, workspace.folder, part, on_progress=board.moved("mix"))
    await anyio.to_thread.run_sync(workspace.publish, part)


def _reused_result(chunk: RenderChunk, sidecar: Sidecar) -> ChunkResult:
    return ChunkResult(chunk.id, attempts=0, seconds=0.0, capture=sidecar.capture, warnings=sidecar.warnings)


def _result(plan: RenderPlan, workspace: Workspace, board: _Board, chunks: Sequence[ChunkResult]) -> RenderResult:
    board.enter("done")
    rate = plan.options.fps
    assert rate is not None
    ordered = tuple(sorted(chunks, key=lambda chunk: chunk.id))
    return RenderResult(
        output=workspace.output,
        frames=plan.total_frames,
        fps=float(rate),
        duration=float(plan.total_frames / rate),
        seconds=board.tally.seconds_by_stage(time.monotonic()),
        chunks=ordered,
        warnings=tuple(dict.fromkeys(warning for chunk in ordered for warning in chunk.warnings)),
    )
