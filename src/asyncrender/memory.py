"""How much memory we and all that we have started use. Read from Linux' /proc; this room starts nothing itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path


def memory_of_all() -> dict[str, int]:
    """Bytes that this process and all its children, and theirs, use, by the programs' names. Linux; {} elsewhere.

    Proportional set size: memory that several share is counted once.
    """
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = entry.read_text(errors="replace").partition("(")[2].rpartition(")")
            parents[int(entry.parent.name)] = (int(rest.split()[1]), name)
    used: dict[str, int] = {}
    for pid, (_, name) in parents.items():
        with contextlib.suppress(OSError, StopIteration):
            if _descends(pid, os.getpid(), parents):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                kilobytes = next(line.split()[1] for line in lines if line.startswith("Pss:"))
                used[name] = used.get(name, 0) + (int(kilobytes) << 10)
    return used


def _descends(pid: int, ancestor: int, parents: Mapping[int, tuple[int, str]]) -> bool:
    while pid != ancestor and pid in parents:
        pid = parents[pid][0]
    return pid == ancestor
