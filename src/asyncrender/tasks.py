"""Tasks at the same time that fail with the one error that is the cause, not with a bundle of all that came of it."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from asyncrender.errors import single_error

S = TypeVar("S")
T = TypeVar("T")

LOOK_SECONDS = 0.25
"""How often a Patience looks after the wait of its task: one may last so much longer than it should."""


@asynccontextmanager
async def open_task_group() -> AsyncIterator[TaskGroup]:
    """As `anyio.create_task_group`, but raises what `single_error` finds to be the cause.

    A group that the block itself raises is its own, and comes out whole. A block that was cancelled comes out
    cancelled, also if that was so because a task ended with a cancellation of its own, as that of a future it awaited.
    """
    raised: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            try:
                yield tasks
            except BaseException as error:
                raised = error
                raise
    except BaseExceptionGroup as group:
        raised = raised if isinstance(raised, BaseExceptionGroup) else single_error(group)
    if raised is not None:
        raise raised  # only out here, so that it keeps its own cause and context


async def both(one: Callable[[], Awaitable[S]], other: Callable[[], Awaitable[T]]) -> tuple[S, T]:
    """The results of two that run at the same time. If one fails, the other is cancelled."""
    found: list[S] = []

    async def run() -> None:
        found.append(await one())

    async with open_task_group() as tasks:
        tasks.start_soon(run)
        result = await other()
    return found[0], result


class Latch:
    """What happens once, and is waited for by some, or by nobody: that costs nothing, for there are thousands of them.

    To wait for what has happened does not give others their turn.
    """

    def __init__(self) -> None:
        self._event: anyio.Event | None = None
        self.is_set = False

    def set(self) -> None:
        self.is_set = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        if not self.is_set:
            self._event = self._event or anyio.Event()
            await self._event.wait()


class Patience:
    """Limits for the waits of one task, one after the other; one timer looks after all of them.

    For waits of a few milliseconds, hundreds a second: each with a deadline of anyio's own would cost as much as all
    else that is done for a frame. Made by `open_patience`.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._scope = tasks.cancel_scope
        self._until = math.inf
        self._look: Callable[[], None] | None = None
        self._failure: Exception | None = None

    async def wait(self, awaited: Awaitable[T], seconds: float, *, look: Callable[[], None] | None = None) -> T:
        """The result of what is awaited. Raises TimeoutError after `seconds`, or what `look` raises, called meanwhile.

        After that its block is cancelled: only under a shield something can still be awaited there.
        """
        self._until, self._look = time.monotonic() + seconds, look
        try:
            result = await awaited
        except anyio.get_cancelled_exc_class():
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            self._until = math.inf
        if self._failure is not None:  # it came at the last moment
            raise self._failure
        return result

    async def watch(self) -> None:
        """Look after the waits."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            if self._until < math.inf:
                try:
                    self._check()
                except Exception as error:
                    self._failure = error
                    self._scope.cancel()

    def _check(self) -> None:
        if self._look is not None:
            self._look()
        if time.monotonic() > self._until:
            raise TimeoutError


@asynccontextmanager
async def open_patience() -> AsyncIterator[Patience]:
    """A Patience for the task that runs the block."""
    async with open_task_group() as tasks:
        patience = Patience(tasks)
        tasks.start_soon(patience.watch)
        yield patience
        tasks.cancel_scope.cancel()
