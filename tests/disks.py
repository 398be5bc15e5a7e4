"""Small disks, where this machine lets us mount one: that takes root, and a machine that lets root do it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[bool]:
    """Make the folder a disk of its own, with tmpfs' mount options; whether that was possible."""
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    possible = os.geteuid() == 0 and not subprocess.run(mount, capture_output=True, check=False).returncode
    try:
        yield possible
    finally:
        if possible:
            subprocess.run(["umount", str(folder)], check=True)
