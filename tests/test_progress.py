"""Progress: one figure that never goes back, whatever happens in whatever order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import asyncrender as ar
from asyncrender.progress import (
    STAGES,
    ChunkBegan,
    ChunkFinished,
    ChunkReused,
    Event,
    FrameWritten,
    StageBegan,
    StageMoved,
    Tally,
)
from asyncrender.stages import NEWS_SECONDS, Board

SIZES = (5, 5, 4)
TOTAL = sum(SIZES)

chunks = st.integers(0, len(SIZES) - 1)
times = st.floats(0, 1e6)
written = chunks.flatmap(lambda chunk: st.builds(FrameWritten, st.just(chunk), st.integers(1, SIZES[chunk]), times))
random_events = st.lists(
    st.one_of(
        written,
        st.builds(ChunkBegan, chunks, st.integers(1, 3)),
        chunks.map(lambda chunk: ChunkFinished(chunk, SIZES[chunk])),
        chunks.map(lambda chunk: ChunkReused(chunk, SIZES[chunk])),
        st.builds(StageBegan, st.sampled_from(STAGES), times),
        st.builds(StageMoved, st.sampled_from(STAGES[:-1]), st.floats(-1, 2), times),
    ),
    max_size=40,
)


def render(tally: Tally) -> list[Event]:
    """A whole render: chunk 0 was there, chunk 1 is tried twice, chunk 2 goes through at once."""
    attempts = [(1, 1, 3), (1, 2, 5), (2, 1, 4)]
    events: list[Event] = [StageBegan("prepare", 10.0), StageBegan("render", 11.0), ChunkReused(0, 5)]
    for chunk, attempt, frames in attempts:
        events.append(ChunkBegan(chunk, attempt))
        events += [FrameWritten(chunk, frame, 12.0 + frame) for frame in range(1, frames + 1)]
    events += [ChunkFinished(1, 5), ChunkFinished(2, 4), StageBegan("concat", 20.0), StageMoved("concat", 0.5, 21.0)]
    events += [StageBegan("mix", 22.0), StageMoved("mix", 0.2, 22.5), StageMoved("mix", 1.0, 23.0)]
    return [*events, StageBegan("done", 24.0)]


def test_a_render_from_nothing_to_exactly_one() -> None:
    tally = Tally(TOTAL, len(SIZES), began=10.0)
    shown = [tally.progress()]
    for event in render(tally):
        tally.fold(event)
        shown.append(tally.progress())

    assert (shown[0].fraction, shown[0].frames_done, shown[0].stage) == (0.0, 0, "prepare")
    assert all(before.fraction <= after.fraction for before, after in pairwise(shown))
    assert [progress.fraction for progress in shown].count(1.0) == 1
    last = shown[-1]
    assert (last.stage, last.fraction, last.frames_done, last.chunks_done) == ("done", 1.0, TOTAL, 3)
    assert (last.eta_seconds, last.elapsed_seconds) == (0.0, 14.0)


def test_speed_counts_what_this_run_rendered() -> None:
    tally = Tally(TOTAL, len(SIZES), began=0.0)
    for event in (StageBegan("render", 0.0), ChunkReused(0, 5), FrameWritten(1, 3, 2.0)):
        tally.fold(event)
    assert tally.progress().fps == 1.5
    assert tally.progress().eta_seconds == 4.0


def test_seconds_are_told_by_stage() -> None:
    tally = Tally(TOTAL, len(SIZES), began=10.0)
    for event in render(tally):
        tally.fold(event)
    assert tally.seconds_by_stage(24.0) == {"prepare": 1.0, "render": 9.0, "concat": 2.0, "mix": 2.0, "total": 14.0}


@given(random_events)
def test_progress_never_goes_back(events: list[Event]) -> None:
    tally = Tally(TOTAL, len(SIZES), began=0.0)
    before = tally.progress()
    for event in events:
        tally.fold(event)
        now = tally.progress()
        assert 0 <= before.fraction <= now.fraction <= 1
        assert 0 <= before.frames_done <= now.frames_done <= TOTAL
        assert before.chunks_done <= now.chunks_done <= len(SIZES)
        assert STAGES.index(before.stage) <= STAGES.index(now.stage)
        assert (now.fraction == 1.0) == (now.stage == "done")
        assert now.fps is None or now.fps > 0
        assert now.elapsed_seconds >= 0
        before = now


@pytest.mark.anyio
async def test_lookers_are_told_of_frames_now_and_then_and_of_all_else_at_once() -> None:
    options = ar.RenderOptions(width=64, height=64, fps=30, frame_count=TOTAL)
    board = Board(ar.RenderOrchestrator().plan("scene.html", "a.mp4", options))

    def told(event: Event) -> bool:
        changed = board.changed
        board.emit(event)
        return changed.is_set()

    soon = NEWS_SECONDS / 3
    assert [told(FrameWritten(0, 1 + n, 10.0 + n * soon)) for n in range(4)] == [True, False, False, True]
    assert told(ChunkBegan(1, 1))
    assert not told(FrameWritten(0, 5, 10.0 + 4 * soon))
    assert told(ChunkFinished(0, 5))
    assert board.tally.progress().frames_done == 5
