"""Side by side with other renderers: the same pages, run in turn, so that a busy spell of the machine meets all.

Throughput is a slope, frames ÷ seconds between a short and a long render, so that start-up does not hide in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import check, engine, meter, peers
from benchmarks.check import Film
from benchmarks.peers import Peer

SCENES = ("dom", "canvas", "slides", "photo")
"""Those of which there is a version for every peer."""

FRAMES = {"dom": (40, 280), "canvas": (20, 120), "slides": (40, 220), "photo": (20, 120)}
"""Of the short and of the long render. A slope's error is that of one run × √(short² + long²) ÷ (long - short): a short
render of a sixth costs 1.2 times it for 1.4 times its frames, one of a half would cost 2.2 times it for 3 times them.
The scenes that go at ten frames a second get as many seconds as the others with fewer frames. What moves in `dom` and
`slides` comes round in 120 and 60 frames, so that the mean of more frames is that of fewer."""

OUR_TIMES = {"A": 2, "B": 4}
"""By class: so many times as many frames lie between our two renders, so that ours last about as long as the others'.
The error of a slope is one of seconds: over the two seconds that the same frames took, it was a tenth."""

GROUPS = {"A": "medium", "B": "ultrafast"}
"""The classes, and x264's preset in each; crf 18 in both. What has another scene or its own bitrate is in none."""

OURS = "asyncrender"

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
    """Wall time of the whole process."""
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


def contests(
    scene: str, chosen: Iterable[Peer], frames: tuple[int, int], round_number: int, reference: Film, folder: Path
) -> Iterator[Contest]:
    """All who take part, one after another, in every class they are in; who is not ranked only in the first round.

    We go before and after each other: we are in every ratio, and a machine's speed of now is not that of a minute ago.
    """
    chosen = [peer for peer in chosen if scene in peer.scenes and (peer.ranked or round_number == 0)]
    for group in GROUPS:
        ours = our_frames(frames, group)
        yield _run(None, scene, group, round_number, ours, reference, folder)
        for peer in chosen:
            if group in peer.groups:
                yield _run(peer, scene, group, round_number, frames, reference, folder)
                yield _run(None, scene, group, round_number, ours, reference, folder)
    for peer in chosen:
        if not peer.groups:
            yield _run(peer, scene, None, round_number, frames, reference, folder)


def our_frames(frames: tuple[int, int], group: str) -> tuple[int, int]:
    """Of our own short and long render, beside peers that render `frames`."""
    short, long = frames
    return short, short + OUR_TIMES[group] * (long - short)


def _run(
    peer: Peer | None,
    scene: str,
    group: str | None,
    round_number: int,
    frames: tuple[int, int],
    reference: Film,
    folder: Path,
) -> Contest:
    usages, fault, verdict = [], None, check.Verdict(0, 0, 0.0)
    for count in frames:
        output = folder / "out.mp4"
        output.unlink(missing_ok=True)
        usage = _measure(peer, scene, group, count, output, folder)
        usages.append(usage)
        fault = fault or _fault(usage)
        if fault is None:
            verdict = check.compare(check.decode(output), reference[:count])
            fault = verdict.fault(count, exact=peer is None)
    return Contest(
        renderer=peer.name if peer else OURS,
        scene=scene,
        group=group,
        round=round_number,
        frames=frames,
        seconds=(usages[0].seconds, usages[1].seconds),
        machine_cpu_seconds=(usages[0].machine_cpu_seconds, usages[1].machine_cpu_seconds),
        peak_memory_mb=usages[1].peak_memory_mb,
        left_behind=max(usage.left_behind for usage in usages),
        shift=verdict.shift,
        lowest_psnr_db=verdict.lowest_psnr_db,
        fault=fault,
        ranked=peer is None or peer.ranked,
    )


def _measure(peer: Peer | None, scene: str, group: str | None, frames: int, output: Path, folder: Path) -> meter.Usage:
    if peer is None:
        config = engine.Config(scene, workers=None, preset=GROUPS[group or "A"])
        argv = engine.job(config, frames, output)
        return meter.measure(argv, folder=folder, env=meter.importable(), timeout_seconds=RUN_SECONDS)
    peers.prepare(peer, scene, frames, folder)
    command = peers.command(peer, scene, frames, output, folder, group)
    return meter.measure(command.argv, folder=command.folder, env=command.env, timeout_seconds=RUN_SECONDS)


def _fault(usage: meter.Usage) -> str | None:
    if usage.returncode:
        words = (usage.stderr or usage.stdout).strip().splitlines()
        return f"exit code {usage.returncode}: {words[-1] if words else ''}"[:300]
    return None
