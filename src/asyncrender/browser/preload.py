"""Memory for the browser's pictures: a library that is loaded into it keeps theirs from frame to frame (preload.c)."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

LIBRARY = Path(__file__).with_name("libpreload.so")
"""It is there if there was a C compiler when the package was built (scripts/build_preload.py)."""

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Linux hands out huge pages always, to who asks for them (madvise), or never."""

SEPARATORS = frozenset(" :")
"""Of libraries in LD_PRELOAD; there is no way to say that one belongs to a name (ld.so(8))."""


def possible() -> bool:
    """Whether the library was built, and can be loaded from where it lies."""
    return sys.platform == "linux" and LIBRARY.is_file() and SEPARATORS.isdisjoint(str(LIBRARY))


def added(environment: Mapping[str, str]) -> dict[str, str]:
    """What is to be added to a browser's environment, so that it has the library."""
    if not possible():
        return {}
    before = environment.get("LD_PRELOAD", "")
    return {"LD_PRELOAD": f"{before}:{LIBRARY}" if before else str(LIBRARY)}


def huge_pages() -> str | None:
    """The kernel's setting: "always", "madvise" or "never"; None if it has none, or hides it."""
    try:
        (chosen,) = re.findall(r"\[(\w+)\]", HUGE_PAGES.read_text())
    except (OSError, ValueError):
        return None
    return str(chosen)
