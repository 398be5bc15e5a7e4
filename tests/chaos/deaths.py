"""We are killed ourselves, at a random instant: nobody outlives us, and the next run goes on from what was finished."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import psutil

import asyncrender as ar
from chaos.ground import OLD, VANISH_SECONDS, Ground
from chaos.kills import kind
from children import ended
from frames import digests


@dataclass(frozen=True)
class Death:
    """One case and, once it was run, what came of it."""

    instant: float
    """As a part of the time that an undisturbed run takes."""
    finished: int = 0
    """Chunks that were finished when we died."""
    again: int = 0
    """Of those, how many were rendered again all the same."""
    orphans_seconds: float = 0.0
    """How long the last of the children lived on."""
    wrong: tuple[str, ...] = ()


def draw(seed: int, count: int) -> Iterator[Death]:
    """Instants spread over the whole run, each within its own stretch."""
    dice = random.Random(seed)
    for number in range(count):
        yield Death((number + dice.random()) / count)


def command(plan_file: str) -> list[str]:
    """A program that renders a plan and prints each chunk's attempts."""
    return [sys.executable, "-c", PROGRAM, plan_file]


PROGRAM = """
import sys, json, anyio, asyncrender as ar
plan = ar.RenderPlan.model_validate_json(open(sys.argv[1]).read())
result = anyio.run(ar.RenderOrchestrator().render, plan)
print(json.dumps({chunk.id: chunk.attempts for chunk in result.chunks}))
"""


def time_a_run(ground: Ground, plan: ar.RenderPlan) -> float:
    began = time.monotonic()
    subprocess.run(command(_written(ground, plan)), check=True, capture_output=True)
    ground.output.write_bytes(OLD)
    return time.monotonic() - began


def carry_out(case: Death, ground: Ground, plan: ar.RenderPlan, whole: list[str], run_seconds: float) -> Death:
    """Kill one run, look at what is left of it, and run it again."""
    plan_file = _written(ground, plan)
    with subprocess.Popen(command(plan_file), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        time.sleep(case.instant * run_seconds)  # the instant is the case
        relatives = psutil.Process(run.pid).children(recursive=True) if run.poll() is None else []
        run.send_signal(signal.SIGKILL)
        run.communicate()
    wrong, orphans_seconds = _outlived(relatives)
    found = ground.output.read_bytes()
    if found != OLD and digests(ground.output) != whole:
        wrong.append("the output is neither old nor whole")
    finished = _finished(ground)
    second = subprocess.run(command(plan_file), capture_output=True, text=True, check=False)
    again = 0
    if second.returncode:
        wrong.append(f"the second run failed: {second.stderr[-1000:]}")
    else:
        attempts = {int(number): tries for number, tries in json.loads(second.stdout).items()}
        again = sum(attempts[number] != 0 for number in finished)
    wrong += [f"{again} finished chunks were rendered again"] if again else []
    wrong += ground.check(whole=whole)
    ground.clear()
    return replace(case, finished=len(finished), again=again, orphans_seconds=orphans_seconds, wrong=tuple(wrong))


def _outlived(relatives: list[psutil.Process]) -> tuple[list[str], float]:
    """Who lived on for too long, and how long the last one lived. A zombie is dead: to reap it is init's business."""
    began = time.monotonic()
    while alive := [child for child in relatives if not ended(child)]:
        if time.monotonic() - began > VANISH_SECONDS:
            return [f"outlived us: {child.pid} {kind(child)}" for child in alive], VANISH_SECONDS
        time.sleep(0.01)
    return [], time.monotonic() - began


def _written(ground: Ground, plan: ar.RenderPlan) -> str:
    file = ground.folder / "plan.json"
    file.write_text(plan.model_dump_json())
    return str(file)


def _finished(ground: Ground) -> list[int]:
    sidecars = (ground.films / ".out.mkv.asyncrender").glob("chunk-*.json")
    return [int(path.name[len("chunk-") :].split(".")[0]) for path in sidecars]
