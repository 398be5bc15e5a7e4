"""The chaos harness in its short form; `scripts/chaos` is the long one, with the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from chaos import cancels, deaths, kills, mixed, steady
from chaos.ground import Ground, trodden
from chaos.stages import STAGES

SEED = 20

KILLED = {"frame_count": 24, "chunk_frames": 6}


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with trodden(tmp_path / "ground") as ground:
        yield ground


def wrong(results: list[Any]) -> list[Any]:
    return [result for result in results if result.wrong]


def test_cancelled_at_every_stage(ground: Ground) -> None:
    plan, whole = anyio.run(ground.plan), anyio.run(ground.undisturbed)
    results = [cancels.carry_out(case, ground, plan, whole) for case in cancels.draw(SEED, 16)]
    assert wrong(results) == []
    met = Counter(result.at for result in results)
    assert met.keys() >= set(STAGES), met
    assert sum(met[stage] for stage in STAGES) >= 14, met


def test_killed_processes_are_replaced(ground: Ground) -> None:
    plan = anyio.run(lambda: ground.plan(**KILLED, timeouts=kills.IMPATIENT))
    whole = anyio.run(lambda: ground.undisturbed(**KILLED))
    results = [kills.carry_out(case, ground, plan, whole) for case in kills.draw(SEED, 4, KILLED["frame_count"])]
    assert wrong(results) == []
    assert sum(result.hit is not None for result in results) >= 2


def test_killed_ourselves(ground: Ground) -> None:
    plan, whole = anyio.run(ground.plan), anyio.run(ground.undisturbed)
    seconds = deaths.time_a_run(ground, plan)
    results = [deaths.carry_out(case, ground, plan, whole, seconds) for case in deaths.draw(SEED, 2)]
    assert wrong(results) == []


def test_other_trouble(ground: Ground) -> None:
    results = [mixed.carry_out(case, ground) for case in mixed.draw(SEED, 5)]
    assert wrong(results) == []


def test_many_renders_leave_the_process_as_it_was(ground: Ground) -> None:
    plan = anyio.run(lambda: ground.plan(start_frame=0))
    samples = steady.carry_out(ground, plan, 5, lambda sample: None)
    assert {sample.files for sample in samples} == {samples[0].files}
    assert samples[-1].threads <= samples[2].threads + 1
