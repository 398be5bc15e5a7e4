"""Plan, then chunks, concat, mix, publish: the one way from a scene to a film, for every caller.

Planning is pure and stands apart; what is carried out here is a plan, wherever it was made.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path, PurePath
from typing import Protocol

import anyio

from asyncrender.diskspace import check_space
from asyncrender.errors import CaptureUnavailable, ChunkDamaged, InvalidPlan, RenderCancelled
from asyncrender.executors.local import LocalExecutor
from asyncrender.log import bound, get_logger
from asyncrender.plan import differences, make_plan, replan
from asyncrender.progress import Cancelled, ChunkResult, Event, Failed, Finished, JobEvent, RenderResult
from asyncrender.resolve import anchored, resolve
from asyncrender.specs import RenderChunk, RenderOptions, RenderPlan
from asyncrender.stages import (
    Board,
    OnProgress,
    check_trace,
    join_and_publish,
    look,
    reporting,
    reuse,
    reused_result,
    say_discarded,
    settle,
    summarise,
    tidied,
    traced,
)
from asyncrender.tasks import open_task_group
from asyncrender.threads import in_thread
from asyncrender.workspace import Workspace

RENDER_ID_LENGTH = 8
"""Digits of the fingerprint that name a render in the logs."""

TRACE_NAME = "trace.json"
"""In the plan of a render whose trace is written wherever its caller wishes."""

_log = get_logger("asyncrender.orchestrator")


class Executor(Protocol):
    """Renders chunks somewhere, so that they lie finished in the plan's work folder when `run` returns.

    The only protocol of the library. `emit` takes ChunkBegan, FrameWritten and ChunkFinished events at any pace.
    Must raise the first failure after ending everything else, and end everything when it is cancelled.
    """

    async def run(
        self, plan: RenderPlan, chunks: Sequence[RenderChunk], emit: Callable[[Event], None]
    ) -> Sequence[ChunkResult]: ...


class RenderOrchestrator:
    """Plans renders (`plan`, pure) and carries plans out (`render`).

    `executor` renders the chunks, by default in this process' own children. `limiter` is for the default executor:
    renders that share one have at most that many browsers together.
    """

    def __init__(self, executor: Executor | None = None, limiter: anyio.CapacityLimiter | None = None) -> None:
        self._executor = executor or LocalExecutor(limiter)
        self._limiter = limiter

    @staticmethod
    def plan(composition_url: str | PurePath, output_path: str | PurePath, options: RenderOptions) -> RenderPlan:
        """Split a render into chunks, a concat and a mix. Pure: looks at no disk, clock, network or processor.

        `composition_url` is a path, a URL or `Html`. Raises InvalidOption.
        """
        return make_plan(composition_url, output_path, options)

    async def render(self, plan: RenderPlan, on_progress: OnProgress | None = None) -> RenderResult:
        """Carry a plan out; returns when the output is in its place and nothing else is left.

        `on_progress` is called with the latest state: first at 0, last, once, at exactly 1.0; 60 times a second at the
        most while frames come. It may be a coroutine function: a slow one misses states and holds up no more than the
        return; one that blocks holds up the event loop. What it raises ends the render. Raises what the error tree
        says; a cancelled scope raises the backend's own cancellation.
        """
        board = Board(plan)
        return await reporting(lambda: self._carry_out(plan, board, trace_of(plan)), board, on_progress)

    async def _carry_out(self, plan: RenderPlan, board: Board, trace: Path | None) -> RenderResult:
        if trace is not None:
            check_trace(trace, Path(plan.base) / plan.final_output_file)
        async with traced(board, trace, f"asyncrender: {plan.final_output_file}"):
            try:
                return await self._carry_out_stages(plan, board)
            except CaptureUnavailable as error:
                if not _capture_chosen(plan):
                    raise
                _log.warning("all frames are taken by BeginFrame instead", reason=str(error))
                again = without_raw(plan, str(error))
            return await self._carry_out_stages(again, board)

    async def _carry_out_stages(self, plan: RenderPlan, board: Board) -> RenderResult:
        board.enter("prepare")
        given = Workspace(plan, Path(plan.base))
        with bound(render=plan.fingerprint[:RENDER_ID_LENGTH]), given.lock():
            try:
                plan = await settle(plan, given, limiter=self._limiter)
            except BaseException:
                given.remove_if_empty()
                raise
            workspace = Workspace(plan, Path(plan.base))
            async with tidied(workspace, on_failure="ours" if plan.options.resume else "nothing"):
                reused, discarded = await reuse(plan, workspace, board)
                await in_thread(lambda: given.record_options(plan.options, replace_old=True))
                done = sum(plan.chunks[number].frame_count for number in reused)
                space = check_space(plan, workspace.folder, finished_frames=done)
                chunks = await self._complete(plan, workspace, board, reused)
        result = summarise(plan, workspace, board, chunks)
        return dataclasses.replace(result, discarded=discarded, warnings=(*space, *result.warnings))

    async def _complete(
        self, plan: RenderPlan, workspace: Workspace, board: Board, reused: dict[int, ChunkResult]
    ) -> list[ChunkResult]:
        """Render what is missing, join, mix, publish. A chunk that turns out to be damaged is rendered again, once."""
        rendered = await self._render_missing(plan, reused, board)
        try:
            await join_and_publish(plan, workspace, board)
        except ChunkDamaged as error:
            if error.chunk is None:
                raise
            _log.warning("a chunk is rendered again", chunk=error.chunk, reason=str(error))
            chunk = plan.chunks[error.chunk]
            await in_thread(lambda: workspace.discard(chunk))
            again = await self._executor.run(plan, [chunk], board.emit)
            rendered = [*(one for one in rendered if one.id != chunk.id), *again]
            reused.pop(chunk.id, None)
            await join_and_publish(plan, workspace, board)
        return [*reused.values(), *rendered]

    async def _render_missing(
        self, plan: RenderPlan, reused: dict[int, ChunkResult], board: Board
    ) -> Sequence[ChunkResult]:
        board.enter("render")
        missing = [chunk for chunk in plan.chunks if chunk.id not in reused]
        return await self._executor.run(plan, missing, board.emit) if missing else []


class RenderJob:
    """A render under way. Made by `open_render`."""

    def __init__(self, plan: RenderPlan) -> None:
        self._plan, self._board = plan, Board(plan)
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
                self._outcome = Finished(await orchestrator._carry_out(self._plan, self._board, trace_of(self._plan)))
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
    async with open_task_group() as tasks:
        tasks.start_soon(job._run, RenderOrchestrator(executor, limiter))
        yield job
        tasks.cancel_scope.cancel()


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
    options = options or RenderOptions()
    began, trace = time.monotonic(), Path(options.trace).absolute() if options.trace else None
    if trace is not None:
        check_trace(trace, output)
        options = options.model_copy(update={"trace": TRACE_NAME})
    resolved = await resolve(scene, output, options, limiter=limiter)
    plan = RenderOrchestrator.plan(scene, output, resolved)
    if options.concurrency is None:
        workers = await in_thread(lambda: _workers_before(plan))
        plan = RenderOrchestrator.plan(scene, output, resolved.model_copy(update={"concurrency": workers}))
    orchestrator, board = RenderOrchestrator(executor, limiter), Board(plan, resolve_began=began)
    return await reporting(lambda: orchestrator._carry_out(plan, board, trace), board, on_progress)


def _capture_chosen(plan: RenderPlan) -> bool:
    """Whether another way of taking frames may be chosen than the plan's."""
    environment = plan.options.environment
    return plan.options.capture == "auto" if environment is None else environment.capture_chosen


def without_raw(plan: RenderPlan, reason: str) -> RenderPlan:
    """The same plan, but with frames by BeginFrame."""
    options = plan.options.model_copy(update={"capture": "beginframe"})
    if options.environment is not None:
        notes = (*options.environment.notes, f"frames are not taken raw after all: {reason}")
        found = options.environment.model_copy(update={"notes": notes})
        options = options.model_copy(update={"environment": found})
    return replan(plan, options)


def trace_of(plan: RenderPlan) -> Path | None:
    """Where a plan says that its trace is written: beside the output."""
    return Path(plan.base) / plan.options.trace if plan.options.trace is not None else None


def _workers_before(plan: RenderPlan) -> int | None:
    """How many an earlier run had, whose finished chunks only fit the same cuts: other memory may be free now."""
    record = Workspace(plan, Path(plan.base)).recorded()
    if not plan.options.resume or record is None or differences(record.options, plan.options):
        return plan.options.concurrency
    return record.options.concurrency


async def render_chunk(plan: RenderPlan, chunk_id: int, *, on_progress: OnProgress | None = None) -> ChunkResult:
    """Render one chunk of a plan into the work folder, unless it lies there finished. Any number may do so.

    Raises InvalidPlan if the plan has no such chunk, and what rendering raises.
    """
    if not 0 <= chunk_id < len(plan.chunks):
        raise InvalidPlan(f"The plan has no chunk {chunk_id}; its chunks are 0 to {len(plan.chunks) - 1}.")
    alone = {"chunks": (plan.chunks[chunk_id],), "total_frames": plan.chunks[chunk_id].frame_count}
    board = Board(plan.model_copy(update=alone))
    workspace = Workspace(plan, Path(plan.base))
    with bound(render=plan.fingerprint[:RENDER_ID_LENGTH]), workspace.share():
        return await reporting(lambda: _carry_out_chunk(plan, chunk_id, board), board, on_progress)


async def _carry_out_chunk(plan: RenderPlan, chunk_id: int, board: Board) -> ChunkResult:
    given = Workspace(plan, Path(plan.base))
    plan = await settle(plan, given, recorded=True)
    workspace, chunk = Workspace(plan, Path(plan.base)), plan.chunks[chunk_id]
    found = await in_thread(lambda: workspace.look(chunk), stoppable=True)
    if found.sidecar is not None:
        board.enter("done")
        return reused_result(chunk, found.sidecar)
    if found.reason is not None:
        say_discarded([(chunk, found.reason)])
    await in_thread(lambda: given.record_options(plan.options, replace_old=False))
    check_space(plan, workspace.folder)
    board.enter("render")
    (result,) = await LocalExecutor().run(plan, [chunk], board.emit)
    board.enter("done")
    return result


async def assemble(plan: RenderPlan, *, on_progress: OnProgress | None = None) -> RenderResult:
    """Concatenate, mix and publish what the plan's chunks left in the work folder, then remove the folder.

    Raises ChunkDamaged, naming the chunks that are missing or not whole; finished ones stay.
    """
    board = Board(plan)

    async def run() -> RenderResult:
        given = Workspace(plan, Path(plan.base))
        with bound(render=plan.fingerprint[:RENDER_ID_LENGTH]), given.lock():
            settled = await settle(plan, given, recorded=True)
            workspace = Workspace(settled, Path(plan.base))
            async with tidied(workspace, on_failure="any"):
                reused, discarded = await look(settled, workspace, board, again=False)
                missing = [str(chunk.id) for chunk in settled.chunks if chunk.id not in reused]
                if missing:
                    listed = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
                    why = f" ({'; '.join(discarded)})" if discarded else ""
                    raise ChunkDamaged(f"Not finished, or not from this plan: chunk {listed}{why}. Render them first.")
                await join_and_publish(settled, workspace, board)
        return summarise(settled, workspace, board, list(reused.values()))

    return await reporting(run, board, on_progress)
