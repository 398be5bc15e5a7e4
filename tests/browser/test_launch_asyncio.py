"""A browser of those who know asyncio only."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import psutil
import pytest

from asyncrender.browser.launch import open_browser
from asyncrender.specs import BrowserOptions


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_browser_ends_however_often_its_task_is_cancelled(times: int) -> None:
    up: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with open_browser(BrowserOptions(), capture="beginframe", launch_seconds=60) as browser:
            up.set_result(browser.pid)
            await asyncio.sleep(600)

    task = asyncio.create_task(work())
    pid = await asyncio.wait_for(up, 60)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)  # the task comes as far as its next wait
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    assert not psutil.pid_exists(pid)
    assert list(Path(tempfile.gettempdir()).glob("asyncrender-browser-*")) == []
