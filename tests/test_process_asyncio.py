"""Children of those who know asyncio only: its own way to cancel goes through every shield, if called again."""

from __future__ import annotations

import asyncio
import signal
import sys

import psutil
import pytest

from asyncrender.process import supervise

PATIENCE_SECONDS = 30
IGNORES_TERM = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600"]).pid, flush=True)
time.sleep(600)
"""


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_child_and_its_family_end_however_often_its_task_is_cancelled(times: int) -> None:
    up: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with supervise([sys.executable, "-c", IGNORES_TERM], stdout=True, grace_seconds=0.2) as child:
            up.set_result([child.pid, int(bytes(await child.stdout.receive()))])
            await asyncio.sleep(600)

    task = asyncio.create_task(work())
    family = await asyncio.wait_for(up, PATIENCE_SECONDS)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)  # the task comes as far as its next wait
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE_SECONDS)
    assert not any(map(psutil.pid_exists, family))


@pytest.mark.asyncio
async def test_a_timeout_ends_the_child() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), supervise(["sleep", "600"]) as child:
            await child.wait()
    assert child.returncode == -signal.SIGTERM
