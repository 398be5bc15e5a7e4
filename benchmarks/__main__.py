"""Renders a scene with 1 and 2 workers in turn, each run in a process of its own, and says what it cost.

python -m benchmarks [--runs 3] [--frames 180] [--scene PATH] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

SCENE = Path(__file__).parents[1] / "examples" / "hello" / "scene.html"

SAMPLE_SECONDS = 0.05
"""How often the tree of processes is looked at; what one uses between its last sample and its end is missed."""


@dataclass(frozen=True)
class Run:
    """One render, as measured from outside. CPU is user + system time."""

    workers: int
    frames: int
    seconds: float
    """Of the call of `asyncrender.render`."""
    first_frame_seconds: float
    """From that call until the first frame was encoded."""
    render_fps: float
    """Frames ÷ seconds of the stage that renders; browser start included, resolve, concat and mix left out."""
    browser_cpu_ms: float
    """Per frame."""
    ffmpeg_cpu_ms: float
    ours_cpu_ms: float
    peak_memory_mb: float
    """Proportional set size of the whole tree: shared pages are counted once."""


@dataclass
class _Usage:
    cpu: dict[int, tuple[str, float]]
    peak: int = 0

    def look(self, root: psutil.Process) -> None:
        memory = 0
        for process in [root, *root.children(recursive=True)]:
            try:
                times = process.cpu_times()
                self.cpu[process.pid] = (_kind(process, root), times.user + times.system)
                memory += process.memory_full_info().pss
            except psutil.Error:
                continue  # it ended meanwhile
        self.peak = max(self.peak, memory)

    def of(self, kind: str) -> float:
        return sum(seconds for which, seconds in self.cpu.values() if which == kind)


def _kind(process: psutil.Process, root: psutil.Process) -> str:
    if process == root:
        return "ours"
    name = process.name()
    return "browser" if "chrom" in name or "headless" in name else "ffmpeg" if name.startswith("ff") else "other"


def measure(scene: Path, workers: int, frames: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        job = {"scene": str(scene), "output": f"{folder}/out.mp4", "workers": workers, "frames": frames}
        argv = [sys.executable, "-m", "benchmarks.one", json.dumps(job)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
            root, usage = psutil.Process(child.pid), _Usage({})
            while child.poll() is None:
                usage.look(root)
                time.sleep(SAMPLE_SECONDS)
            assert child.stdout is not None
            said = json.loads(child.stdout.read())
        if child.returncode or said["probed_frames"] != frames:
            raise SystemExit(f"the run failed: exit code {child.returncode}, {said}")
    per_frame = 1000 / frames
    return Run(
        workers=workers,
        frames=frames,
        seconds=said["seconds"],
        first_frame_seconds=said["first_frame_seconds"],
        render_fps=frames / said["render_seconds"],
        browser_cpu_ms=usage.of("browser") * per_frame,
        ffmpeg_cpu_ms=usage.of("ffmpeg") * per_frame,
        ours_cpu_ms=usage.of("ours") * per_frame,
        peak_memory_mb=usage.peak / 2**20,
    )


def table(runs: list[Run]) -> str:
    """Medians for each number of workers, as Markdown."""
    columns = {
        "render_fps": "fps",
        "first_frame_seconds": "first frame, s",
        "seconds": "whole call, s",
        "browser_cpu_ms": "browser CPU, ms/frame",
        "ffmpeg_cpu_ms": "ffmpeg CPU, ms/frame",
        "ours_cpu_ms": "our CPU, ms/frame",
        "peak_memory_mb": "peak memory, MB",
    }
    rows = [["workers", *columns.values()], ["---"] * (len(columns) + 1)]
    for workers in sorted({run.workers for run in runs}):
        some = [run for run in runs if run.workers == workers]
        medians = [statistics.median(getattr(run, name) for run in some) for name in columns]
        rows.append([str(workers), *(f"{median:.3g}" for median in medians)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=180)
    parser.add_argument("--scene", type=Path, default=SCENE)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    runs = []
    for _ in range(given.runs):
        for workers in (1, 2):  # in turn, so that a busy spell of the machine meets both
            runs.append(measure(given.scene.resolve(), workers, given.frames))
            print(f"workers {workers}: {runs[-1].render_fps:.1f} fps", file=sys.stderr)
    machine = {
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    print(
        f"{given.scene.name}, 1920x1080 at 30 fps, {given.frames} frames, x264 medium crf 18, {machine['cores']} cores;"
    )
    print(f"medians of {given.runs} alternating runs\n\n{table(runs)}")
    if given.json:
        given.json.write_text(json.dumps({"machine": machine, "runs": [asdict(run) for run in runs]}, indent=2))


if __name__ == "__main__":
    main()
