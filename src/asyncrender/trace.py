"""What happened when, as a Chrome trace: a lane for each worker, slices for what it did, counters.

Pure: times come in with the events, or by the clock that a lane is given. The format is Google's "Trace Event Format",
which Perfetto (ui.perfetto.dev) and chrome://tracing open.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from asyncrender.progress import ChunkBegan, ChunkFinished, Event, Reading, Slice, StageBegan

MOST_EVENTS = 1_000_000
"""Some 200 bytes each in memory, and Perfetto's limit of comfort; more are counted, not kept."""

STAGES_LANE = "stages"

BEGINNING = b'{"traceEvents": ['
"""Of a trace as `Trace.to_json` writes it."""

MICROSECONDS = 1_000_000

_NOTHING = nullcontext()


class Lane:
    """Where one thing after another happens. Without `emit` it is off, and costs next to nothing."""

    def __init__(self, name: str, emit: Callable[[Event], None] | None, clock: Callable[[], float]) -> None:
        self._name, self._emit, self._clock = name, emit, clock

    def slice(self, name: str, **facts: Any) -> AbstractContextManager[None]:
        """What happens within the block, however it ends. Slices of a lane may nest, and must not overlap else."""
        return self._timed(name, facts) if self._emit is not None else _NOTHING

    def reading(self, name: str, **values: Callable[[], float]) -> None:
        """The present values of a counter, which are asked for only if the lane is on."""
        if self._emit is not None:
            present = {each: value() for each, value in values.items()}
            self._emit(Reading(f"{self._name}: {name}", present, self._clock()))

    @contextmanager
    def _timed(self, name: str, facts: dict[str, Any]) -> Iterator[None]:
        began = self._clock()
        try:
            yield
        finally:
            assert self._emit is not None
            self._emit(Slice(self._name, name, began, self._clock(), facts))


OFF = Lane("", None, lambda: 0.0)
"""A lane of a render that is not traced."""


class Trace:
    """Events fold into it; `to_json` gives the file's text. `began`: the zero of its times, on the events' clock."""

    def __init__(self, began: float, title: str) -> None:
        self._began, self._title = began, title
        self._lanes: dict[str, int] = {STAGES_LANE: 0}
        self._events: list[dict[str, Any]] = []
        self._stage: StageBegan | None = None
        self._last = began
        self.dropped = 0

    def fold(self, event: Event) -> None:
        match event:
            case Slice(lane, name, began, ended, facts):
                self._slice(lane, name, began, ended, facts)
            case Reading(name, values, at):
                self._keep({"ph": "C", "name": name, "ts": self._micro(at), "args": values})
            case StageBegan(_, at):
                self._close_stage(at)
                self._stage = event
            case ChunkBegan(chunk, attempt):
                self._mark(f"chunk {chunk} begins" + (f", attempt {attempt}" if attempt > 1 else ""))
            case ChunkFinished(chunk, _):
                self._mark(f"chunk {chunk} is finished")

    def to_json(self, ended: float) -> str:
        """`ended`: the end of the last stage, should it not have come to its own."""
        if self._stage is not None:
            self._close_stage(ended)
            self._stage = None
        names = [self._named("process_name", 0, self._title)]
        names += [self._named("thread_name", number, lane) for lane, number in self._lanes.items()]
        other = {"dropped events": self.dropped, "made by": "asyncrender"}
        return json.dumps({"traceEvents": [*names, *self._events], "displayTimeUnit": "ms", "otherData": other})

    def _close_stage(self, at: float) -> None:
        if self._stage is not None and self._stage.stage != "done":
            self._slice(STAGES_LANE, self._stage.stage, self._stage.at, at, {})

    def _slice(self, lane: str, name: str, began: float, ended: float, facts: dict[str, Any]) -> None:
        number = self._lanes.setdefault(lane, len(self._lanes))
        self._last = max(self._last, ended)
        ts = self._micro(began)
        self._keep({"ph": "X", "name": name, "ts": ts, "dur": self._micro(ended) - ts, "tid": number, "args": facts})

    def _mark(self, name: str) -> None:
        self._keep({"ph": "i", "s": "p", "name": name, "ts": self._micro(self._last), "tid": 0})

    def _keep(self, event: dict[str, Any]) -> None:
        if len(self._events) < MOST_EVENTS:
            self._events.append({"pid": 1, **event})
        else:
            self.dropped += 1

    def _micro(self, at: float) -> float:
        return round((at - self._began) * MICROSECONDS, 1)

    def _named(self, kind: str, number: int, name: str) -> dict[str, Any]:
        return {"ph": "M", "pid": 1, "tid": number, "name": kind, "args": {"name": name}}
