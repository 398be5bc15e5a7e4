"""Measured figures become plots (SVG)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.compare import GROUPS, OURS
from benchmarks.report import standings


def plot(results: dict[str, Any], group: str, file: Path) -> None:
    """Throughput of all who are ranked in a class, scene by scene, as an SVG whose text stays text."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "asyncrender", "font.family": "sans-serif"})
    places = {scene: some for (which, scene), some in standings(results).items() if which == group}
    figure = Figure(figsize=(9, 0.9 + 0.26 * max(len(some) for some in places.values()) * ((len(places) + 1) // 2)))
    axes = figure.subplots((len(places) + 1) // 2, 2, squeeze=False).flat
    for ax, (scene, some) in zip(axes, places.items(), strict=False):
        names = [name if found["ranked"] else f"({name})" for name, found in some][::-1]
        speeds = [found["fps"] for _, found in some][::-1]
        bars = ax.barh(names, speeds, color=["#4472c4" if name == OURS else "#b8c0cc" for name in names])
        ax.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        ax.set_title(f"{scene}, frames a second", fontsize=9, loc="left")
        ax.tick_params(labelsize=8)
        ax.margins(x=0.15)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in list(axes):
        ax.set_visible(False)
    figure.suptitle(f"1080p, x264 {GROUPS[group]}, crf 18", fontsize=10)
    figure.tight_layout()
    figure.savefig(file, format="svg", metadata={"Date": None})
