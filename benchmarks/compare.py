"""Side by side with other renderers: the same pages, second by second in turn, so that all have the same machine.

Throughput is a slope, frames ÷ seconds between a short and a long render, so that start-up does not hide in it.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import check, engine, meter, peers
from benchmarks.check import Film
from benchmarks.meter import Usage
from benchmarks.peers import Peer

SCENES = ("dom", "canvas", "slides", "photo")
"""Those of which there is a version for every peer."""

FRAMES = {"dom": (20, 380), "canvas": (10, 160), "slides": (20, 380), "photo": (10, 160)}
"""Of the short and of the long render. What differs most from run to run is start-up, by some tenths of a second, so
the long render must be long: with 120 frames between the two, the eight ratios of `slides` in two runs were 12 % apart
(median), with 300 frames 2.2 %. The scenes that go at ten frames a second get about as many seconds as the others with
fewer frames. What moves in `dom` and `slides` comes round in 120 and 60 frames, so that the mean of more frames is that
of fewer."""

OUR_TIMES = {"A": 2, "B": 4}
"""By class: so many times as many frames lie between our two renders, so that ours last about as long as the quickest
peers'. Beside one that takes longer ours is rendered again and again, and the mean counts."""

GROUPS = {"A": "medium", "B": "ultrafast"}
"""The classes, and x264's preset in each; crf 18 in both. What has another scene or its own bitrate is in none."""

SHORT_EVERY = 3
"""The short render is measured anew each time the long one has gone on for so many times what it takes: with one of
them alone, its start-up and the machine's speed of its minute would count for all of the long one."""

OURS = "asyncrender"

FILM = "out.mp4"

RUN_SECONDS = 900
"""Of one peer's render; some hang now and then, which is a result, too."""


@dataclass(frozen=True)
class Contest:
    """One renderer with one scene in one class, rendered short and long."""

    renderer: str
    scene: str
    group: str | None
    round: int
    frames: tuple[int, int]
    seconds: tuple[float, float]
    """Wall time of the whole process, as long as it was its turn."""
    machine_cpu_seconds: tuple[float, float]
    peak_memory_mb: float
    left_behind: int
    """Processes that outlived their renderer."""
    shift: int
    lowest_psnr_db: float
    fault: str | None
    """Why it does not count."""
    ranked: bool = True
    """False: it is only shown, because its scene was drawn again, or because it is in no class."""
    beside: str | None = None
    """Of ours: the peer with which it took turns."""
    workers: int | None = None
    """Of ours: how many it had, short and long."""

    @property
    def fps(self) -> float:
        return (self.frames[1] - self.frames[0]) / max(1e-9, self.seconds[1] - self.seconds[0])

    @property
    def startup_seconds(self) -> float:
        return self.seconds[0] - self.frames[0] / self.fps

    @property
    def cpu_ms(self) -> float:
        """Of the whole machine, per frame, without start-up."""
        spent = self.machine_cpu_seconds[1] - self.machine_cpu_seconds[0]
        return 1000 * spent / (self.frames[1] - self.frames[0])


@dataclass
class _Length:
    """The short or the long render of one scene in one class: a peer's, and ours beside it."""

    peer: Peer
    scene: str
    group: str | None
    frames: int
    our_frames: int
    folder: Path
    its: list[Usage] = field(default_factory=list)
    mine: list[Usage] = field(default_factory=list)
    """Empty where the peer is in no class."""

    def measure(self, between: Callable[[float], None] = lambda _: None) -> None:
        """Once more; what `between` is, `meter.measure_in_turn` says."""
        theirs = _emptied(self.folder / "theirs")
        peers.prepare(self.peer, self.scene, self.frames, theirs)
        film = theirs / FILM
        program = peers.program(self.peer, self.scene, self.frames, film, theirs, self.group)
        if self.group is None:
            self.its.append(meter.measure(program, timeout_seconds=RUN_SECONDS))
            return
        config = _our_config(self.scene, self.group)
        ours = engine.program(config, self.our_frames, _emptied(self.folder / "ours") / FILM)
        mine, its = meter.measure_in_turn(ours, program, timeout_seconds=RUN_SECONDS, between=between)
        self.mine += mine
        self.its.append(its)

    def render(self, reference: Film, *, ours: bool) -> _Render:
        """What one of the two took, and what became of it: its last film is looked at."""
        usages, frames, side = (self.mine, self.our_frames, "ours") if ours else (self.its, self.frames, "theirs")
        fault = next((fault for fault in map(_fault, usages) if fault), None)
        verdict = check.Verdict(0, 0, 0.0)
        if fault is None:
            verdict = check.compare(check.decode(self.folder / side / FILM), reference[:frames])
            fault = verdict.fault(frames, exact=ours)
        return _Render(frames, usages, fault, verdict)


@dataclass(frozen=True)
class _Render:
    """One length, by one renderer, in all its runs."""

    frames: int
    usages: Sequence[Usage]
    fault: str | None
    verdict: check.Verdict


def contests(
    scene: str, chosen: Iterable[Peer], frames: tuple[int, int], round_number: int, reference: Film, folder: Path
) -> Iterator[Contest]:
    """All who take part, in every class they are in, each at once with us; who is not ranked only in the first round.

    Of the two only one runs at a time, second by second: a machine's speed of now is not that of a minute ago.
    """
    chosen = [peer for peer in chosen if scene in peer.scenes and (peer.ranked or round_number == 0)]
    about = (scene, round_number, reference, folder)
    for group in GROUPS:
        for peer in chosen:
            if group in peer.groups:
                yield from _run(peer, group, frames, *about)
    for peer in chosen:
        if not peer.groups:
            yield from _run(peer, None, frames, *about)


def our_frames(frames: tuple[int, int], group: str) -> tuple[int, int]:
    """Of our own short and long render, beside peers that render `frames`."""
    short, long = frames
    return short, short + OUR_TIMES[group] * (long - short)


def _run(
    peer: Peer, group: str | None, frames: tuple[int, int], scene: str, round_number: int, reference: Film, folder: Path
) -> Iterator[Contest]:
    """The peer's contest, after ours beside it if it is in a class."""
    counts = zip(frames, our_frames(frames, group) if group else frames, strict=True)
    short, long = (_Length(peer, scene, group, *count, _emptied(folder / str(n))) for n, count in enumerate(counts))

    def both_stand(seconds: float) -> None:
        if seconds > SHORT_EVERY * len(short.its) * short.its[0].seconds:
            short.measure()

    peers.set_up(peer)
    short.measure()
    long.measure(both_stand)
    about = {"scene": scene, "group": group, "round": round_number}
    if group is not None:
        renders = [length.render(reference, ours=True) for length in (short, long)]
        workers = _our_config(scene, group).workers
        yield _contest(renders, renderer=OURS, beside=peer.name, workers=workers, **about)
    renders = [length.render(reference, ours=False) for length in (short, long)]
    yield _contest(renders, renderer=peer.name, ranked=peer.ranked, **about)


def _our_config(scene: str, group: str) -> engine.Config:
    return engine.as_for_long(engine.Config(scene, workers=None, preset=GROUPS[group]))


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _contest(renders: Sequence[_Render], **about: Any) -> Contest:
    short, long = renders
    return Contest(
        **about,
        frames=(short.frames, long.frames),
        seconds=_means(renders, "seconds"),
        machine_cpu_seconds=_means(renders, "machine_cpu_seconds"),
        peak_memory_mb=max(usage.peak_memory_mb for usage in long.usages),
        left_behind=max(usage.left_behind for render in renders for usage in render.usages),
        shift=long.verdict.shift,
        lowest_psnr_db=long.verdict.lowest_psnr_db,
        fault=short.fault or long.fault,
    )


def _means(renders: Sequence[_Render], figure: str) -> tuple[float, float]:
    short, long = (statistics.fmean(getattr(usage, figure) for usage in render.usages) for render in renders)
    return short, long


def _fault(usage: Usage) -> str | None:
    if usage.returncode:
        words = (usage.stderr or usage.stdout).strip().splitlines()
        return f"exit code {usage.returncode}: {words[-1] if words else ''}"[:300]
    return None
