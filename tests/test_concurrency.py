"""How many workers a render gets. Modelled: no machine of these sizes is at hand but the smallest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import asyncrender as ar
from asyncrender.resolve import FRAMES_PER_WORKER, WORKER_BYTES, choose_chunk_frames, choose_concurrency, choose_threads
from asyncrender.specs import RenderOptions

PLENTY = 1 << 42


def workers(capture: str, *, cores: int, memory: int = PLENTY, frames: int = 100_000, jumps: bool = False) -> int:
    options = RenderOptions(frame_count=frames, capture=capture)
    chosen, why = choose_concurrency(options, cores, memory, jumps=jumps)
    assert f"{chosen} workers" in why
    assert f"{cores} cores" in why
    return chosen


@pytest.mark.parametrize(("cores", "raw", "other"), [(1, 1, 1), (2, 1, 2), (3, 2, 3), (8, 4, 8), (64, 32, 64)])
def test_a_raw_worker_fills_two_cores_and_any_other_one(cores: int, raw: int, other: int) -> None:
    assert workers("raw", cores=cores) == raw
    assert workers("beginframe", cores=cores) == workers("screenshot", cores=cores) == other


def test_raw_workers_that_jump_get_a_core_each() -> None:
    assert workers("raw", cores=8, jumps=True) == workers("beginframe", cores=8, jumps=True) == 8


@pytest.mark.parametrize(("gigabytes", "expected"), [(0, 1), (1, 1), (8, 11), (16, 23), (64, 32)])
def test_memory_bounds_the_workers_of_64_cores(gigabytes: int, expected: int) -> None:
    assert workers("raw", cores=64, memory=gigabytes << 30) == expected
    assert expected == 1 or expected * WORKER_BYTES <= gigabytes << 30


@pytest.mark.parametrize(("frames", "expected"), [(1, 1), (59, 1), (60, 2), (300, 10), (3000, 32)])
def test_a_worker_gets_as_many_frames_as_pay_for_its_browser(frames: int, expected: int) -> None:
    assert workers("raw", cores=64, frames=frames) == expected
    assert expected == 1 or frames // expected >= FRAMES_PER_WORKER


def test_what_was_asked_for_is_obeyed() -> None:
    chosen, why = choose_concurrency(RenderOptions(concurrency=5, frame_count=1, capture="raw"), 1, 0, jumps=True)
    assert (chosen, why) == (5, "5 workers were asked for")


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(1, 1, 1), (2, 1, 3), (2, 2, 1), (2, 5, 1), (8, 4, 3), (8, 1, 8), (64, 64, 1)]
)
def test_an_encoder_has_threads_for_the_cores_of_its_worker(cores: int, workers: int, threads: int) -> None:
    assert choose_threads(cores, workers) == threads


@pytest.mark.parametrize(
    ("frames", "workers", "chunks"),
    [(2000, 1, 3), (1800, 2, 2), (2000, 2, 4), (2700, 2, 4), (3700, 4, 8), (640, 64, 64), (57_601, 64, 128)],
)
def test_all_workers_get_as_many_chunks(frames: int, workers: int, chunks: int) -> None:
    options = RenderOptions(frame_count=frames, concurrency=workers)
    even = options.model_copy(update={"chunk_frames": choose_chunk_frames(options, workers)})
    assert even.chunk_frames <= options.chunk_frames
    assert len(ar.RenderOrchestrator().plan("scene.html", "out.mp4", even).chunks) == chunks


def test_chunks_that_were_asked_for_are_as_long_as_that() -> None:
    assert choose_chunk_frames(RenderOptions(frame_count=2000, chunk_frames=900), 2) == 900


@pytest.mark.anyio
@pytest.mark.parametrize(("wished", "threads"), [(None, 1), (5, 5)])
async def test_threads_and_chunks_are_resolved(wished: int | None, threads: int, tmp_path: Path) -> None:
    options = RenderOptions(frame_count=901_000, concurrency=1000, video={"threads": wished})
    resolved = await ar.resolve(ar.Html("<body>"), tmp_path / "out.mp4", options)
    assert (resolved.video.threads, resolved.chunk_frames) == (threads, 451)
    plan = ar.RenderOrchestrator().plan("scene.html", "out.mp4", RenderOptions(frame_count=10))
    assert plan.options.video.threads == 2


SEEK = "window.asyncrender.seek = time => { document.body.style.opacity = time % 1; };"


@pytest.mark.anyio
async def test_a_seekable_page_gets_a_raw_worker_for_each_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is one is asked only if it, or a script of its own, speaks of it, and if the film is long enough."""
    monkeypatch.setattr("asyncrender.machine.cores", lambda: 2)
    monkeypatch.setattr("asyncrender.machine.free_memory", lambda: PLENTY)
    (tmp_path / "own.js").write_text(SEEK)
    os.mkfifo(tmp_path / "pipe.js")
    pages = {
        f"<body><script>{SEEK}</script>": (2, "never"),
        "<body><script src='own.js?1'></script>": (2, "never"),
        "<body><script>// asyncrender could seek, but nothing is set</script>": (1, "always"),
        "<body><script src='missing.js'></script><script src='//cdn.example/other.js'></script>": (1, "always"),
        "<body><script src='/pipe.js'></script>": (1, "always"),
    }
    scene = tmp_path / "scene.html"
    for page, (count, preroll) in pages.items():
        scene.write_text(page)
        resolved = await ar.resolve(scene, tmp_path / "out.mp4", RenderOptions(frame_count=1200, capture="raw"))
        assert (resolved.concurrency, resolved.preroll) == (count, preroll), page
    resolved = await ar.resolve(
        ar.Html(f"<script>{SEEK}</script>"), tmp_path / "out.mp4", RenderOptions(frame_count=1199)
    )
    assert resolved.concurrency == 1
