"""Measures asyncrender, alone and beside other renderers, and writes results.json, RESULTS.md and plots.

python -m benchmarks [--quick]             everything; --quick: a few minutes, the engine and who is installed already
python -m benchmarks report                the tables and plots again, from results.json
python -m benchmarks diff A.json B.json    how far two runs agree
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import check, compare, engine, limits, machine, meter, peers, plot, report, scenes

HERE = Path(__file__).parent

QUICK_SCENES = ("dom", "slides")

QUICK_PEERS = ("playwright-2", "helios")
"""The quickest that are ranked, of those that are installed; with one scene they take a minute and a half."""


def main() -> None:
    meter.end_runs_on_termination()
    given = _arguments().parse_args()
    if given.action == "diff":
        first, second = (json.loads(file.read_text()) for file in given.files)
        print(report.disagreement(first, second))
        return
    if given.action == "report":
        write(json.loads((given.results / "results.json").read_text()), given.results)
        return
    given.results.mkdir(parents=True, exist_ok=True)
    if not given.quick and "none" not in given.peers:
        subprocess.run([HERE / "peers" / "install", *given.peers], check=True)
    results: dict[str, Any] = {
        "machine": machine.facts(),
        "settings": {"command": shlex.join(_results_argument().parse_known_args()[1])},
        "versions": peers.versions(),
        "limits": [],
        "engine": [],
        "contests": [],
    }
    for section, row in measure(given):
        results[section].append(row)
        (given.results / "results.json").write_text(json.dumps(results, indent=1))
        say(section, row)
    write(results, given.results)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.partition("\n")[0], parents=[_results_argument()]
    )
    parser.add_argument("action", nargs="?", choices=["run", "report", "diff"], default="run")
    parser.add_argument("files", nargs="*", type=Path, help="two results.json, for diff")
    parser.add_argument(
        "--quick", action="store_true", help="few frames, one round, few scenes and peers, nothing installed"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scenes", nargs="+", choices=scenes.SCENES, default=None)
    parser.add_argument("--sizes", nargs="+", choices=scenes.SIZES, default=None)
    parser.add_argument("--peers", nargs="+", default=[], metavar="NAME", help="some of them, or none")
    parser.add_argument("--frames", nargs=2, type=int, metavar="N", help="short and long render of the peers")
    parser.add_argument("--no-engine", action="store_true", help="only side by side")
    parser.add_argument("--long", action="store_true", help="the engine with long films, and only as `resolve` decides")
    return parser


def _results_argument() -> argparse.ArgumentParser:
    """Apart from the others: where the results go is no part of how to measure again."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="FOLDER")
    return parser


def measure(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """(section, row) of everything that was asked for, as it is measured."""
    rounds = 1 if given.quick else given.rounds
    chosen = given.scenes or (QUICK_SCENES if given.quick else scenes.SCENES)
    if not given.no_engine:
        for scene in chosen:
            for size in given.sizes or (["1080p"] if given.quick else scenes.SIZES):
                yield from _measure_engine(scene, size, rounds, quick=given.quick, long=given.long)
    names = given.peers or (QUICK_PEERS if given.quick else [peer.name for peer in peers.PEERS])
    named = [peer for peer in peers.PEERS if peer.name in names]
    present = [] if "none" in given.peers else [peer for peer in named if peers.installed(peer)]
    wished = given.frames or ((30, 90) if given.quick else None)
    shown = [scene for scene in compare.SCENES if scene in chosen][: 1 if given.quick else None]
    if present:
        frames = {scene: tuple(wished) if wished else compare.FRAMES[scene] for scene in shown}
        yield from _measure_contests(frames, present, rounds)


def _measure_contests(
    frames: Mapping[str, tuple[int, int]], present: Sequence[peers.Peer], rounds: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Round by round, so that those of one scene are far apart, and a run that is ended early has whole ones."""
    with tempfile.TemporaryDirectory(prefix="asyncrender-benchmark-") as name:
        folder, references = Path(name), {}
        for scene, theirs in frames.items():
            longest = max(compare.our_frames(theirs, group)[1] for group in compare.GROUPS)
            film = check.render_reference(scene, "1080p", longest, folder)
            references[scene] = check.decode(film)
            film.unlink()
        for number in range(rounds):
            for scene, reference in references.items():
                for contest in compare.contests(scene, present, frames[scene], number, reference, folder):
                    yield "contests", asdict(contest)


def _measure_engine(
    scene: str, size: str, rounds: int, *, quick: bool, long: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    frames = engine.LONG_FRAMES if long else engine.frames_of(size, quick=quick)
    with tempfile.TemporaryDirectory(prefix="asyncrender-benchmark-") as name:
        folder = Path(name)
        film = check.render_reference(scene, size, frames[1], folder)
        reference = check.decode(film)
        presets = list(compare.GROUPS.values())
        for preset, limit in limits.measure(scene, size, presets, film, frames, folder).items():
            yield "limits", {"scene": scene, "size": size, "preset": preset, "fps": limit.fps, **asdict(limit)}
        film.unlink()
        for _ in range(rounds):
            for config in configs(scene, size, quick=quick, long=long):
                yield "engine", asdict(engine.measure(config, frames, reference, folder))


def configs(scene: str, size: str, *, quick: bool, long: bool) -> list[engine.Config]:
    """At 1080p all numbers of workers, ways of capturing and presets, at other sizes what `resolve` would take."""
    automatic = engine.Config(scene, size, workers=None)
    quickest = replace(automatic, preset=compare.GROUPS["B"])
    if long:
        return [engine.as_for_long(config) for config in (automatic, quickest)]
    if size != "1080p" or quick:
        return [automatic]
    workers = [engine.Config(scene, size, workers=count) for count in (1, 2)]
    slower = [engine.Config(scene, size, workers=None, capture=capture) for capture in ("beginframe", "screenshot")]
    return [*workers, automatic, *slower, quickest]


def say(section: str, row: dict[str, Any]) -> None:
    words = {
        "limits": lambda: f"limit {row['scene']} {row['size']} {row['preset']}: {row['fps']:.1f} fps",
        "engine": lambda: f"{' '.join(map(str, row['config'].values()))} by {row['capture']}: {row['fps']:.1f} fps",
        "contests": lambda: f"{row['renderer']} {row['scene']} {row['group']}: {row['fault'] or row['seconds']}",
    }
    print(words[section](), file=sys.stderr, flush=True)


def write(results: dict[str, Any], folder: Path) -> None:
    text = report.document(results)
    (folder / "RESULTS.md").write_text(text)
    ranked = {one["group"] for one in results["contests"] if one["fault"] is None}
    for group in ranked & compare.GROUPS.keys():
        plot.plot(results, group, folder / f"class-{group}.svg")
    print(text)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
