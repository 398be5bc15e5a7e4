"""What a run of any program costs, measured from outside: seconds, CPU of its tree and of the whole machine, memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.05
"""How often the tree of processes is looked at; what one uses between its last sample and its end is missed."""

MEMORY_EVERY = 5
"""Proportional memory is read at each so many-th sample: it costs the kernel a walk through all pages."""

MARK = "ASYNCRENDER_BENCHMARK"
"""An environment variable by which whatever a run leaves behind is found, and ended."""


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
    kind: Callable[[psutil.Process], str]
    cpu: dict[tuple[int, float], tuple[str, float]] = field(default_factory=dict)
    peak: int = 0

    def look(self, root: psutil.Process, *, memory: bool) -> None:
        used = 0
        with suppress(psutil.Error):
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error):  # it ended meanwhile
                    key, times = (process.pid, process.create_time()), process.cpu_times()
                    # asked each time: a process may have been a shell before it became what it is
                    self.cpu[key] = (self.kind(process), times.user + times.system)
                    if memory:
                        used += process.memory_full_info().pss
        self.peak = max(self.peak, used)

    def by_kind(self) -> dict[str, float]:
        sums: dict[str, float] = {}
        for kind, seconds in self.cpu.values():
            sums[kind] = sums.get(kind, 0.0) + seconds
        return sums


def by_name(process: psutil.Process) -> str:
    """The kind of a process: the parts of a Chromium, ffmpeg, or the program's own name."""
    name = process.name()
    if "chrom" in name or "headless" in name:
        types = [word.partition("=")[2] for word in process.cmdline() if word.startswith("--type=")]
        return f"chromium {types[0] if types else 'browser'}"
    return "ffmpeg" if name.startswith("ffmpeg") else name


def measure(
    argv: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str] | None = None,
    timeout_seconds: float,
    kind: Callable[[psutil.Process], str] = by_name,
) -> Usage:
    """Run a program to its end; it and all its children are killed after `timeout_seconds`, or if we are interrupted.

    `folder` is its working directory. `env` is added to our own environment.
    """
    out, err = folder / "stdout.txt", folder / "stderr.txt"
    mark = uuid.uuid4().hex
    began, machine = time.perf_counter(), _machine_cpu_seconds()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        child = subprocess.Popen(
            argv,
            cwd=folder,
            env={**os.environ, **(env or {}), MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            root, tree, samples = psutil.Process(child.pid), _Tree(kind), 0
            while child.poll() is None:
                tree.look(root, memory=samples % MEMORY_EVERY == 0)
                samples += 1
                if time.perf_counter() - began > timeout_seconds:
                    break
                with suppress(subprocess.TimeoutExpired):
                    child.wait(SAMPLE_SECONDS)
            ended, machine = time.perf_counter(), _machine_cpu_seconds() - machine
        finally:
            child.kill()
            child.wait()
            left = _end_marked(mark)
    return Usage(
        seconds=ended - began,
        machine_cpu_seconds=machine,
        cpu_seconds=tree.by_kind(),
        peak_memory_mb=tree.peak / 2**20,
        returncode=child.returncode,
        left_behind=left,
        stdout=out.read_text(errors="replace"),
        stderr=err.read_text(errors="replace")[-4000:],
    )


def end_runs_on_termination() -> None:
    """From now on SIGTERM ends us as Ctrl-C does: through the `finally` blocks, which end the run under way."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _end_marked(mark: str) -> int:
    found = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                process.kill()
                found += 1
    return found


def _machine_cpu_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0)


def importable() -> dict[str, str]:
    """The environment in which a child finds `benchmarks`, wherever its folder is."""
    return {"PYTHONPATH": str(Path(__file__).parents[1])}
