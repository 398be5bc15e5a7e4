"""What fails by accident is tried again: a bounded number of times, with a pause that doubles.

An accident is an error that calls itself transient: a process was killed, or hung. What is tried, this room does not
know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from asyncrender.errors import AsyncRenderError
from asyncrender.log import get_logger

T = TypeVar("T")

MAX_ATTEMPTS = 3
"""Of one piece of work. What fails three times with fresh processes is no accident."""

BACKOFF_SECONDS = 0.25
"""Before the second attempt; doubled for each further one."""

_log = get_logger("asyncrender.retry")


def may_help(error: AsyncRenderError, attempt: int) -> bool:
    """Whether the same work, done again, may go well."""
    return error.transient and attempt < MAX_ATTEMPTS


async def pause(error: AsyncRenderError, attempt: int, *, doing: str) -> None:
    """Say that attempt number `attempt` (from 1) failed, and wait before the next."""
    _log.warning("tried again", doing=doing, attempt=attempt, reason=str(error))
    await anyio.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))


async def retried(work: Callable[[], Awaitable[T]], *, doing: str, never: tuple[type[AsyncRenderError], ...] = ()) -> T:
    """The result of `work()`, called again if it fails by accident. Raises its last error; one of `never` at once."""
    attempt = 1
    while True:
        try:
            return await work()
        except never:
            raise
        except AsyncRenderError as error:
            if not may_help(error, attempt):
                raise
            await pause(error, attempt, doing=doing)
            attempt += 1
