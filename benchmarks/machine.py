"""What this machine is: no figure means anything without it."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import anyio
import psutil

import asyncrender as ar
from benchmarks.one import ON_UVLOOP


def cores() -> int:
    return len(os.sched_getaffinity(0))


def facts() -> dict[str, object]:
    examined = anyio.run(ar.doctor)
    found = {check.name: check.found for check in examined.checks}
    here = Path(__file__).parents[1]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True)
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "cores": cores(),
        "processor": _processor(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "loop": "uvloop" if ON_UVLOOP else "asyncio",
        "browser": found["capture"].partition(":")[0],
        "ffmpeg": found["ffmpeg"].split()[-1],
        "picture_memory": found["picture memory"].partition(";")[0],
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.machine()
