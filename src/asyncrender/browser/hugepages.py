"""Huge pages for the browser's pictures: a library that is loaded into it asks the kernel for them (hugepages.c)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Linux hands out huge pages always, to who asks for them (madvise), or never."""

LIBRARY = Path(__file__).with_name("libhugepages.so")
"""It is there if there was a C compiler when the package was built (scripts/build_hugepages.py)."""

SEPARATORS = frozenset(" :")
"""Of libraries in LD_PRELOAD; there is no way to say that one belongs to a name (ld.so(8))."""


def setting() -> str | None:
    """The kernel's: "always", "madvise" or "never"; None if it has none, or hides it."""
    try:
        (chosen,) = re.findall(r"\[(\w+)\]", SETTING.read_text())
    except (OSError, ValueError):
        return None
    return str(chosen)


def can_be_asked_for() -> bool:
    """Whether the library was built, and can be loaded from where it lies."""
    return LIBRARY.is_file() and SEPARATORS.isdisjoint(str(LIBRARY))


def preload(environment: Mapping[str, str]) -> dict[str, str]:
    """What is to be added to a browser's environment, so that it asks, where that makes a difference."""
    if setting() != "madvise" or not can_be_asked_for():
        return {}
    before = environment.get("LD_PRELOAD", "")
    return {"LD_PRELOAD": f"{before}:{LIBRARY}" if before else str(LIBRARY)}
