"""Tasks that fail: what comes out is the one error that is the cause, as it was raised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest

from asyncrender.tasks import both, open_task_group

pytestmark = pytest.mark.anyio

FIRST = OSError("the first cause")


async def fail() -> None:
    raise LookupError("found out") from FIRST


async def in_a_task() -> None:
    async with open_task_group() as tasks:
        tasks.start_soon(fail)
        await anyio.sleep_forever()


async def in_the_block() -> None:
    async with open_task_group() as tasks, open_task_group():
        tasks.start_soon(anyio.sleep_forever)
        await fail()


@pytest.mark.parametrize(
    "work",
    [in_a_task, in_the_block, partial(both, fail, anyio.sleep_forever), partial(both, anyio.sleep_forever, fail)],
)
async def test_an_error_keeps_its_cause(work: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(LookupError, match="found out") as caught:
        await work()
    assert caught.value.__cause__ is FIRST
