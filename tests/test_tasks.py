"""Tasks that fail: what comes out is the one error that is the cause, as it was raised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest

from asyncrender.tasks import both, open_patience, open_task_group

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


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lasts too long is noticed soon."""
    monkeypatch.setattr("asyncrender.tasks.LOOK_SECONDS", 0.01)


async def value() -> int:
    await anyio.sleep(0.001)
    return 7


@pytest.mark.usefixtures("soon")
async def test_what_is_waited_for_is_had_and_no_wait_counts_for_the_next() -> None:
    async with open_patience() as patience:
        for _ in range(20):
            assert await patience.wait(value(), 0.05) == 7
        await anyio.sleep(0.1)  # of no wait
        assert await patience.wait(value(), 5) == 7


@pytest.mark.usefixtures("soon")
async def test_a_wait_that_lasts_too_long_is_over() -> None:
    async with open_patience() as patience:
        with pytest.raises(TimeoutError):
            await patience.wait(anyio.sleep_forever(), 0.02)
        with pytest.raises(anyio.get_cancelled_exc_class()):
            await anyio.sleep(0)
    await anyio.sleep(0)  # the block alone was cancelled


@pytest.mark.usefixtures("soon")
async def test_what_looks_meanwhile_may_end_a_wait() -> None:
    def look() -> None:
        raise LookupError("gone")

    async with open_patience() as patience:
        with pytest.raises(LookupError, match="gone"):
            await patience.wait(anyio.sleep_forever(), 5, look=look)


@pytest.mark.usefixtures("soon")
async def test_what_is_awaited_fails_by_itself() -> None:
    async def fail() -> None:
        raise KeyError

    async with open_patience() as patience:
        with pytest.raises(KeyError):
            await patience.wait(fail(), 5)
        assert await patience.wait(value(), 5) == 7


@pytest.mark.usefixtures("soon")
async def test_a_wait_is_cancelled_from_outside_as_any() -> None:
    with anyio.move_on_after(0.05) as outside:
        async with open_patience() as patience:
            await patience.wait(anyio.sleep_forever(), 5)
    assert outside.cancelled_caught


@pytest.mark.usefixtures("soon")
async def test_what_ends_as_its_time_is_up_is_late() -> None:
    async def end_when_late() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)

    async with open_patience() as patience:
        with pytest.raises(TimeoutError):
            await patience.wait(end_when_late(), 0.02)
