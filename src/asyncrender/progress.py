"""Events fold into a tally, the tally shows one monotone figure. Pure: times come in with the events.

Progress is state, not a queue: who looks late sees the present, and nothing piles up meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Stage = Literal["prepare", "render", "concat", "mix", "done"]
STAGES: tuple[Stage, ...] = ("prepare", "render", "concat", "mix", "done")

SHARES: dict[Stage, tuple[float, float]] = {
    "prepare": (0.0, 0.0),
    "render": (0.0, 0.94),
    "concat": (0.94, 0.96),
    "mix": (0.96, 0.999),
    "done": (1.0, 1.0),
}
"""Which part of the whole each stage covers: from, to. Rendering frames is nearly all of the work."""


# ---- what happens: emitted by those who work, folded here


@dataclass(frozen=True)
class StageBegan:
    stage: Stage
    at: float
    """Seconds on a monotonic clock."""


@dataclass(frozen=True)
class ChunkReused:
    """A finished chunk of an earlier run was verified and is used."""

    chunk: int
    frames: int


@dataclass(frozen=True)
class ChunkBegan:
    """An attempt starts at the chunk's first frame."""

    chunk: int
    attempt: int


@dataclass(frozen=True)
class FrameWritten:
    """The encoder has taken frame number `frames` of the chunk (1 … frame count)."""

    chunk: int
    frames: int
    at: float


@dataclass(frozen=True)
class ChunkFinished:
    chunk: int
    frames: int


@dataclass(frozen=True)
class StageMoved:
    """Concat or mix has come this far, 0 … 1."""

    stage: Stage
    fraction: float
    at: float


@dataclass(frozen=True)
class Slice:
    """Something that took a while. Only emitted where the options ask for a trace."""

    lane: str
    """Where: one thing after another, or one within another."""
    name: str
    began: float
    ended: float
    facts: dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """A counter's values at one moment. Only emitted where the options ask for a trace."""

    name: str
    values: dict[str, float]
    at: float


Event = StageBegan | ChunkReused | ChunkBegan | FrameWritten | ChunkFinished | StageMoved | Slice | Reading


# ---- what users see


@dataclass(frozen=True)
class Progress:
    """How far a render is. Never goes back, not even when a chunk is tried again."""

    stage: Stage
    frames_done: int
    """Frames that lie in finished or growing chunks."""
    frames_total: int
    fraction: float
    """0 … 1 over all stages; exactly 1.0 only when the output is in its place."""
    fps: float | None
    """Frames rendered per second of this run so far; None until one was."""
    eta_seconds: float | None
    """Time left, by the speed so far; None while that is unknown."""
    chunks_done: int
    chunks_total: int
    elapsed_seconds: float


@dataclass(frozen=True)
class ChunkResult:
    """How one chunk came to be."""

    id: int
    attempts: int
    """0: a finished chunk of an earlier run was used."""
    seconds: float
    capture: str
    """The path its frames took: raw, beginframe or screenshot."""
    warnings: tuple[str, ...] = ()
    """What its page complained of: missing images, answered dialogs."""


@dataclass(frozen=True)
class RenderResult:
    """A finished render."""

    output: Path
    frames: int
    fps: float
    """The output's frame rate."""
    duration: float
    """Seconds: frames ÷ rate."""
    seconds: dict[str, float]
    """Wall time by stage, and "total"."""
    chunks: tuple[ChunkResult, ...]
    warnings: tuple[str, ...]
    discarded: tuple[str, ...] = ()
    """Why chunks that an earlier run had finished were rendered again, a sentence for each reason."""


@dataclass(frozen=True)
class Finished:
    """Terminal event: the output is in its place."""

    result: RenderResult


@dataclass(frozen=True)
class Failed:
    """Terminal event: the render failed."""

    error: Exception
    """An AsyncRenderError, unless it is a defect."""


@dataclass(frozen=True)
class Cancelled:
    """Terminal event: `job.cancel()` was called, and everything is tidied."""


JobEvent = Progress | Finished | Failed | Cancelled


@dataclass
class Tally:
    """What is known so far. `fold` takes an event in; `progress` gives what to show."""

    frames_total: int
    chunks_total: int
    began: float
    """Seconds on the clock the events use."""
    stage: Stage = "prepare"
    frames_done: int = 0
    reused: int = 0
    _now: float = 0.0
    _stage_began: dict[Stage, float] = field(default_factory=dict)
    _stage_fraction: float = 0.0
    _frames: dict[int, int] = field(default_factory=dict)
    _finished: set[int] = field(default_factory=set)

    def fold(self, event: Event) -> None:
        match event:
            case StageBegan(stage, at) if STAGES.index(stage) >= STAGES.index(self.stage):
                if stage not in self._stage_began:  # else it is tried again, and keeps what it showed
                    self.stage, self._stage_fraction = stage, 0.0
                    self._stage_began[stage] = self._now = at
            case StageMoved(stage, fraction, at) if stage == self.stage:
                self._stage_fraction = max(self._stage_fraction, min(fraction, 1.0))
                self._now = max(self._now, at)
            case FrameWritten(chunk, frames, at):
                self._raise(chunk, frames)
                self._now = max(self._now, at)
            case ChunkFinished(chunk, frames):
                self._raise(chunk, frames)
                self._finished.add(chunk)
            case ChunkReused(chunk, frames):
                self._raise(chunk, frames)
                self._finished.add(chunk)
                self.reused += frames

    def _raise(self, chunk: int, frames: int) -> None:
        """The chunk's high-water mark: a second attempt does not take back what the first one showed."""
        before = self._frames.get(chunk, 0)
        if frames > before:
            self._frames[chunk] = frames
            self.frames_done += frames - before

    def progress(self) -> Progress:
        fps = self._fps()
        within = self.frames_done / self.frames_total if self.stage == "render" else self._stage_fraction
        start, end = SHARES[self.stage]
        return Progress(
            stage=self.stage,
            frames_done=self.frames_done,
            frames_total=self.frames_total,
            fraction=start + (end - start) * within,
            fps=fps,
            eta_seconds=self._eta(fps),
            chunks_done=len(self._finished),
            chunks_total=self.chunks_total,
            elapsed_seconds=max(0.0, self._now - self.began),
        )

    def _fps(self) -> float | None:
        began = self._stage_began.get("render")
        rendered = self.frames_done - self.reused
        until = self._stage_began.get("concat", self._now)
        return rendered / (until - began) if began is not None and rendered > 0 and until > began else None

    def _eta(self, fps: float | None) -> float | None:
        if self.stage == "done":
            return 0.0
        return (self.frames_total - self.frames_done) / fps if fps and self.stage == "render" else None

    def seconds_by_stage(self, ended: float) -> dict[str, float]:
        """Wall time of each stage that began, and of the whole."""
        times = sorted((at, stage) for stage, at in self._stage_began.items() if stage != "done")
        ends = [*(at for at, _ in times[1:]), ended]
        spent: dict[str, float] = {stage: end - at for (at, stage), end in zip(times, ends, strict=True)}
        return {**spent, "total": ended - self.began}
