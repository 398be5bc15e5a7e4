"""A real browser: it answers, it may die or not come up, and whatever happens nothing of it stays."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
import psutil
import pytest

import seccomp
from asyncrender.browser import wire
from asyncrender.browser.launch import open_browser
from asyncrender.errors import BrowserCrashed, BrowserLaunchFailed, MissingTool
from asyncrender.specs import BrowserOptions
from children import children, ended

pytestmark = pytest.mark.anyio

LAUNCH_SECONDS = 60
"""A browser's start on a machine that does much else."""

OWNER = """
import anyio, sys
from asyncrender.browser.launch import open_browser
from asyncrender.specs import BrowserOptions
async def main():
    async with open_browser(BrowserOptions(), capture="beginframe", launch_seconds=60) as browser:
        print(browser.pid, flush=True)
        await anyio.sleep_forever()
anyio.run(main, backend="{backend}")
"""

STILL = """
import anyio, sys
import asyncrender as ar
async def main():
    await ar.still(ar.Html("<body>"), sys.argv[1], ar.RenderOptions(width=64, height=48), frame=0)
anyio.run(main, backend="{backend}")
"""


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


async def all_end(processes: list[psutil.Process]) -> bool:
    with anyio.move_on_after(LAUNCH_SECONDS):
        while not all(map(ended, processes)):
            await anyio.sleep(0.01)
    return all(map(ended, processes))


def left_behind() -> list[str]:
    return [path.name for path in Path(tempfile.gettempdir()).glob("asyncrender-browser-*")]


def script(folder: Path, text: str) -> BrowserOptions:
    """A stranger in the browser's place. Its name has what names of people's folders have."""
    path = folder / 'it\'s a "browser" é%20'
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return BrowserOptions(executable=str(path))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere limits of others cannot be read")
async def test_a_browser_leaves_no_core_file() -> None:
    before = _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if not hard:
        pytest.skip("here no process may leave one")
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        async with open_browser(BrowserOptions(), capture="beginframe", launch_seconds=LAUNCH_SECONDS) as browser:
            limits = psutil.Process(browser.pid).rlimit(resource.RLIMIT_CORE)  # its children inherit them
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert limits == (0, 0)


@pytest.mark.parametrize(("capture", "pages"), [("beginframe", []), ("screenshot", ["about:blank"])])
async def test_a_browser_answers_and_leaves_nothing(capture: str, pages: list[str]) -> None:
    async with open_browser(BrowserOptions(), capture=capture, launch_seconds=LAUNCH_SECONDS) as browser:
        assert browser.version.startswith(("HeadlessChrome/", "Chrome/"))
        result = await browser.connection.call("Target.getTargets")
        assert [target["url"] for target in result["targetInfos"] if target["type"] == "page"] == pages
        processes = family(browser.pid)
        assert len(processes) > 1
        assert len(left_behind()) == 1
    assert await all_end(processes)
    assert left_behind() == []


async def test_a_killed_browser_is_a_crash_with_a_name() -> None:
    async with open_browser(BrowserOptions(), capture="beginframe", launch_seconds=LAUNCH_SECONDS) as browser:
        processes = family(browser.pid)
        closed = anyio.Event()
        browser.connection.on_close(closed.set)
        os.kill(browser.pid, signal.SIGKILL)
        await closed.wait()
        with pytest.raises(BrowserCrashed, match=r"went away during Browser\.getVersion"):
            await browser.connection.call("Browser.getVersion")
    assert [process for process in processes if psutil.pid_exists(process.pid)] == [], "orphans of ours, and zombies"
    assert await all_end(processes)
    assert left_behind() == []


async def test_a_browser_that_ends_at_once_did_not_start(tmp_path: Path) -> None:
    options = script(tmp_path, "echo 'cannot open display' >&2; exit 1")
    with pytest.raises(BrowserLaunchFailed, match=r"did not start\. Its last words: cannot open display"):
        async with open_browser(options, capture="beginframe", launch_seconds=LAUNCH_SECONDS):
            pass
    with pytest.raises(BrowserLaunchFailed, match=r"/bin/false did not start"):
        async with open_browser(
            BrowserOptions(executable="/bin/false"), capture="beginframe", launch_seconds=LAUNCH_SECONDS
        ):
            pass
    assert left_behind() == []


async def test_a_browser_that_hangs_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(BrowserLaunchFailed, match=r"no answer within 0\.1 s \(timeouts\.launch\)"):
        async with open_browser(script(tmp_path, "exec sleep 600"), capture="beginframe", launch_seconds=0.1):
            pass
    assert left_behind() == []


async def test_what_answers_as_no_browser_does_is_none(tmp_path: Path) -> None:
    answer = "".join(f"\\{byte:03o}" for byte in wire.encode({"id": 1, "result": {"name": "no browser"}}))
    options = script(tmp_path, f"head -c 1 <&3 >/dev/null; printf '{answer}' >&4; exec sleep 600")
    with pytest.raises(BrowserLaunchFailed, match=r"is no Chromium: .* it says \{'name': 'no browser'\}"):
        async with open_browser(options, capture="beginframe", launch_seconds=LAUNCH_SECONDS):
            pass
    assert left_behind() == []


async def test_a_missing_browser_says_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for options in (BrowserOptions(executable="/no/such/browser"), BrowserOptions()):
        monkeypatch.setenv("ASYNCRENDER_BROWSER", "no-such-browser")
        with pytest.raises(MissingTool, match="sudo apt-get install chromium-headless-shell"):
            async with open_browser(options, capture="beginframe", launch_seconds=LAUNCH_SECONDS):
                pass


async def test_a_browser_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCRENDER_BROWSER", "false")
    with pytest.raises(BrowserLaunchFailed, match="/false did not start"):
        async with open_browser(BrowserOptions(), capture="beginframe", launch_seconds=LAUNCH_SECONDS):
            pass


async def test_a_cancelled_launch_leaves_nothing() -> None:
    for seconds in (0, 0.02, 0.1):
        with anyio.move_on_after(seconds) as scope:
            async with open_browser(BrowserOptions(), capture="beginframe", launch_seconds=LAUNCH_SECONDS):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert left_behind() == []
    assert await all_end(children("chrom"))


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_browser(BrowserOptions(), capture="beginframe", launch_seconds=LAUNCH_SECONDS):
            raise KeyError("mine")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the closed pipe ends the browser")
async def test_the_browser_of_a_killed_process_dies_with_it(anyio_backend_name: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", OWNER.format(backend=anyio_backend_name)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}) as owner:
        assert owner.stdout is not None
        processes = family(int(owner.stdout.readline()))
        assert len(processes) > 1
        owner.kill()
    assert await all_end(processes)


@pytest.mark.skipif(not seccomp.possible, reason="seccomp filters are Linux'")
async def test_a_browser_is_not_watched_where_the_kernel_gives_no_pidfds(
    anyio_backend_name: str, tmp_path: Path
) -> None:
    argv = [sys.executable, "-c", STILL.format(backend=anyio_backend_name), str(tmp_path / "still.png")]
    subprocess.run(seccomp.without("pidfd_open", errno.EPERM, argv), check=True, timeout=LAUNCH_SECONDS)
    assert (tmp_path / "still.png").exists()
