"""What a run of any program costs, measured from outside: seconds, CPU of its tree and of the whole machine, memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

SAMPLE_SECONDS = 0.1
"""How often the CPU of a tree of processes is read; what one uses between its last sample and its end is missed."""

CHILDREN_EVERY = 2
"""New processes are looked for at each so many-th sample: all of the machine's have to be looked at."""

MEMORY_EVERY = 20
"""Proportional memory is read at each so many-th sample: the kernel walks through all pages, 29 ms for two browsers,
and they wait for it."""

FIRST_MEMORY = 4
"""The first of these: in the very first sample a program is not what it will be yet."""

UNNAMED = "chromium browser"
"""The kind of a part of a Chromium that ended before it was asked for its command line."""

DEAD = {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}

STILL = {psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP, *DEAD}
"""What a process may be in after SIGSTOP; from the last it wakes up only to be stopped."""

SLICE_SECONDS = 1.0
"""Of two programs that take turns, how long each runs before it is the other's turn."""

MARK = "ASYNCRENDER_BENCHMARK"
"""An environment variable by which all processes of a run are found, also those it leaves behind."""


@dataclass(frozen=True)
class Program:
    """What can be measured."""

    argv: Sequence[str]
    folder: Path
    """Its working directory; what it says is kept there. No two programs of one time share it."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to our own environment."""


@dataclass(frozen=True)
class Usage:
    """One run. CPU is user + system time."""

    seconds: float
    machine_cpu_seconds: float
    """Of the whole machine between start and end: other load on it counts, children that escaped count too."""
    cpu_seconds: dict[str, float]
    """Of the run's tree of processes, by kind."""
    peak_memory_mb: float
    """Proportional set size of the whole tree: shared pages are counted once."""
    returncode: int
    left_behind: int
    """Processes that outlived the run, and were killed."""
    stdout: str
    stderr: str
    """Its last 4000 characters."""


@dataclass
class _Tree:
    kinds: dict[psutil.Process, str] = field(default_factory=dict)
    cpu: dict[psutil.Process, float] = field(default_factory=dict)
    peak: int = 0
    alive: list[psutil.Process] = field(default_factory=list)
    samples: int = 0

    def look(self, root: psutil.Process) -> None:
        """One sample. It shares the machine with what it measures, so what costs much is done seldom."""
        if self.samples % CHILDREN_EVERY == 0:
            self.alive = _family(root)
            for process in self.alive:
                with suppress(psutil.Error):  # it ended meanwhile
                    # asked again: a process may have been a shell before it became what it is
                    self.kinds[process] = by_name(process) or self.kinds.get(process, UNNAMED)
        for process in self.alive:
            with suppress(psutil.Error):
                times = process.cpu_times()
                self.cpu[process] = times.user + times.system
        if self.samples % MEMORY_EVERY == FIRST_MEMORY:
            self.peak = max(self.peak, sum(_proportional_bytes(process) for process in self.alive))
        self.samples += 1

    def by_kind(self) -> dict[str, float]:
        sums: dict[str, float] = {}
        for process, seconds in self.cpu.items():
            kind = self.kinds.get(process, UNNAMED)
            sums[kind] = sums.get(kind, 0.0) + seconds
        return sums


def by_name(process: psutil.Process) -> str:
    """The kind of a process: the parts of a Chromium, ffmpeg, or the program's own name.

    "" for a part that has just ended, and has no command line any more: it stays what it was.
    """
    name = process.name()
    if "chrom" in name or "headless" in name:
        words = process.cmdline()
        if not words:
            return ""
        types = [word.partition("=")[2] for word in words if word.startswith("--type=")]
        return f"chromium {types[0] if types else 'browser'}"
    return "ffmpeg" if name.startswith("ffmpeg") else name


class Run:
    """A program that is alive only while somebody waits for it; it and all its children end with the block."""

    def __init__(self, program: Program, timeout_seconds: float) -> None:
        """It is killed when it has run for `timeout_seconds`; time in which it was stopped does not count."""
        self._program, self._timeout = program, timeout_seconds
        self._files = [program.folder / f"{stream}.txt" for stream in ("stdout", "stderr")]
        self._mark, self._tree = uuid.uuid4().hex, _Tree()
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped: set[psutil.Process] = set()
        self._left_behind = 0
        self._over = False
        """Whatever was its was looked for, and killed."""
        self._machine = 0.0
        self.seconds = 0.0
        """How long it has run."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._over:
            self._end()

    @property
    def ended(self) -> bool:
        return self._child is not None and self._child.returncode is not None

    def advance(self, seconds: float) -> None:
        """Start it, or let it go on, for so long, or to its end. All its processes are stopped until the next call."""
        if self.ended:
            return
        began, machine = time.perf_counter(), _machine_cpu_seconds()
        until = began + min(seconds, self._timeout - self.seconds)
        child = self._child = self._child or self._start()
        root = psutil.Process(child.pid)
        for process in self._stopped:
            with suppress(psutil.Error):
                process.resume()
        while child.poll() is None and (left := until - time.perf_counter()) > 0:
            self._tree.look(root)
            with suppress(subprocess.TimeoutExpired):
                child.wait(min(SAMPLE_SECONDS, left))
        if not self.ended:
            self._stop(root)
        self.seconds += time.perf_counter() - began
        self._machine += _machine_cpu_seconds() - machine
        if self.ended or self.seconds >= self._timeout:
            self._end()

    def usage(self) -> Usage:
        """What it took, once it has ended."""
        assert self._child is not None
        return Usage(
            seconds=self.seconds,
            machine_cpu_seconds=self._machine,
            cpu_seconds=self._tree.by_kind(),
            peak_memory_mb=self._tree.peak / 2**20,
            returncode=self._child.returncode,
            left_behind=self._left_behind,
            stdout=self._files[0].read_text(errors="replace"),
            stderr=self._files[1].read_text(errors="replace")[-4000:],
        )

    def _start(self) -> subprocess.Popen[bytes]:
        with self._files[0].open("wb") as stdout, self._files[1].open("wb") as stderr:
            return subprocess.Popen(
                self._program.argv,
                cwd=self._program.folder,
                env={**os.environ, **self._program.env, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def _stop(self, root: psutil.Process) -> None:
        """Until all were seen to be still, and then all again: who is not yet stopped may start others.

        A Chromium's processes write over their environment: only as children are they found.
        """
        self._stopped, calm = set(), 0
        while calm < 2:
            present = {*_family(root), *_marked(self._mark)}
            for process in present - self._stopped:
                with suppress(psutil.Error):
                    process.suspend()
            self._stopped |= present
            calm = calm + 1 if all(_is(process, STILL) for process in present) else 0

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        left = [process for process in {*self._stopped, *_marked(self._mark)} if not _is(process, DEAD)]
        for process in left:
            with suppress(psutil.Error):
                process.kill()
                self._left_behind += 1
        while not all(_is(process, DEAD) for process in left):  # killed is not yet ended
            time.sleep(0.001)
        self._over = True


def measure(program: Program, *, timeout_seconds: float) -> Usage:
    """Run a program to its end; it and its children are killed after `timeout_seconds`, or if we are interrupted."""
    with Run(program, timeout_seconds) as run:
        run.advance(timeout_seconds)
    return run.usage()


def measure_in_turn(
    one: Program, other: Program, *, timeout_seconds: float, between: Callable[[float], None] = lambda _: None
) -> tuple[list[Usage], Usage]:
    """Two programs at once, of which only one runs at a time, second by second: both have had the same machine.

    `one` is run again until `other` has ended. A repetition less than half of which ran beside `other` is dropped.
    While `other` is there, `between` is called after each of its turns, when both stand, with its seconds until then.
    """
    usages: list[Usage] = []
    with Run(other, timeout_seconds) as beside:
        while not (usages and beside.ended):
            with Run(one, timeout_seconds) as run:
                while not run.ended:
                    run.advance(SLICE_SECONDS)
                    if usages and beside.ended and run.seconds < usages[0].seconds / 2:
                        break
                    beside.advance(SLICE_SECONDS)
                    if not beside.ended:
                        between(beside.seconds)
                else:
                    usages.append(run.usage())
    return usages, beside.usage()


def end_runs_on_termination() -> None:
    """From now on SIGTERM ends us as Ctrl-C does: through the `finally` blocks, which end the run under way."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _is(process: psutil.Process, states: set[str]) -> bool:
    """One that is gone is in any state."""
    with suppress(psutil.Error):
        return process.status() in states
    return True


def _proportional_bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error):  # it has ended
        return int(process.memory_full_info().pss)
    return 0


def _family(root: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):  # it has ended
        return [root, *root.children(recursive=True)]
    return []


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                yield process


def _machine_cpu_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0)


def our_render(job: Mapping[str, object], folder: Path) -> Program:
    """One render by asyncrender, in a process of its own; `job` is what `benchmarks.one` takes."""
    return Program([sys.executable, "-m", "benchmarks.one", json.dumps(job)], folder, importable())


def importable() -> dict[str, str]:
    """The environment in which a child finds `benchmarks`, wherever its folder is."""
    return {"PYTHONPATH": str(Path(__file__).parents[1])}
