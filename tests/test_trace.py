"""A trace shows what took how long, in a form that Perfetto opens, however the render ends; without one, nothing is."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

import asyncrender as ar
from asyncrender import stages, trace
from asyncrender.progress import ChunkBegan, Event, Slice, StageBegan
from frames import SCENES, left_in, small

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def read(file: Path) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
    """(slices by lane, readings by counter) of a trace that holds to the format."""
    events = json.loads(file.read_text())["traceEvents"]
    lanes = {one["tid"]: one["args"]["name"] for one in events if one["name"] == "thread_name"}
    slices: dict[str, list[dict[str, Any]]] = {}
    readings: dict[str, list[dict[str, Any]]] = {}
    for one in events:
        assert one["pid"] == 1
        if one["ph"] == "X":
            assert one["ts"] >= 0
            assert one["dur"] >= 0
            slices.setdefault(lanes[one["tid"]], []).append(one)
        elif one["ph"] == "C":
            readings.setdefault(one["name"], []).append(one)
    return slices, readings


def overlaps(slices: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Pairs in one lane of which neither lies within the other: Perfetto would misplace them."""
    ordered = sorted((one["ts"], -one["dur"], one["ts"] + one["dur"], one["name"]) for one in slices)
    pairs = itertools.combinations(ordered, 2)
    return [(a[3], b[3]) for a, b in pairs if a[0] < b[0] < a[2] - 1 and b[2] > a[2] + 1]


async def test_each_frame_of_each_worker_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "MEMORY_SECONDS", 0.02)  # so short an encoder's life may lie between two looks
    file = tmp_path / "elsewhere" / "trace.json"
    file.parent.mkdir()
    file.write_text('{"traceEvents": [], "made": "by an older one"}')
    options = small(frame_count=12, concurrency=2, trace=str(file))
    result = await ar.render(SCENES / "css.html", tmp_path / "out.mkv", options)
    assert left_in(tmp_path) == {"out.mkv", "elsewhere"}
    assert left_in(file.parent) == {"trace.json"}
    slices, readings = read(file)
    assert [one["name"] for one in slices["stages"]] == ["resolve", "prepare", "render", "concat", "mix"]
    render = slices["stages"][2]
    assert render["dur"] / 1e6 == pytest.approx(result.seconds["render"], abs=0.01)
    for worker in (0, 1):
        browser, encoder = slices[f"worker {worker} browser"], slices[f"worker {worker} encoder"]
        mine = list(range(6 * worker, 6 * worker + 6))
        for lane, name in ((browser, "page"), (browser, "picture"), (encoder, "write")):
            assert [one["args"]["frame"] for one in lane if one["name"] == name] == mine
        once = Counter(one["name"] for one in [*browser, *encoder])
        assert once["launch the browser"] == once["load the page"] == once["drain"] == once["publish"] == 1
        assert once["preroll"] == worker
        assert not overlaps(browser)
        assert not overlaps(encoder)
        assert {one["args"]["frames"] for one in readings[f"worker {worker} browser: queue"]} <= {0, 1, 2, 3}
    assert any("ffmpeg" in one["args"] for one in readings["memory, MB"])


async def test_a_plan_writes_its_trace_beside_the_output(tmp_path: Path) -> None:
    options = await ar.resolve(SCENES / "css.html", tmp_path / "out.mkv", small(frame_count=2, trace="spans.json"))
    plan = ar.RenderOrchestrator.plan(SCENES / "css.html", tmp_path / "out.mkv", options)
    async with ar.open_render(plan) as job:
        await job.result()
    assert left_in(tmp_path) == {"out.mkv", "spans.json"}
    assert [one["name"] for one in read(tmp_path / "spans.json")[0]["stages"]] == ["prepare", "render", "concat", "mix"]


async def test_a_failed_render_has_one_too(tmp_path: Path) -> None:
    page = ar.Html("<script>asyncrender.seek = (time, frame) => { if (frame === 3) throw new Error('no') }</script>")
    with pytest.raises(ar.PageThrew):
        await ar.render(page, tmp_path / "out.mkv", small(frame_count=9, trace=str(tmp_path / "t.json")))
    slices, _ = read(tmp_path / "t.json")
    assert [one["args"]["frame"] for one in slices["worker 0 browser"] if one["name"] == "page"] == [0, 1, 2, 3]
    assert left_in(tmp_path) == {"t.json"}


async def test_a_cancelled_render_has_one_too(tmp_path: Path) -> None:
    with anyio.CancelScope() as scope:

        def stop(progress: ar.Progress) -> None:
            if progress.frames_done > 2:
                scope.cancel()

        options = small(frame_count=2000, trace=str(tmp_path / "t.json"), resume=False)
        await ar.render(SCENES / "css.html", tmp_path / "out.mkv", options, on_progress=stop)
    assert scope.cancelled_caught
    assert read(tmp_path / "t.json")[0]["worker 0 browser"]
    assert left_in(tmp_path) == {"t.json"}


async def test_a_trace_that_cannot_be_written_does_not_fail_the_render(tmp_path: Path) -> None:
    def in_the_way(progress: ar.Progress) -> None:
        (tmp_path / "t.json").mkdir(exist_ok=True)

    options = small(frame_count=2, trace=str(tmp_path / "t.json"))
    result = await ar.render(SCENES / "css.html", tmp_path / "out.mkv", options, on_progress=in_the_way)
    assert result.output.is_file()
    assert left_in(tmp_path) == {"out.mkv", "t.json"}


@pytest.mark.parametrize("name", ["out.mkv", "nowhere/t.json", "style.css", "scene.html", "folder", "pipe", "x" * 999])
async def test_it_overwrites_nothing_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for file in ("style.css", "scene.html", "out.mkv"):
        (tmp_path / file).write_text("kept")
    for scene in (tmp_path / "scene.html", (tmp_path / "scene.html").as_uri()):
        with pytest.raises(ar.InvalidOption, match="trace"):
            await ar.render(scene, tmp_path / "out.mkv", small(frame_count=2, trace=str(tmp_path / name)))
    if "/" not in name and name != "out.mkv":
        plan = ar.RenderOrchestrator.plan(scene, tmp_path / "out.mkv", small(frame_count=2, trace=name))
        with pytest.raises(ar.InvalidOption, match="trace"):
            await ar.RenderOrchestrator().render(plan)
    assert {(tmp_path / file).read_text() for file in ("style.css", "scene.html", "out.mkv")} == {"kept"}
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("name", ["../t.json", "/t.json", "a/t.json", "..", "out.mkv", ".out.mkv.asyncrender"])
def test_a_plan_names_a_plain_file(name: str) -> None:
    plan = ar.RenderOrchestrator.plan("/scene.html", "/films/out.mkv", small(frame_count=2, trace="t.json"))
    if name != ".out.mkv.asyncrender":
        with pytest.raises(ar.InvalidOption, match="trace"):
            ar.RenderOrchestrator.plan("/scene.html", "/films/out.mkv", small(frame_count=2, trace=name))
    text = plan.model_dump_json().replace('"t.json"', json.dumps(name))
    with pytest.raises(ValidationError, match="trace"):
        ar.RenderPlan.model_validate_json(text)


def test_it_does_not_change_what_is_rendered() -> None:
    plans = [
        ar.RenderOrchestrator.plan("scene.html", "out.mkv", small(frame_count=2, trace=name))
        for name in ("t.json", None)
    ]
    assert plans[0].fingerprint == plans[1].fingerprint


def test_a_lane_that_is_off_says_nothing_and_one_that_is_on_also_what_failed() -> None:
    events: list[Event] = []
    with trace.OFF.slice("anything", frame=1):
        trace.OFF.reading("queue", frames=lambda: 1 / 0)
    times = iter((1.0, 3.5))
    lane = trace.Lane("worker 0", events.append, lambda: next(times))
    with pytest.raises(ZeroDivisionError), lane.slice("page", frame=7):
        raise ZeroDivisionError
    assert events == [Slice("worker 0", "page", 1.0, 3.5, {"frame": 7})]


def test_a_stage_ends_where_the_next_begins_and_too_many_events_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MOST_EVENTS", 3)
    whole = trace.Trace(10.0, "a film")
    for event in (StageBegan("prepare", 10.0), StageBegan("render", 10.5), ChunkBegan(0, 2), ChunkBegan(1, 1)):
        whole.fold(event)
    told = json.loads(whole.to_json(12.0))
    kept = [one for one in told["traceEvents"] if one["ph"] != "M"]
    assert [(one["name"], one["ts"], one.get("dur")) for one in kept] == [
        ("prepare", 0.0, 500_000.0),
        ("chunk 0 begins, attempt 2", 500_000.0, None),
        ("chunk 1 begins", 500_000.0, None),
    ]
    assert told["otherData"]["dropped events"] == 1
