"""Cancelled at every stage, in every way, on every loop: how long it takes, and whether anything is left."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import anyio

import asyncrender as ar
from chaos.ground import LOOPS_OPTIONS, OLD, Ground, loop_factory
from chaos.stages import STAGE_SECONDS, STAGES, Moment, watched
from frames import digests

ANYWHERE = ("scope", "deadline", "job", "leave", "sibling")
ASYNCIO_ONLY = ("task", "task-twice", "loop")

COUNTS = {"launch": 2, "load": 2, "preroll": 2, "capture": 4, "drain": 4}
"""How often a stage begins in one render: two workers, four chunks."""


@dataclass(frozen=True)
class Cancel:
    """One case and, once it was run, what came of it."""

    loop: str
    way: str
    stage: str
    nth: int
    delay: float
    at: str | None = None
    """The stage it really met; None: the render was over before."""
    seconds: float = 0.0
    """From the cancel to the return."""
    wrong: tuple[str, ...] = ()


class Sibling(Exception):
    """What another task of the user fails with."""


def draw(seed: int, count: int) -> Iterator[Cancel]:
    """Cases that take turns at stages and ways; the moment within a stage is drawn."""
    dice = random.Random(seed)
    for number in range(count):
        stage, loop = STAGES[number % len(STAGES)], dice.choice(tuple(LOOPS_OPTIONS))
        way = dice.choice(ANYWHERE if loop == "trio" else ANYWHERE + ASYNCIO_ONLY)
        delay = 0.0 if dice.random() < 0.4 else dice.uniform(0, 0.6 * STAGE_SECONDS.get(stage, 0))
        yield Cancel(loop, way, stage, dice.randint(1, COUNTS.get(stage, 1)), delay)


def carry_out(case: Cancel, ground: Ground, plan: ar.RenderPlan, whole: list[str]) -> Cancel:
    """Run one case from its loop's birth to its death, and look at what is left."""
    moment, wrong = Moment(case.stage, case.nth, case.delay), []
    seen: list[float] = []
    with watched(moment):
        if case.way in ASYNCIO_ONLY:
            wrong += _on_asyncio(case, plan, moment)
            finished = False
        else:
            finished = anyio.run(_anywhere, case, plan, moment, wrong, seen, **LOOPS_OPTIONS[case.loop])
    seconds = time.monotonic() - moment.acted_at
    if seen != sorted(seen):
        wrong.append("progress went back")
    published = moment.now == "publish" and ground.output.read_bytes() != OLD
    wrong += ground.check(whole=whole if finished else None) if not published or finished else _published(ground, whole)
    if finished and moment.at not in (None, "publish", "mix"):
        wrong.append(f"finished, although it was cancelled in {moment.at}")
    ground.clear()
    return Cancel(case.loop, case.way, case.stage, case.nth, case.delay, moment.at, seconds, tuple(wrong))


def _published(ground: Ground, whole: list[str]) -> list[str]:
    """Cancelled while the film was put in its place: it is there, whole; its chunks may be, too."""
    wrong = [] if digests(ground.output) == whole else ["the output is neither old nor whole"]
    ground.output.write_bytes(OLD)
    return wrong + ground.check()


async def _anywhere(case: Cancel, plan: ar.RenderPlan, moment: Moment, wrong: list[str], seen: list[float]) -> bool:
    """Whether the render finished all the same."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(moment.wait)
        finished = await WAYS[case.way](plan, moment, wrong, seen)
        tasks.cancel_scope.cancel()
    return finished


async def _by_scope(plan: ar.RenderPlan, moment: Moment, wrong: list[str], seen: list[float]) -> bool:
    with anyio.CancelScope() as scope:
        moment.act = scope.cancel
        await ar.RenderOrchestrator().render(plan, on_progress=lambda now: seen.append(now.fraction))
    if scope.cancel_called and scope.cancelled_caught == (seen[-1:] == [1.0]):
        wrong.append("the scope's cancellation got lost")
    return not scope.cancelled_caught


async def _by_deadline(plan: ar.RenderPlan, moment: Moment, wrong: list[str], seen: list[float]) -> bool:
    with anyio.CancelScope() as scope:
        moment.act = lambda: setattr(scope, "deadline", anyio.current_time())
        await ar.RenderOrchestrator().render(plan, on_progress=lambda now: seen.append(now.fraction))
    return not scope.cancelled_caught


async def _by_job(plan: ar.RenderPlan, moment: Moment, wrong: list[str], seen: list[float]) -> bool:
    ends: list[ar.JobEvent] = []
    async with ar.open_render(plan) as job:
        moment.act = job.cancel
        async for event in job.events():
            if isinstance(event, ar.Progress):
                seen.append(event.fraction)
            else:
                ends.append(event)
        try:
            await job.result()
            told = ar.Finished
        except ar.RenderCancelled:
            told = ar.Cancelled  # type: ignore[assignment]
    if [type(end) for end in ends] != [told]:
        wrong.append(f"terminal events {ends}, but the result says {told.__name__}")
    return told is ar.Finished


async def _by_leaving(plan: ar.RenderPlan, moment: Moment, wrong: list[str], seen: list[float]) -> bool:
    leave = anyio.Event()
    moment.act = leave.set
    async with ar.open_render(plan) as job, anyio.create_task_group() as tasks:

        async def until_over() -> None:
            async for _ in job.events():
                pass
            leave.set()

        tasks.start_soon(until_over)
        await leave.wait()
        tasks.cancel_scope.cancel()
    return isinstance(job._outcome, ar.Finished)


async def _by_sibling(plan: ar.RenderPlan, moment: Moment, wrong: list[str], seen: list[float]) -> bool:
    failed, finished = anyio.Event(), []
    moment.act = failed.set

    async def fail() -> None:
        await failed.wait()
        raise Sibling

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            await ar.RenderOrchestrator().render(plan, on_progress=lambda now: seen.append(now.fraction))
            finished.append(True)
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if [type(error) for error in group.exceptions] != [Sibling]:
            wrong.append(f"the sibling's failure came with {group.exceptions!r}")
    return bool(finished)


WAYS = {
    "scope": _by_scope,
    "deadline": _by_deadline,
    "job": _by_job,
    "leave": _by_leaving,
    "sibling": _by_sibling,
}


def _on_asyncio(case: Cancel, plan: ar.RenderPlan, moment: Moment) -> list[str]:
    """The ways that only asyncio's own people know: Task.cancel(), once or again and again, and a loop that ends."""
    wrong: list[str] = []

    async def main() -> None:
        acted = asyncio.Event()
        task = asyncio.create_task(ar.RenderOrchestrator().render(plan))
        waiting = asyncio.create_task(moment.wait())
        tasks.append(task)

        def act() -> None:
            acted.set()
            if case.way != "loop":
                task.cancel()

        moment.act = act
        acting = asyncio.create_task(acted.wait())
        await asyncio.wait([task, acting], return_when=asyncio.FIRST_COMPLETED)
        if case.way == "loop":
            return  # with tasks under way: the loop cancels them as it ends
        for _ in range(case.nth if case.way == "task-twice" else 0):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        waiting.cancel()
        acting.cancel()

    tasks: list[asyncio.Task[ar.RenderResult]] = []
    with asyncio.Runner(loop_factory=loop_factory(case.loop)) as runner:
        runner.run(main())
    if moment.at is not None and not tasks[0].cancelled() and moment.at != "publish":
        wrong.append(f"the task was cancelled, but is {tasks[0]!r}")
    return wrong
