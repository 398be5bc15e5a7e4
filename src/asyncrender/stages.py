"""The stages that every caller's render goes through, and the board on which they show how far they are.

They are put together by `orchestrator`: a whole render, one chunk of it, or its assembly.
"""

from __future__ import annotations

import inspect
import math
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from asyncrender import scratch
from asyncrender.errors import ChunkDamaged, InvalidOption
from asyncrender.files import is_folder
from asyncrender.log import get_logger
from asyncrender.machine import memory_of_all
from asyncrender.media.concat import concat
from asyncrender.media.mix import mix
from asyncrender.plan import is_url, replan, with_paths
from asyncrender.progress import (
    ChunkResult,
    ChunkReused,
    Event,
    FrameWritten,
    Progress,
    Reading,
    RenderResult,
    Slice,
    Stage,
    StageBegan,
    StageMoved,
    Tally,
)
from asyncrender.resolve import resolve
from asyncrender.retry import retried
from asyncrender.specs import RenderChunk, RenderPlan
from asyncrender.tasks import open_task_group
from asyncrender.threads import in_thread
from asyncrender.trace import BEGINNING, STAGES_LANE, Trace
from asyncrender.workspace import Kept, Sidecar, Workspace

NEWS_SECONDS = 1 / 60
"""Between two frames that lookers are told of at the least: more nobody can see, and each costs as much as a reply."""

MEMORY_SECONDS = 0.5
"""Between two looks at the memory of all children, for a trace: each takes a few milliseconds."""

OnProgress = Callable[[Progress], Awaitable[object] | object]

Outcome = TypeVar("Outcome")

_log = get_logger("asyncrender.stages")


class Board:
    """Where a render stands, for whoever looks. Lookers see the present; nothing is queued for them.

    They are told of what happens, but of frames only now and then.
    """

    def __init__(self, plan: RenderPlan, *, resolve_began: float | None = None) -> None:
        """`resolve_began`, on the monotonic clock: since then its options were resolved."""
        self.tally = Tally(plan.total_frames, len(plan.chunks), began=time.monotonic())
        self.resolve_began = resolve_began
        self.trace: Trace | None = None
        self.changed = anyio.Event()
        self._told = -math.inf
        """When lookers were last told of a frame, on the monotonic clock."""

    def emit(self, event: Event) -> None:
        if self.trace is not None:
            self.trace.fold(event)
        if not isinstance(event, Slice | Reading):
            self.tally.fold(event)
            if not isinstance(event, FrameWritten):
                self.wake()
            elif event.at >= self._told + NEWS_SECONDS:
                self._told = event.at
                self.wake()

    def enter(self, stage: Stage) -> None:
        self.emit(StageBegan(stage, time.monotonic()))

    def moved(self, stage: Stage) -> Callable[[float], None]:
        return lambda fraction: self.emit(StageMoved(stage, fraction, time.monotonic()))

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


@asynccontextmanager
async def traced(board: Board, file: Path | None, title: str) -> AsyncIterator[None]:
    """Record what happens within the block and write it to `file`, however the block ends. Without a file: nothing."""
    if file is None:
        yield
        return
    began = board.resolve_began
    trace = board.trace = Trace(board.tally.began if began is None else began, title)
    if began is not None:
        board.emit(Slice(STAGES_LANE, "resolve", began, board.tally.began, {}))
    try:
        async with open_task_group() as tasks:
            tasks.start_soon(_watch_memory, board)
            yield
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await in_thread(lambda: _write_trace(file, trace.to_json(time.monotonic())), surely=True)


async def _watch_memory(board: Board) -> None:
    while True:
        used = await in_thread(memory_of_all)
        megabytes = {name: round(used_bytes / 2**20, 1) for name, used_bytes in used.items()}
        board.emit(Reading("memory, MB", megabytes, time.monotonic()))
        await anyio.sleep(MEMORY_SECONDS)


def _write_trace(file: Path, text: str) -> None:
    """Whether it can be written or not, the render is what counts."""
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_text(text)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        _log.warning("the trace could not be written", file=str(file), reason=str(error))


def check_trace(file: Path, output: Path) -> None:
    """Raises InvalidOption if a trace cannot be written there, or would overwrite what is no trace, or the output."""
    if not is_folder(file.parent) or is_folder(file):
        raise InvalidOption("trace", str(file), "give the name of a file in a folder that exists")
    try:
        free = file.resolve() != output.resolve() and _may_become_trace(file)
    except OSError as error:
        raise InvalidOption("trace", str(file), f"it cannot be read: {error.strerror}") from None
    if not free:
        raise InvalidOption("trace", str(file), "it would overwrite what is no trace; give it another name")


def _may_become_trace(file: Path) -> bool:
    """Whether nothing is lost: an older trace, an empty file, or none."""
    if not file.exists():
        return True
    if not file.is_file():
        return False
    with file.open("rb") as there:
        return there.read(len(BEGINNING)) in (b"", BEGINNING)


async def settle(
    plan: RenderPlan, given: Workspace, *, recorded: bool = False, limiter: anyio.CapacityLimiter | None = None
) -> RenderPlan:
    """The plan with resolved options. `recorded`: as they were resolved by whoever worked on this very plan first.

    What dead runs left among the temporary files is removed on this occasion.
    """
    await in_thread(lambda: scratch.sweep(Path(tempfile.gettempdir())))
    if plan.options.environment is not None:
        return plan
    options = given.recorded_options() if recorded else None
    if options is None:
        url, base = plan.composition_url, Path(plan.base)
        scene = url if is_url(url) else base / url
        wished = with_paths(plan.options, lambda _, path: str(base / path))
        options = replan(plan, await resolve(scene, given.output, wished, limiter=limiter)).options
        if recorded:
            options = given.record_options(options, replace_old=False)
    return replan(plan, options)


@asynccontextmanager
async def tidied(workspace: Workspace, *, on_failure: Kept) -> AsyncIterator[None]:
    """Leave the work folder as its rule says: nothing after success, finished chunks (or nothing) after a failure."""
    kept = on_failure
    try:
        yield
        kept = "nothing"
    finally:
        with anyio.CancelScope(shield=True):
            await in_thread(lambda: _tidy(workspace, kept), surely=True)


def _tidy(workspace: Workspace, kept: Kept) -> None:
    workspace.sweep(kept)
    workspace.remove_if_empty()


Looked = tuple[dict[int, ChunkResult], tuple[str, ...]]
"""The chunks that can be used, by their ids; why others that are there cannot be, a sentence each."""


async def reuse(plan: RenderPlan, workspace: Workspace, board: Board) -> Looked:
    """The chunks that an earlier run finished, verified; what else lies there is removed. None with resume=False."""
    if not plan.options.resume:
        await in_thread(lambda: workspace.sweep("nothing"))
        return {}, ()
    found = await look(plan, workspace, board)
    await in_thread(lambda: workspace.sweep("ours", [chunk for chunk in plan.chunks if chunk.id in found[0]]))
    return found


async def look(plan: RenderPlan, workspace: Workspace, board: Board, *, again: bool = True) -> Looked:
    """The plan's chunks that are there and can be used, and why others cannot. `again`: these are rendered again."""
    reused: dict[int, ChunkResult] = {}
    refused: list[tuple[RenderChunk, str]] = []
    for chunk in plan.chunks:
        found = await in_thread(partial(workspace.look, chunk), stoppable=True)
        if found.sidecar is not None:
            reused[chunk.id] = reused_result(chunk, found.sidecar)
            board.emit(ChunkReused(chunk.id, chunk.frame_count))
        elif found.reason is not None:
            refused.append((chunk, found.reason))
    return reused, say_discarded(refused, again=again)


def say_discarded(refused: Sequence[tuple[RenderChunk, str]], *, again: bool = True) -> tuple[str, ...]:
    """A sentence for each reason why finished chunks are not used. `again`: they are rendered again."""
    verdict = "rendered again" if again else "of no use"
    chunks: dict[str, list[int]] = {}
    for chunk, reason in refused:
        chunks.setdefault(reason, []).append(chunk.id)
    said = tuple(
        f"{f'{len(ids)} chunks are' if len(ids) > 1 else f'chunk {ids[0]} is'} {verdict}: {reason}"
        for reason, ids in chunks.items()
    )
    for sentence in said:
        _log.warning("finished before, but of no use", why=sentence)
    return said


async def join_and_publish(plan: RenderPlan, workspace: Workspace, board: Board) -> None:
    _log.debug("the chunks are joined", stage="concat")
    board.enter("concat")
    join = partial(concat, plan, workspace.folder, on_progress=board.moved("concat"))
    heard = await retried(join, doing="joining the chunks", never=(ChunkDamaged,))
    _log.debug("the sound is mixed", stage="mix")
    board.enter("mix")
    part = workspace.part(workspace.output)
    final = partial(mix, plan, workspace.folder, part, heard=heard, on_progress=board.moved("mix"))
    await retried(final, doing="mixing the sound", never=(ChunkDamaged,))
    _log.debug("the output is published", stage="publish")
    await in_thread(partial(workspace.publish, part))


def reused_result(chunk: RenderChunk, sidecar: Sidecar) -> ChunkResult:
    return ChunkResult(chunk.id, attempts=0, seconds=0.0, capture=sidecar.capture, warnings=sidecar.warnings)


def summarise(plan: RenderPlan, workspace: Workspace, board: Board, chunks: Sequence[ChunkResult]) -> RenderResult:
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


async def reporting(run: Callable[[], Awaitable[Outcome]], board: Board, on_progress: OnProgress | None) -> Outcome:
    if on_progress is None:
        return await run()
    async with open_task_group() as tasks:
        tasks.start_soon(_report, board, on_progress)
        outcome = await run()
    return outcome  # noqa: RET504 - to mypy, any `async with` may swallow the error


async def _report(board: Board, on_progress: OnProgress) -> None:
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
