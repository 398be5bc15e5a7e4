"""What all tests share: the three event loops, and the check that a whole run leaves nothing behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest
import structlog

from asyncrender.browser.launch import find_browser
from asyncrender.specs import BrowserOptions
from children import command, ended

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): who loses its parent becomes our child instead of init's, and so cannot hide from us."""

# What a script's background, or `nohup`, ignores our children would ignore, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No deadline: a busy machine is no failure. In CI the same examples every time: what fails there fails again here.
hypothesis.settings.register_profile("asyncrender", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("asyncrender")

VANISH_SECONDS = 2.0
"""Killed processes and their files may take so long to vanish on a busy machine."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two tests at a time, each in a session of its own; long runs, which look at memory, one at a time."""
    return 0 if config.option.markexpr == "soak" else 2


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {}), id="trio"),
    ],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="session")
def browser_path() -> str:
    return find_browser(BrowserOptions())


@pytest.fixture(autouse=True)
def nobody_listens() -> Iterator[None]:
    """Each test meets a structlog that no other one has configured."""
    yield
    structlog.reset_defaults()


def pytest_runtest_logfinish() -> None:
    """Bury the orphans that became ours during the test (see PR_SET_CHILD_SUBREAPER), before they fill the table."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """After the last test: no process, no temporary file. (`tmp_path` lies elsewhere and may keep its files.)"""
    tmp_path_factory.getbasetemp()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    # A short name: Chromium puts a socket below it, whose path may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ar-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
    running = _descendants_running()
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    shutil.rmtree(folder, ignore_errors=True)
    assert not running, f"the tests left processes behind: {running}"
    assert not left, f"the tests left temporary files behind: {left}"


def _descendants_running() -> list[str]:
    """Command lines of our descendants; Python's own resource tracker lives as long as the interpreter."""
    family = [process for process in psutil.Process().children(recursive=True) if not ended(process)]
    _, alive = psutil.wait_procs(family, timeout=VANISH_SECONDS)
    commands = [said[:300] for process in alive if (said := command(process))]
    return [said for said in commands if "multiprocessing.resource_tracker" not in said]
