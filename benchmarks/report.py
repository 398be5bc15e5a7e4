"""Measured figures become tables (Markdown). Whatever is shown is a median; what failed says so."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.compare import GROUPS, OURS, Contest

Row = Sequence[object]

ENGINE_COLUMNS = (
    *("scene", "size", "workers", "frames by", "x264", "fps", "limit", "efficiency"),
    *("page", "capture", "transport", "convert", "encode", "ours"),
    *("page, wall", "picture, wall", "first frame, s", "start-up, s", "memory, MB", "runs"),
)
PEER_COLUMNS = (
    *("renderer", "fps", "ours ÷ it", "start-up, s", "CPU ms/frame", "memory, MB", "late by", "worst dB", "runs"),
)
CONVERSION = ("scene", "size", "browser alone", "conversion", "x264 medium", "x264 ultrafast")

AGREEMENT = 0.1
"""Two runs agree on a ratio that differs by no more than this share."""


def table(columns: Sequence[str], rows: Iterable[Row]) -> str:
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def medians(rows: Iterable[dict[str, Any]], key: Sequence[str]) -> dict[tuple[Any, ...], dict[str, float]]:
    """Rows with the same `key`: the median of each of their figures; figures in figures are named with a dot."""
    grouped: dict[tuple[Any, ...], list[dict[str, float]]] = defaultdict(list)
    for row in rows:
        grouped[tuple(row[name] for name in key)].append(_figures(row))
    return {
        which: {"runs": float(len(some)), **{name: statistics.median(one[name] for one in some) for name in some[0]}}
        for which, some in grouped.items()
    }


def _figures(row: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= _figures(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            flat[prefix + name] = float(value)
    return flat


def engine_table(results: dict[str, Any]) -> str:
    limits = {(one["scene"], one["size"], one["preset"]): one for one in results["limits"]}
    runs = [{**run, **run["config"], "path": run["capture"]} for run in results["engine"]]
    rows = []
    for key, found in medians(runs, ("scene", "size", "workers", "path", "preset")).items():
        scene, size, workers, path, preset = key
        limit = limits[scene, size, preset]
        speed = [found["fps"], limit["fps"], f"{found['fps'] / limit['fps']:.0%}"]
        wall = [found["wall_ms.page"], found["wall_ms.picture"]]
        rest = [found["first_frame_seconds"], found["startup_seconds"], found["peak_memory_mb"], int(found["runs"])]
        rows.append([scene, size, workers or "auto", path, preset, *speed, *_stages(found, limit), *wall, *rest])
    return table(ENGINE_COLUMNS, rows)


def _stages(found: dict[str, float], limit: dict[str, float]) -> list[float]:
    """CPU milliseconds of a frame: page, capture, transport, convert, encode, ours."""
    convert, encode = limit["convert_ms"], limit["encode_ms"]
    capture = found["cpu_ms.draw"] + found["cpu_ms.code"]
    transport = found["cpu_ms.ffmpeg"] - convert - encode
    return [found["cpu_ms.page"], capture, transport, convert, encode, found["cpu_ms.ours"]]


def limits_table(results: dict[str, Any]) -> str:
    by_place: dict[tuple[str, str], dict[str, dict[str, float]]] = defaultdict(dict)
    for one in results["limits"]:
        by_place[one["scene"], one["size"]][one["preset"]] = one
    rows = []
    for (scene, size), found in by_place.items():
        alone = found["medium"]
        encode = [found[preset]["encode_ms"] for preset in GROUPS.values()]
        rows.append([scene, size, alone["browser_ms"], alone["convert_ms"], *encode])
    return table(CONVERSION, rows)


def standings(results: dict[str, Any]) -> dict[tuple[str | None, str], list[tuple[str, dict[str, float]]]]:
    """By class and scene: the renderers with their medians, the fastest first, those behind that are not ranked."""
    good = [_with_figures(one) for one in results["contests"] if one["fault"] is None]
    places: dict[tuple[str | None, str], list[tuple[str, dict[str, float]]]] = defaultdict(list)
    for (group, scene, renderer), found in medians(good, ("group", "scene", "renderer")).items():
        places[group, scene].append((renderer, found))
    return {place: sorted(some, key=lambda one: (-one[1]["ranked"], -one[1]["fps"])) for place, some in places.items()}


def ratios(results: dict[str, Any]) -> dict[tuple[str, str, str], float]:
    """(class, scene, peer): our throughput ÷ the peer's, the median over the rounds.

    Only runs that took turns are compared: they had the same machine.
    """
    right = [_with_figures(one) for one in results["contests"] if one["fault"] is None]
    ours = {(*_place(one), one["beside"]): one["fps"] for one in right if one["renderer"] == OURS}
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for one in right:
        beside = ours.get((*_place(one), one["renderer"]))
        if beside and one["ranked"]:
            found[one["group"], one["scene"], one["renderer"]].append(beside / one["fps"])
    return {which: statistics.median(some) for which, some in found.items()}


def _place(contest: dict[str, Any]) -> tuple[Any, ...]:
    return contest["round"], contest["group"], contest["scene"]


def _with_figures(contest: dict[str, Any]) -> dict[str, Any]:
    made = Contest(**{**contest, "frames": tuple(contest["frames"])})
    return {
        **asdict(made),
        "fps": made.fps,
        "startup_seconds": made.startup_seconds,
        "cpu_ms": made.cpu_ms,
    }


def peers_tables(results: dict[str, Any]) -> str:
    parts, places, ours = [], standings(results), ratios(results)
    for group in (*GROUPS, None):
        for (which, scene), some in sorted(places.items(), key=lambda place: str(place[0])):
            if which != group:
                continue
            about = f"class {group}: x264 {GROUPS[group]}, crf 18" if group else "not ranked"
            rows = []
            for renderer, found in some:
                ratio = ours.get((str(group), scene, renderer), "")
                figures = [found["startup_seconds"], found["cpu_ms"], found["peak_memory_mb"]]
                right = [f"{found['shift']:.0f}", found["lowest_psnr_db"], int(found["runs"])]
                name = renderer if found["ranked"] or group is None else f"({renderer})"
                rows.append([name, found["fps"], ratio, *figures, *right])
            parts.append(f"### {scene}, {about}\n\n{table(PEER_COLUMNS, rows)}")
    failed = sorted(
        {(c["renderer"], c["scene"], str(c["group"]), c["fault"]) for c in results["contests"] if c["fault"]}
    )
    if failed:
        listed = "\n".join(f"- {name}, {scene}, class {group}: {fault}" for name, scene, group, fault in failed)
        parts.append(f"### Did not count\n\n{listed}")
    return "\n\n".join(parts)


def document(results: dict[str, Any]) -> str:
    """The whole of RESULTS.md."""
    where, settings = results["machine"], results["settings"]
    facts = (
        f"Measured on {where['date']} at commit {where['commit']}: {where['cores']} cores ({where['processor']}), "
        f"{where['memory_gb']} GB, {where['system']}, {where['browser']}, ffmpeg {where['ffmpeg']}, "
        f"Python {where['python']} ({where.get('loop', 'asyncio')}), "
        f"picture memory: {where.get('picture_memory', 'unknown')}. "
        "The machine is shared: ratios within one run tell more than figures."
    )
    parts = ["# Results", facts, f"Again with: `scripts/benchmark {settings['command']}`".rstrip()]
    if results["engine"]:
        parts += ["## The engine", ENGINE_WORDS, engine_table(results)]
        parts += ["What the parts cost alone, CPU milliseconds a frame:", limits_table(results)]
    if results["contests"]:
        versions = ", ".join(f"{name} {version}" for name, version in sorted(results["versions"].items()))
        parts += ["## Side by side", PEER_WORDS, f"Versions: {versions}.", peers_tables(results)]
    return "\n\n".join(parts) + "\n"


ENGINE_WORDS = """crf 18. Figures are medians without start-up: the difference of a long and a short
render, each in a process of its own. page to ours are CPU milliseconds a frame. page: the renderer process;
capture: the compositor's process, and the browser's, which makes PNGs; transport: what ffmpeg takes beyond
conversion and encoding: to read raw frames, or to decode PNGs and convert their colours; convert and
encode: ffmpeg alone with the same pictures raw; ours: Python. In wall time: page is the scripts and what they asked
for, picture from asking for it until it was there. limit is what the machine could do if only drawing, conversion
and encoding cost anything and all cores were busy with them; efficiency is fps ÷ limit."""

PEER_WORDS = """Whole processes at 1920x1080, 30 frames a second. Each peer and ours take turns, second by second: the
one whose turn it is not is stopped. fps is the slope between the short and the long render; "ours ÷ it" compares those
that took turns. Ours has the workers that `resolve` takes for a long film, in the short render, too. CPU is that of the
whole machine. "late by" is the shift in frames against the reference that fits best, "worst dB" the least similar frame
so shifted, seen small. In brackets: shown, not ranked, because its scenes were drawn again for it."""


def disagreement(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Each ratio of two runs beside the other, the worst first, and how many of them agree."""
    one, two = ratios(first), ratios(second)
    differ = {key: two[key] / one[key] - 1 for key in one.keys() & two.keys()}
    worst_first = sorted(differ, key=lambda key: -abs(differ[key]))
    rows = [[*key, one[key], two[key], f"{differ[key]:+.1%}"] for key in worst_first]
    shown = table(("class", "scene", "peer", "ours ÷ it, first", "second", "differ by"), rows)
    apart = [abs(value) for value in differ.values()]
    within = sum(value <= AGREEMENT for value in apart)
    summary = f"{within} of {len(apart)} within {AGREEMENT:.0%}, median {statistics.median(apart or [0]):.1%}"
    return f"{shown}\n\n{summary}"
