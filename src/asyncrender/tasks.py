"""Tasks at the same time that fail with the one error that is the cause, not with a bundle of all that came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from asyncrender.errors import single_error

S = TypeVar("S")
T = TypeVar("T")


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
