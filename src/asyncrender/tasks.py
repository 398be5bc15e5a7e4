"""A task group that fails with the one error that is the cause, instead of a bundle of all that came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from asyncrender.errors import single_error


@asynccontextmanager
async def open_task_group() -> AsyncIterator[TaskGroup]:
    """As `anyio.create_task_group`, but raises what `single_error` finds to be the cause."""
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        raise single_error(group) from None
