"""Work in threads: whoever is cancelled waits for his thread, on every loop and by every kind of cancellation."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import anyio
import pytest

import asyncrender as ar
from asyncrender.threads import Stopped, in_thread, pause_point

PATIENCE_SECONDS = 30

EXITS = """
async def leave():
    sys.exit(7)

async def main():
    await in_thread(lambda: None)
    async with open_task_group() as tasks:
        tasks.start_soon(leave)
        await asyncio.sleep(600)

asyncio.run(main())
"""
ABANDONED = """
loop = asyncio.new_event_loop()
task = loop.create_task(in_thread(loop.stop))
loop.run_forever()
sys.exit(7)
"""


class Work:
    """Work that says when it has begun, and goes on until it is let go."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()
        self.ended = self.stopped = False

    def __call__(self) -> str:
        self.began.set()
        try:
            while not self.may_end.wait(0.005):
                pause_point()
        except Stopped:
            self.stopped = True
            raise
        self.ended = True
        return "done"


@pytest.mark.anyio
async def test_the_result_and_the_error_come_back() -> None:
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


@pytest.mark.anyio
async def test_the_hosts_threads_may_all_be_waiting_for_us() -> None:
    done = threading.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(int(anyio.to_thread.current_default_thread_limiter().total_tokens)):
            tasks.start_soon(anyio.to_thread.run_sync, done.wait)
        await anyio.wait_all_tasks_blocked()
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                assert await in_thread(lambda: 7) == 7
                with pytest.raises(ar.InvalidOption):
                    await ar.probe("no such file")
        finally:
            done.set()


def test_each_event_loop_has_threads_of_its_own() -> None:
    for _ in range(2):
        for backend in ("asyncio", "trio"):
            assert anyio.run(in_thread, lambda: 7, backend=backend) == 7


@pytest.mark.anyio
async def test_a_cancelled_scope_lets_the_work_finish() -> None:
    work, results = Work(), []
    with anyio.fail_after(PATIENCE_SECONDS), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def carry_out() -> None:
                results.append(await in_thread(work))

            tasks.start_soon(carry_out)
            await anyio.to_thread.run_sync(work.began.wait)
            scope.cancel()
            threading.Timer(0.05, work.may_end.set).start()
    assert work.ended
    assert results == ["done"]


@pytest.mark.anyio
async def test_stoppable_work_is_stopped_at_its_next_pause() -> None:
    work = Work()
    with anyio.fail_after(PATIENCE_SECONDS), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: in_thread(work, stoppable=True))
            await anyio.to_thread.run_sync(work.began.wait)
            scope.cancel()
    assert work.stopped
    assert not work.ended


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_asyncios_own_cancellation_waits_for_the_thread(times: int) -> None:
    work = Work()
    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(work.began.wait)
    threading.Timer(0.05, work.may_end.set).start()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE_SECONDS)
    assert work.ended


@pytest.mark.asyncio
@pytest.mark.parametrize("surely", [False, True])
async def test_what_tidies_is_done_even_if_it_never_came_to_a_thread(surely: bool) -> None:
    done: list[str] = []
    task = asyncio.create_task(in_thread(lambda: done.append("tidied"), surely=surely))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["tidied"] * surely


def test_a_loop_that_shuts_down_waits_for_the_thread() -> None:
    work = Work()

    async def main() -> None:
        tasks.append(asyncio.create_task(in_thread(work)))
        await asyncio.to_thread(work.began.wait)
        threading.Timer(0.05, work.may_end.set).start()

    tasks: list[asyncio.Task[str]] = []
    began = time.monotonic()
    asyncio.run(main())
    assert work.ended
    assert time.monotonic() - began < PATIENCE_SECONDS


@pytest.mark.parametrize("program", [EXITS, ABANDONED])
def test_python_ends_however_the_loop_was_left(program: str) -> None:
    imports = "import asyncio, sys; from asyncrender.tasks import *; from asyncrender.threads import *"
    ended = subprocess.run([sys.executable, "-c", imports + program], timeout=PATIENCE_SECONDS, capture_output=True)
    assert ended.returncode == 7


def test_elsewhere_a_pause_is_nothing() -> None:
    pause_point()
