"""Processes of a render are killed, or stopped, at a random frame or stage: it goes on, and the film is the same."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import anyio
import psutil

import asyncrender as ar
from chaos.ground import LOOPS_OPTIONS, Ground
from chaos.stages import Moment, watched

VICTIMS = ("browser", "renderer", "gpu-process", "utility", "ffmpeg")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)

IMPATIENT = ar.Timeouts(launch=20, load=20, ready=20, request=20, frame=4, encode=4, mix=4)
"""So that a stopped process is found out soon."""


@dataclass(frozen=True)
class Kill:
    """One case and, once it was run, what came of it."""

    loop: str
    victim: str
    signal: signal.Signals
    frame: int
    """It is killed when so many frames are done; beyond the last: while the film is joined or mixed."""
    hit: str | None = None
    """What was killed; None: nothing of that kind ran any more."""
    attempts: int = 0
    seconds: float = 0.0
    wrong: tuple[str, ...] = ()


def draw(seed: int, count: int, frames: int) -> Iterator[Kill]:
    dice = random.Random(seed)
    for number in range(count):
        victim = VICTIMS[number % len(VICTIMS)]
        last = frames + 2 if victim == "ffmpeg" else frames - 1
        yield Kill(dice.choice(tuple(LOOPS_OPTIONS)), victim, dice.choice(SIGNALS), dice.randint(0, last))


def carry_out(case: Kill, ground: Ground, plan: ar.RenderPlan, whole: list[str]) -> Kill:
    """Run one case, and look at what is left."""
    began = time.monotonic()
    hit: list[str] = []
    seen: list[float] = []
    wrong: list[str] = []
    attempts = 0
    try:
        result = anyio.run(_disturbed, case, plan, hit, seen, **LOOPS_OPTIONS[case.loop])
        attempts = sum(chunk.attempts for chunk in result.chunks)
    except ar.AsyncRenderError as error:
        wrong.append(f"failed: {error}")
    if seen != sorted(seen) or seen.count(1.0) != (not wrong):
        wrong.append(f"progress went {seen}")
    wrong += ground.check(whole=None if wrong else whole)
    ground.clear()
    seconds = time.monotonic() - began
    return Kill(
        case.loop, case.victim, case.signal, case.frame, hit[0] if hit else None, attempts, seconds, tuple(wrong)
    )


async def _disturbed(case: Kill, plan: ar.RenderPlan, hit: list[str], seen: list[float]) -> ar.RenderResult:
    moment = Moment("concat" if case.frame % 2 else "mix", delay=0.03)
    moment.act = lambda: _strike(case, hit)

    def look(now: ar.Progress) -> None:
        seen.append(now.fraction)
        if not hit and now.frames_done >= case.frame and now.stage == "render":
            _strike(case, hit)

    errors: list[Exception] = []
    with watched(moment):
        async with anyio.create_task_group() as tasks:
            if case.frame > plan.total_frames:
                tasks.start_soon(moment.wait)
            try:
                return await ar.RenderOrchestrator().render(plan, on_progress=look)
            except Exception as error:
                errors.append(error)
            finally:
                tasks.cancel_scope.cancel()
    raise errors[0]


def _strike(case: Kill, hit: list[str]) -> None:
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, ProcessLookupError):
            if child.status() != psutil.STATUS_ZOMBIE and kind(child) == case.victim:
                os.kill(child.pid, case.signal)
                hit.append(f"{case.victim} {child.pid}")
                return


def kind(child: psutil.Process) -> str:
    """ "browser", "renderer", "gpu-process", "utility", "zygote", "ffmpeg", "ffprobe"."""
    words = child.cmdline()
    typed = [word.removeprefix("--type=") for word in " ".join(words).split() if word.startswith("--type=")]
    if typed:
        return typed[0]
    return "browser" if any("--remote-debugging-pipe" in word for word in words) else child.name()
