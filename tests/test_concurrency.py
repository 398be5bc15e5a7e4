"""How many workers a render gets. Modelled: no machine of these sizes is at hand but the smallest."""

from __future__ import annotations

import pytest

from asyncrender.resolve import FRAMES_PER_WORKER, WORKER_BYTES, choose_concurrency
from asyncrender.specs import RenderOptions

PLENTY = 1 << 42


def workers(capture: str, *, cores: int, memory: int = PLENTY, frames: int = 100_000) -> int:
    options = RenderOptions(frame_count=frames, capture=capture)
    chosen, why = choose_concurrency(options, cores, memory)
    assert f"{chosen} workers" in why
    assert f"{cores} cores" in why
    return chosen


@pytest.mark.parametrize(("cores", "raw", "other"), [(1, 1, 1), (2, 1, 2), (3, 2, 3), (8, 4, 8), (64, 32, 64)])
def test_a_raw_worker_fills_two_cores_and_any_other_one(cores: int, raw: int, other: int) -> None:
    assert workers("raw", cores=cores) == raw
    assert workers("beginframe", cores=cores) == workers("screenshot", cores=cores) == other


@pytest.mark.parametrize(("gigabytes", "expected"), [(0, 1), (1, 1), (8, 11), (16, 23), (64, 32)])
def test_memory_bounds_the_workers_of_64_cores(gigabytes: int, expected: int) -> None:
    assert workers("raw", cores=64, memory=gigabytes << 30) == expected
    assert expected == 1 or expected * WORKER_BYTES <= gigabytes << 30


@pytest.mark.parametrize(("frames", "expected"), [(1, 1), (59, 1), (60, 2), (300, 10), (3000, 32)])
def test_a_worker_gets_as_many_frames_as_pay_for_its_browser(frames: int, expected: int) -> None:
    assert workers("raw", cores=64, frames=frames) == expected
    assert expected == 1 or frames // expected >= FRAMES_PER_WORKER


def test_what_was_asked_for_is_obeyed() -> None:
    chosen, why = choose_concurrency(RenderOptions(concurrency=5, frame_count=1, capture="raw"), 1, 0)
    assert (chosen, why) == (5, "5 workers were asked for")
