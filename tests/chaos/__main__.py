"""The long form: `scripts/chaos [--seed N] [--cancels N] [--kills N] [--deaths N] [--troubles N] [--renders N]`.

Prints what was measured, each case that went wrong, and ends with 1 if there was one.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

from chaos import cancels, deaths, kills, mixed, steady
from chaos.ground import Ground, trodden
from chaos.stages import STAGES

KILLED = {"frame_count": 24, "chunk_frames": 6}
"""Of the renders whose processes are killed: long enough that something is left to be killed."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    for name, count in (("cancels", 500), ("kills", 100), ("deaths", 20), ("troubles", 60), ("renders", 300)):
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N")
    given = parser.parse_args()
    wrong = 0
    with _folder() as folder, trodden(folder) as ground:
        print(f"seed {given.seed}, {platform.platform()}, {os.cpu_count()} processors")
        for name in ("cancels", "kills", "deaths", "troubles", "renders"):
            if count := getattr(given, name):
                wrong += SERIES[name](ground, given.seed, count)
    print("nothing went wrong" if not wrong else f"{wrong} cases went wrong")
    return 1 if wrong else 0


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for all, with one for temporary files in it, which has to be empty in the end."""
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        temporary = Path(folder) / "t"
        temporary.mkdir()
        before = tempfile.tempdir, os.environ.get("TMPDIR")
        tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
        try:
            yield Path(folder) / "ground"
        finally:
            tempfile.tempdir = before[0]
            os.environ.pop("TMPDIR") if before[1] is None else os.environ.update(TMPDIR=before[1])


def _cancels(ground: Ground, seed: int, count: int) -> int:
    plan, whole = anyio.run(ground.plan), anyio.run(ground.undisturbed)
    results = _each(cancels.draw(seed, count), lambda case: cancels.carry_out(case, ground, plan, whole))
    met = [result for result in results if result.at is not None]
    print(f"cancels: {len(met)} of {len(results)} met a render under way")
    print("  by stage: " + _counted(result.at for result in met))
    print("  by way:   " + _counted(f"{result.way} on {result.loop}" for result in met))
    print("  cancel to return, s: " + _percentiles([result.seconds for result in met]))
    for stage in STAGES:
        print(f"    {stage:<8} " + _percentiles([result.seconds for result in met if result.at == stage]))
    return _complain(results)


def _kills(ground: Ground, seed: int, count: int) -> int:
    plan = anyio.run(lambda: ground.plan(**KILLED, timeouts=kills.IMPATIENT))
    whole = anyio.run(lambda: ground.undisturbed(**KILLED))
    drawn = kills.draw(seed, count, KILLED["frame_count"])
    results = _each(drawn, lambda case: kills.carry_out(case, ground, plan, whole))
    hit = [result for result in results if result.hit]
    print(f"kills: {len(hit)} of {len(results)} found their victim; each render the same as the undisturbed one")
    print("  " + _counted(f"{result.victim} {result.signal.name}" for result in hit))
    return _complain(results)


def _deaths(ground: Ground, seed: int, count: int) -> int:
    plan, whole = anyio.run(ground.plan), anyio.run(ground.undisturbed)
    seconds = deaths.time_a_run(ground, plan)
    results = _each(deaths.draw(seed, count), lambda case: deaths.carry_out(case, ground, plan, whole, seconds))
    kept, again = sum(result.finished for result in results), sum(result.again for result in results)
    print(f"deaths: {len(results)} at instants all over a run of {seconds:.1f} s, each followed by another run")
    print(f"  {kept} chunks were finished before, {again} of them were rendered again")
    print("  the last child lived on for, s: " + _percentiles([result.orphans_seconds for result in results]))
    return _complain(results)


def _troubles(ground: Ground, seed: int, count: int) -> int:
    results = _each(mixed.draw(seed, count), lambda case: mixed.carry_out(case, ground))
    print("troubles: " + _counted(f"{result.kind}: {result.outcome}" for result in results))
    return _complain(results)


def _renders(ground: Ground, seed: int, count: int) -> int:
    plan = anyio.run(lambda: ground.plan(start_frame=0, seed=seed))
    samples = steady.carry_out(ground, plan, count, lambda sample: None)
    half = samples[len(samples) // 2 :]
    growth = steady.slope([sample.rss for sample in half])
    first, last = samples[0], samples[-1]
    print(f"renders: {count} in one process")
    print(f"  open files {first.files} -> {last.files}, threads {first.threads} -> {last.threads}")
    print(f"  memory {first.rss >> 20} -> {half[0].rss >> 20} -> {last.rss >> 20} MB")
    print(f"  in the second half by {growth / 1024:.2f} KB a render")
    grown = last.files > first.files or last.threads > max(sample.threads for sample in samples[:10])
    return int(grown)


SERIES: dict[str, Callable[[Ground, int, int], int]] = {
    "cancels": _cancels,
    "kills": _kills,
    "deaths": _deaths,
    "troubles": _troubles,
    "renders": _renders,
}


def _each(cases: Iterator[Any], carry_out: Callable[[Any], Any]) -> list[Any]:
    results = []
    for case in cases:
        results.append(carry_out(case))
        if sys.stderr.isatty():
            print(f"\r{len(results)} ", end="", file=sys.stderr, flush=True)
    return results


def _counted(names: Iterator[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(collections.Counter(names).items()))


def _percentiles(values: list[float]) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    shown = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}
    return json.dumps(
        {name: round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 3) for name, part in shown.items()}
    )


def _complain(results: list[Any]) -> int:
    bad = [result for result in results if result.wrong]
    for result in bad:
        print(f"  WRONG: {result}")
    return len(bad)


if __name__ == "__main__":
    sys.exit(main())
