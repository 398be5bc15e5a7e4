"""What this machine has for us: cores and memory, or as much of them as the container we may be in is allowed; and how
much memory we take.

A container is a control group of Linux, of version 1 or 2. What cannot be read there is no limit. This room does not
know what the cores and the memory are for.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

ROOT = Path("/")

GROUP = re.compile(r"^\d+:(?P<controllers>[^:]*):(?P<path>/.*)$", re.MULTILINE)
"""A line of /proc/self/cgroup (cgroups(7)). Version 2 names no controllers: its one group has them all."""

MOUNT = re.compile(
    r"^\S+ \S+ \S+ (?P<top>\S+) (?P<point>\S+) .*- (?P<kind>cgroup2?) \S* (?P<options>\S+)$", re.MULTILINE
)
"""A line of /proc/self/mountinfo (proc_pid_mountinfo(5)). `top` is the group whose folder is `point`."""

MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of version 2 and 1: a group's limit, what it uses, and which line of memory.stat says how much of that the kernel can
drop: files that were read or written once (kernel.org: admin-guide/cgroup-v2, cgroup-v1/memory)."""


def cores(root: Path = ROOT) -> int:
    """How many processors we may keep busy, at least one. `root` is where /proc and /sys lie."""
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [share for group in _groups("cpu", root) if (share := _share(group)) is not None]
    return max(1, min([ours, *map(math.ceil, shares)]))


def free_memory(root: Path = ROOT) -> int:
    """Bytes that programs may still take. `root` is where /proc and /sys lie."""
    available = re.search(r"^MemAvailable: +(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    whole = int(available[1]) << 10 if available else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rests = [rest for group in _groups("memory", root) if (rest := _rest(group)) is not None]
    return max(0, min([whole, *rests]))


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


def _share(group: Path) -> float | None:
    """How many processors' time a group may use (cpu.max: its time, and in which); None: no limit."""
    old = (_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))
    words = (_read(group / "cpu.max") or " ".join(old)).split()
    quota, period = words if len(words) == 2 else ("max", "")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None  # else "max", or -1


def _rest(group: Path) -> int | None:
    """Bytes that a group may still take; None: no limit."""
    for limit_file, usage_file, cache_line in MEMORY_FILES:
        limit, usage = (_read(group / name).strip() for name in (limit_file, usage_file))
        if limit.isdecimal() and usage.isdecimal():
            cache = re.search(rf"^{cache_line} (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
            return int(limit) - int(usage) + (int(cache[1]) if cache else 0)
    return None


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of our own group and of those around it, as far as we see them; of version 1 those of a controller."""
    lines = GROUP.finditer(_read(root / "proc/self/cgroup"))
    ours = {name: PurePosixPath(line["path"]) for line in lines for name in line["controllers"].split(",")}
    for mount in MOUNT.finditer(_read(root / "proc/self/mountinfo")):
        name = "" if mount["kind"] == "cgroup2" else controller
        if name in ours and name in ("", *mount["options"].split(",")):
            seen = ours[name].is_relative_to(mount["top"]) and ".." not in ours[name].parts  # else from outside only
            inner = ours[name].relative_to(mount["top"]) if seen else PurePosixPath()
            for part in (inner, *inner.parents):
                yield root / mount["point"].lstrip("/") / part


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _descends(pid: int, ancestor: int, parents: Mapping[int, tuple[int, str]]) -> bool:
    while pid != ancestor and pid in parents:
        pid = parents[pid][0]
    return pid == ancestor
