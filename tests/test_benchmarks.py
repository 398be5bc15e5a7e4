"""A benchmark that takes a wrong film for a right one, or an old figure for a new one, is worse than none."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import check, compare, meter, report


def film(frames: int) -> check.Film:
    """A square that wanders over a dark ground."""
    columns, rows = check.SMALL
    pictures = np.zeros((frames, rows, columns, 3), np.uint8)
    for frame in range(frames):
        pictures[frame, 40:90, 4 * frame : 4 * frame + 50] = 200
    return pictures


def test_the_same_film_is_right() -> None:
    verdict = check.compare(film(20), film(20))
    assert (verdict.frames, verdict.shift) == (20, 0)
    assert verdict.fault(20, exact=True) is None
    assert verdict.fault(21, exact=True) == "20 frames instead of 21"


@pytest.mark.parametrize("late", [-2, -1, 1, 2])
def test_a_film_that_is_late_is_found_out(late: int) -> None:
    wanted = np.clip(np.arange(20) - late, 0, 19)
    verdict = check.compare(film(20)[wanted], film(20))
    assert verdict.shift == late
    assert verdict.fault(20, exact=False) is None
    assert verdict.fault(20, exact=True) == f"it is {late} frames late"


@pytest.mark.parametrize("blank", [0, 7, 19])
def test_one_blank_frame_is_enough(blank: int) -> None:
    broken = film(20)
    broken[blank] = 255
    assert "not the reference" in (check.compare(broken, film(20)).fault(20, exact=False) or "")


def test_a_frozen_film_is_found_out() -> None:
    frozen = np.repeat(film(20)[:1], 20, axis=0)
    assert check.compare(frozen, film(20)).fault(20, exact=False)


def test_cost_is_that_of_the_whole_tree_and_nothing_is_left(tmp_path: Path) -> None:
    busy = "import time; end = time.process_time() + 1\nwhile time.process_time() < end: pass"
    nap = "import subprocess, sys; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    run = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}]); {nap}; print('done')"
    usage = meter.measure(meter.Program([sys.executable, "-c", run], tmp_path), timeout_seconds=60)
    assert (usage.returncode, usage.stdout, usage.left_behind) == (0, "done\n", 1)
    assert sum(usage.cpu_seconds.values()) > 0.7
    assert usage.machine_cpu_seconds > 0.9
    assert usage.peak_memory_mb > 1


def test_a_part_of_a_browser_that_is_just_ending_stays_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its memory's end and its own a process has no command line; that moment cannot be provoked."""
    tree = meter._Tree()
    with subprocess.Popen(["sleep", "600"]) as child:
        process = psutil.Process(child.pid)
        monkeypatch.setattr(psutil.Process, "name", lambda _: "chromium")
        monkeypatch.setattr(psutil.Process, "cmdline", lambda _: ["chromium", "--type=renderer"])
        tree.look(process)
        monkeypatch.setattr(psutil.Process, "cmdline", lambda _: [])
        for _ in range(meter.CHILDREN_EVERY):
            tree.look(process)
        child.kill()
    assert tree.by_kind().keys() == {"chromium renderer"}


def test_what_hangs_is_ended(tmp_path: Path) -> None:
    usage = meter.measure(meter.Program(["sleep", "600"], tmp_path), timeout_seconds=0.2)
    assert usage.returncode == -9
    assert usage.seconds < 60


WORKER = """
import sys, time
seconds, log = float(sys.argv[1]), open(sys.argv[2], "a")
while seconds > 0:
    time.sleep(0.005)
    seconds -= 0.005
    print(time.monotonic(), file=log, flush=True)
"""


def worker(folder: Path, seconds: float) -> meter.Program:
    """What writes the time of its steps into a log, in a child in a session of its own, which has lost its mark."""
    folder.mkdir()
    argv = [sys.executable, "-c", WORKER, str(seconds), str(folder / "log")]
    start = f"import subprocess; subprocess.run({argv!r}, start_new_session=True, env={{}})"
    return meter.Program([sys.executable, "-c", start], folder)


def test_of_two_that_take_turns_only_one_runs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "SLICE_SECONDS", 0.1)
    programs = {name: worker(tmp_path / name, seconds) for name, seconds in (("short", 0.4), ("long", 1.6))}
    repeated, once = meter.measure_in_turn(*programs.values(), timeout_seconds=60)
    assert not once.returncode
    assert not any(usage.returncode for usage in repeated)
    assert len(repeated) > 1
    assert not [found for found in psutil.process_iter(["cmdline"]) if str(tmp_path / "short") in str(found.info)]
    logs = {name: (program.folder / "log").read_text().split() for name, program in programs.items()}
    steps = sorted((float(time), name) for name, times in logs.items() for time in times)
    assert len(steps) >= 320 + 80 * len(repeated)
    turns = sum(one != other for (_, one), (_, other) in itertools.pairwise(steps))
    seconds = once.seconds + sum(usage.seconds for usage in repeated)
    assert 4 <= turns <= seconds / meter.SLICE_SECONDS + 2 * len(repeated)


def test_a_third_may_be_measured_while_two_that_take_turns_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "SLICE_SECONDS", 0.1)
    one, other, third = (worker(tmp_path / name, seconds) for name, seconds in (("a", 0.4), ("b", 0.4), ("c", 0.1)))
    spans, seen = [], []

    def between(seconds: float) -> None:
        began = time.monotonic()
        assert not meter.measure(third, timeout_seconds=60).returncode
        spans.append((began, time.monotonic()))
        seen.append(seconds)

    meter.measure_in_turn(one, other, timeout_seconds=60, between=between)
    assert len(seen) > 1
    assert seen == sorted(seen)
    steps = [float(time) for program in (one, other) for time in (program.folder / "log").read_text().split()]
    assert not [step for step in steps if any(began < step < ended for began, ended in spans)]


def test_of_two_that_take_turns_the_one_that_hangs_is_ended(tmp_path: Path) -> None:
    programs = [meter.Program(["sleep", "0.1"], tmp_path / "one"), meter.Program(["sleep", "600"], tmp_path / "two")]
    for program in programs:
        program.folder.mkdir()
    repeated, once = meter.measure_in_turn(*programs, timeout_seconds=0.5)
    assert once.returncode == -9
    assert not any(usage.returncode for usage in repeated)


def test_a_benchmark_that_is_terminated_ends_its_run(tmp_path: Path) -> None:
    words = ["import sys, pathlib", "from benchmarks import meter", "meter.end_runs_on_termination()"]
    words.append("meter.measure(meter.Program(['sleep', '61.5'], pathlib.Path(sys.argv[1])), timeout_seconds=60)")
    argv = [sys.executable, "-c", "; ".join(words), str(tmp_path)]
    with subprocess.Popen(argv, env={**os.environ, **meter.importable()}) as benchmark:
        parent = psutil.Process(benchmark.pid)
        while not (runs := parent.children()):
            assert benchmark.poll() is None
            time.sleep(0.01)
        benchmark.terminate()
    assert benchmark.returncode == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(runs, timeout=60)  # killed, but perhaps not yet dead
    assert not alive


def contest(renderer: str, fps: float, **more: Any) -> dict[str, Any]:
    about = {"scene": "dom", "group": "A", "round": 0, "machine_cpu_seconds": (1, 2), "peak_memory_mb": 1, "shift": 0}
    told = {"left_behind": 0, "lowest_psnr_db": 40.0, "fault": None, **more}
    return {"renderer": renderer, "frames": (10, 110), "seconds": (1.0, 1.0 + 100 / fps), **about, **told}


def beside(peer: str, ours: float, theirs: float, **more: Any) -> list[dict[str, Any]]:
    return [contest(compare.OURS, ours, beside=peer, **more), contest(peer, theirs, **more)]


def test_a_ratio_is_that_of_those_who_took_turns() -> None:
    once = [*beside("one", 30.0, 10.0), *beside("two", 45.0, 10.0)]
    assert report.ratios({"contests": once}) == pytest.approx({("A", "dom", "one"): 3.0, ("A", "dom", "two"): 4.5})
    blank = [contest(compare.OURS, 30.0, beside="one", fault="blank"), contest("one", 10.0)]
    late = [contest(compare.OURS, 30.0, beside="two"), contest("two", 10.0, fault="late")]
    other = [contest(compare.OURS, 30.0, beside="three", group="B"), contest("three", 10.0)]
    shown = [contest(compare.OURS, 30.0, beside="four"), contest("four", 10.0, ranked=False)]
    assert report.ratios({"contests": [*blank, *late, *other, *shown]}) == {}
    rounds = [row for number, fps in enumerate((10.0, 15.0, 30.0)) for row in beside("one", 30.0, fps, round=number)]
    assert report.ratios({"contests": rounds})["A", "dom", "one"] == pytest.approx(2.0)


def test_two_runs_are_compared_ratio_by_ratio() -> None:
    first = [*beside("one", 30.0, 10.0), *beside("two", 30.0, 10.0)]
    second = [*beside("one", 30.0, 9.5), *beside("two", 30.0, 8.0), *beside("three", 30.0, 8.0)]
    said = report.disagreement({"contests": first}, {"contests": second})
    rows = [line for line in said.splitlines() if "dom" in line]
    assert [row.split("|")[3].strip() for row in rows] == ["two", "one"]  # what only one run has is not compared
    assert "+25.0%" in rows[0]
    assert said.endswith("1 of 2 within 10%, median 15.1%")
