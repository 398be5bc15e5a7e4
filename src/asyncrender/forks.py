"""What the host program forks off (as multiprocessing does) has all our open files; some of them it must not keep.

An ffmpeg whose input somebody else holds open, too, never sees its end, and a lock outlives us with him. Such files are
closed in the new process at once, and no more than closed: locks and event loops are shared with us, and ours.
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref


class Descriptor:
    """An open file that no process forked off from us keeps. `fd` is its number; -1 once it is closed, and there."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        _open.add(self)

    def close(self) -> None:
        """Close it; may be called again."""
        fd, self.fd = self.fd, -1  # forgotten first: another thread may fork meanwhile, or get this number
        if fd >= 0:
            os.close(fd)


_open: weakref.WeakSet[Descriptor] = weakref.WeakSet()


def _close_all() -> None:
    for descriptor in _open:
        with contextlib.suppress(OSError):
            descriptor.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_all)
