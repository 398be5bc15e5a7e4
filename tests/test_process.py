"""Children: whatever happens to us, they end, with their whole family, and leave nothing open."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import psutil
import pytest

import seccomp
from asyncrender.errors import MissingTool, ToolFailed, ToolStalled
from asyncrender.process import Child, find_tool, run, supervise
from children import children, ended, forked, make_old_setpriv

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30
"""More than any machine needs; a test that takes longer hangs."""

SLEEPER = ("sleep", "600")
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PARENT = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600"]).pid, flush=True)
time.sleep(600)
"""
SUPERVISOR = """
import anyio
from asyncrender.process import supervise
async def main():
    async with supervise(["sleep", "600"]) as child:
        print(child.pid, flush=True)
        await anyio.sleep_forever()
anyio.run(main, backend="{backend}")
"""
WAITER = """
import anyio
from asyncrender.process import supervise
async def main():
    async with supervise(["sh", "-c", "sleep 0.05; exit 7"]) as child:
        assert await child.wait() == 7
    async with supervise(["sleep", "600"]) as child:
        pass
    assert child.returncode == -15
anyio.run(main, backend="{backend}")
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def runs(pid: int) -> bool:
    """Whether a process is there, and more than a zombie its new parent has not reaped."""
    with suppress(psutil.NoSuchProcess):
        return not ended(psutil.Process(pid))
    return False


async def gone(pid: int) -> bool:
    """Whether a process that nobody waits for, but that was killed, vanishes."""
    with anyio.move_on_after(PATIENCE_SECONDS):
        while runs(pid):
            await anyio.sleep(0.01)
    return not runs(pid)


async def receive_line(child: Child) -> str:
    data = b""
    while not data.endswith(b"\n"):
        data += await child.stdout.receive()
    return data.decode().strip()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# ---- cancelling


@pytest.mark.parametrize(
    ("argv", "stopped"),
    [(SLEEPER, False), (SLEEPER, True), (python(STUBBORN), False), (python(STUBBORN), True)],
    ids=["polite", "polite-stopped", "ignores-term", "ignores-term-stopped"],
)
async def test_a_cancelled_child_ends(argv: list[str], stopped: bool) -> None:
    with anyio.fail_after(PATIENCE_SECONDS), anyio.CancelScope() as scope:
        async with supervise(argv, stdout=True, grace_seconds=0.05) as child:
            if argv != SLEEPER:
                await receive_line(child)
            if stopped:
                os.kill(child.pid, signal.SIGSTOP)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert not runs(child.pid)
    assert child.returncode is not None
    assert child.returncode < 0


async def test_a_cancelled_childs_whole_family_ends() -> None:
    with anyio.fail_after(PATIENCE_SECONDS), anyio.CancelScope() as scope:
        async with supervise(python(PARENT), stdout=True, grace_seconds=0.05) as child:
            grandchild = int(await receive_line(child))
            family = [grandchild, *(process.pid for process in psutil.Process(grandchild).children())]
            scope.cancel()
    assert not runs(child.pid)
    assert [await gone(pid) for pid in family] == [True] * len(family)


async def test_a_grandchild_does_not_outlive_a_child_that_ends_by_itself() -> None:
    async with supervise(["sh", "-c", "sleep 600 & echo $!"], stdout=True) as child:
        grandchild = int(await receive_line(child))
        assert await child.wait() == 0
        assert await gone(grandchild)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere orphans are init's")
@pytest.mark.parametrize("ends_by_itself", [True, False], ids=["ends-by-itself", "is-killed"])
async def test_orphans_that_become_our_children_do_not_stay_as_zombies(ends_by_itself: bool) -> None:
    """They do so here (see conftest.py) as with PID 1 of a container."""
    code = PARENT.replace("time.sleep(600)", "pass") if ends_by_itself else PARENT
    async with supervise(python(code), stdout=True, grace_seconds=0.05) as child:
        grandchild = int(await receive_line(child))
        family = [grandchild, *(process.pid for process in psutil.Process(grandchild).children())]
        if ends_by_itself:
            await child.wait()
            assert not any(map(psutil.pid_exists, family))
    assert not any(map(psutil.pid_exists, family))


async def test_a_child_ends_with_its_block() -> None:
    async with supervise(SLEEPER) as child:
        assert runs(child.pid)
        assert child.returncode is None
    assert not runs(child.pid)
    assert child.returncode == -signal.SIGTERM


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as raised:
        async with supervise(SLEEPER) as child:
            raise error
    assert raised.value is error
    assert not runs(child.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux'")
async def test_children_of_a_killed_process_die_with_it(anyio_backend_name: str) -> None:
    argv = python(SUPERVISOR.format(backend=anyio_backend_name))
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert runs(pid)
        parent.kill()
    assert await gone(pid)


async def test_a_setpriv_that_knows_no_such_signal_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{make_old_setpriv(tmp_path).parent}:{os.environ['PATH']}")
    assert await run(["echo", "a"], doing="saying", idle_seconds=PATIENCE_SECONDS, deadline="none") == b"a\n"


@pytest.mark.skipif(not seccomp.possible, reason="seccomp filters are Linux'")
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
async def test_children_are_waited_for_where_the_kernel_gives_no_pidfds(anyio_backend_name: str, error: int) -> None:
    argv = seccomp.without("pidfd_open", error, python(WAITER.format(backend=anyio_backend_name)))
    subprocess.run(argv, check=True, timeout=PATIENCE_SECONDS)


# ---- pipes


async def test_five_megabytes_go_through_both_pipes() -> None:
    data = os.urandom(5_000_000)
    received = bytearray()
    with anyio.fail_after(PATIENCE_SECONDS):
        async with supervise(["cat"], stdin=True, stdout=True) as child, anyio.create_task_group() as tasks:

            async def feed() -> None:
                await child.stdin.send(data)
                child.stdin.close()

            tasks.start_soon(feed)
            while piece := await child.stdout.receive():
                received += piece
            assert await child.wait() == 0
    assert received == data


async def test_a_child_that_does_not_read_holds_its_feeder_up() -> None:
    async with supervise(SLEEPER, stdin=True) as child:
        with anyio.move_on_after(0.05) as scope:
            await child.stdin.send(bytes(5_000_000))
        assert scope.cancelled_caught


async def test_feeding_a_child_that_went_away_is_a_broken_pipe() -> None:
    async with supervise(["true"], stdin=True) as child:
        await child.wait()
        with pytest.raises(BrokenPipeError):
            await child.stdin.send(b"x")


async def test_a_child_sees_the_end_of_its_input_though_a_process_was_forked() -> None:
    async with supervise(["cat"], stdin=True, stdout=True) as child:
        await child.stdin.send(b"a")
        assert await child.stdout.receive() == b"a"
        with forked(), anyio.fail_after(PATIENCE_SECONDS):
            child.stdin.close()
            assert await child.stdout.receive() == b""
            assert await child.wait() == 0


async def test_nothing_stays_open() -> None:
    await run(["true"], doing="warming up", idle_seconds=PATIENCE_SECONDS, deadline="none")
    before = open_files()
    for _ in range(50):
        async with supervise(["true"], stdin=True, stdout=True) as child:
            await child.wait()
    assert open_files() == before


@pytest.mark.parametrize("call", ["pipe", "dup", "pidfd_open"])
async def test_a_birth_that_fails_leaves_nothing(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If other threads open files meanwhile, any call may be the one too many."""
    await run(["true"], doing="warming up", idle_seconds=PATIENCE_SECONDS, deadline="none")
    before = open_files()

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, call, fail)
    with suppress(OSError):
        async with supervise(SLEEPER, stdin=True, stdout=True):
            pass
    monkeypatch.undo()
    assert not children("sleep")
    assert open_files() == before


# ---- results


async def test_run_gives_the_output() -> None:
    output = await run(["echo", "a b"], doing="saying", idle_seconds=PATIENCE_SECONDS, deadline="none")
    assert output == b"a b\n"


async def test_run_fails_with_the_last_words() -> None:
    code = "import sys; sys.stderr.write('x' * 5000 + ' the end\\n'); sys.exit(3)"
    with pytest.raises(ToolFailed, match=r"reading a: .* ended with exit code 3.*the end") as failed:
        await run(python(code), doing="reading a", idle_seconds=PATIENCE_SECONDS, deadline="none")
    assert (failed.value.returncode, failed.value.argv) == (3, tuple(python(code)))
    assert 1000 < len(failed.value.stderr) <= 2000


async def test_run_says_which_signal_ended_it() -> None:
    with pytest.raises(ToolFailed, match="was killed by signal 9") as failed:
        await run(["sh", "-c", "kill -9 $$"], doing="reading", idle_seconds=PATIENCE_SECONDS, deadline="none")
    assert failed.value.returncode == -9


async def test_run_gives_up_on_a_child_that_shows_no_sign_of_life() -> None:
    with pytest.raises(ToolStalled, match=r"reading a: sleep gave no sign of life for 0\.05 s \(timeouts\.encode\)"):
        await run(SLEEPER, doing="reading a", idle_seconds=0.05, deadline="timeouts.encode")


async def test_many_may_wait_for_one_child() -> None:
    codes = []
    async with supervise(["sh", "-c", "exit 7"]) as child, anyio.create_task_group() as tasks:

        async def wait() -> None:
            codes.append(await child.wait())

        for _ in range(3):
            tasks.start_soon(wait)
    assert codes == [7, 7, 7]


def test_a_missing_tool_says_how_to_install_it() -> None:
    with pytest.raises(MissingTool, match="sudo apt-get install ffmpeg") as missing:
        find_tool("no-such-ffmpeg", package="ffmpeg")
    assert missing.value.tool == "no-such-ffmpeg"
