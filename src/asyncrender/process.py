"""Children are born here, and always buried here: the only room that spawns, signals and reaps.

A child runs in a session of its own, so that its whole family can be signalled at once, and dies with us by Linux'
parent-death signal, where there is a `setpriv` that knows it. That signal follows the *thread* that spawned, which is
why the fork happens in the event loop's own thread and not, as in trio, in a worker that ends after a while. One way
for asyncio, uvloop and trio alike: a pidfd tells the end.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio

from asyncrender.errors import MissingTool, ToolFailed, ToolStalled
from asyncrender.forks import Descriptor
from asyncrender.log import get_logger
from asyncrender.pipes import Pipe

if sys.platform == "win32":
    raise ImportError("asyncrender does not run on Windows: it needs POSIX process groups, pipes and locks. Use WSL.")

TERM_GRACE_SECONDS = 0.5
"""Between TERM and KILL: Chromium and ffmpeg need some 50 ms to end tidily."""

KILL_GRACE_SECONDS = 5.0
"""A killed process that is not gone by then hangs in the kernel (a dead disk); we report it and go on."""

REAP_SECONDS = 1.0
"""The event loop is held up this long at most, where a killed process can be waited for in no other way."""

LAST_WORDS_BYTES = 2000
"""How much of a child's standard error an error quotes."""

ORPHAN_CHECK = '[ "$PPID" = "$0" ] || exit 1; exec "$@"'
"""Run once the signal is set: if we died before that, the child has another parent by now, and shall not begin."""

SETPRIV_SECONDS = 5.0
"""A `setpriv` that takes longer to set a signal does not work. The event loop is held up; it needs some 2 ms."""

ORPHAN_SECONDS = 0.5
"""What is left of a killed family and became ours is waited for so long: it ends within milliseconds, or hangs, too."""

POLL_SECONDS = 0.02
"""How often a child is looked at where there is no pidfd (macOS, Linux before 5.3), and its orphans anywhere."""

_log = get_logger("asyncrender.process")


class Child:
    """A running program. Made by `supervise`, which also ends it."""

    def __init__(self, argv: Sequence[str], *, stdin: bool, stdout: bool, env: Mapping[str, str] | None) -> None:
        self.argv = tuple(argv)
        self._waiting = anyio.Lock()
        self._stdin: Pipe | None = None
        self._stdout: Pipe | None = None
        their_stdin = their_stdout = subprocess.DEVNULL
        # All that can fail comes before the birth: whatever raises, nothing is left to run, or open.
        with contextlib.ExitStack() as unborn, contextlib.ExitStack() as theirs:
            self._stderr = unborn.enter_context(tempfile.TemporaryFile())  # has no name to be left behind
            if stdin:
                end, ours = os.pipe()
                their_stdin = theirs.enter_context(contextlib.closing(Descriptor(end))).fd
                self._stdin = unborn.enter_context(contextlib.closing(Pipe(ours)))
            if stdout:
                ours, end = os.pipe()
                their_stdout = theirs.enter_context(contextlib.closing(Descriptor(end))).fd
                self._stdout = unborn.enter_context(contextlib.closing(Pipe(ours)))
            self._popen = subprocess.Popen(
                [*_dies_with_us(), *argv],
                stdin=their_stdin,
                stdout=their_stdout,
                stderr=self._stderr,
                env=env,
                start_new_session=True,
            )
            unborn.pop_all()
        self.pid = self._popen.pid
        self._group_reaped = False
        self._pidfd = -1
        with contextlib.suppress(AttributeError, OSError):  # macOS; Linux before 5.3, or a seccomp filter
            self._pidfd = os.pidfd_open(self.pid)

    @property
    def stdin(self) -> Pipe:
        assert self._stdin is not None, "spawned without a pipe as standard input"
        return self._stdin

    @property
    def stdout(self) -> Pipe:
        assert self._stdout is not None, "spawned without a pipe as standard output"
        return self._stdout

    @property
    def returncode(self) -> int | None:
        """Exit code; the negative signal number if one ended it; None while it runs or nobody waited."""
        return self._popen.returncode

    def last_words(self, most_bytes: int = LAST_WORDS_BYTES) -> str:
        """The end of what the child wrote to standard error."""
        size = os.fstat(self._stderr.fileno()).st_size
        tail = os.pread(self._stderr.fileno(), most_bytes, max(0, size - most_bytes))
        return tail.decode(errors="replace").strip()

    async def wait(self) -> int:
        """The child's exit code, once it has ended; what it left of its process group is killed."""
        async with self._waiting:
            if self._popen.returncode is None:
                await self._ended()
                self.signal(signal.SIGKILL)  # before reaping: until then nobody else can have this group number
                self._popen.wait()
            with anyio.move_on_after(ORPHAN_SECONDS):
                while not self._orphans_reaped():
                    await anyio.sleep(POLL_SECONDS)
        return self._popen.returncode

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child's whole process group, if the child was not reaped yet."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def _ended(self) -> None:
        if self._pidfd >= 0:
            await anyio.wait_readable(self._pidfd)
            return
        while self._runs():
            await anyio.sleep(POLL_SECONDS)

    def _runs(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def _orphans_reaped(self) -> bool:
        """Reap those of the child's group who have become our own children, for we are PID 1 or a subreaper.

        Whether none is left. Then nobody is asked for again: the group's number may be another one's.
        """
        while not self._group_reaped:
            try:
                if not os.waitpid(-self.pid, os.WNOHANG)[0]:
                    return False
            except ChildProcessError:
                self._group_reaped = True
        return True

    async def bury(self, grace_seconds: float) -> None:
        """TERM, a short grace, KILL, reaped, pipes closed; also when cancelled meanwhile."""
        try:
            with anyio.CancelScope(shield=True):
                for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, KILL_GRACE_SECONDS)):
                    if self._popen.returncode is None:
                        self.signal(number)
                        with anyio.move_on_after(seconds):
                            await self.wait()
        finally:
            self._bury_at_once()

    def _bury_at_once(self) -> None:
        if self._popen.returncode is None:  # asyncio's Task.cancel(), called again, goes through every shield
            self.signal(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(REAP_SECONDS)
        if self._popen.returncode is None:
            _log.error("a killed process does not end", pid=self.pid, argv=self.argv)
        else:
            until = time.monotonic() + REAP_SECONDS
            while not self._orphans_reaped() and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
        for pipe in (self._stdin, self._stdout):
            if pipe is not None:
                pipe.close()
        if self._pidfd >= 0:
            anyio.notify_closing(self._pidfd)
            os.close(self._pidfd)
        self._stderr.close()


@asynccontextmanager
async def supervise(
    argv: Sequence[str],
    *,
    stdin: bool = False,
    stdout: bool = False,
    env: Mapping[str, str] | None = None,
    grace_seconds: float = TERM_GRACE_SECONDS,
) -> AsyncIterator[Child]:
    """Run a program for as long as the block lasts; on leaving it, however, the program is ended and reaped.

    `argv[0]` is a path or a name on PATH; MissingTool is not raised here, see `find_tool`.
    """
    child = Child(argv, stdin=stdin, stdout=stdout, env=env)
    try:
        yield child
    finally:
        await child.bury(grace_seconds)


async def run(argv: Sequence[str], *, doing: str, idle_seconds: float, deadline: str) -> bytes:
    """Run a program to its end and return its standard output.

    Raises ToolFailed with its last words if it ends badly, ToolStalled if it writes nothing for `idle_seconds`
    (whose option is called `deadline`). `doing` begins the error's sentence: "reading music.mp3".
    """
    output = bytearray()
    async with supervise(argv, stdout=True) as child:
        while True:
            with anyio.move_on_after(idle_seconds) as waiting:
                data = await child.stdout.receive()
            if waiting.cancelled_caught:
                raise ToolStalled(f"{doing}: {argv[0]} gave no sign of life for {idle_seconds:g} s ({deadline}).")
            if not data:
                break
            output += data
        await check_exit(child, doing)
    return bytes(output)


class Stranger:
    """A process that is not our own child, such as a child's child. Only where there are pidfds.

    Raises ProcessLookupError if it is gone already, another OSError if the kernel, or a seccomp filter, has no pidfds.
    """

    def __init__(self, pid: int) -> None:
        self._pidfd = os.pidfd_open(pid)
        self._end = select.poll()  # select() itself knows no descriptors beyond 1023
        self._end.register(self._pidfd, select.POLLIN)

    @property
    def gone(self) -> bool:
        return self._pidfd < 0 or bool(self._end.poll(0))

    async def wait(self) -> None:
        """Wait until it has ended."""
        await anyio.wait_readable(self._pidfd)

    def close(self) -> None:
        if self._pidfd >= 0:
            anyio.notify_closing(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


async def check_exit(child: Child, doing: str) -> None:
    """Wait for the child's end; raises ToolFailed unless it ended well."""
    code = await child.wait()
    if code:
        raise ToolFailed(child.argv, returncode=code, stderr=child.last_words(), doing=doing)


def find_tool(name: str, *, package: str) -> str:
    """Absolute path of a program on PATH. Raises MissingTool with the Debian package that brings it."""
    path = shutil.which(name)
    if path is None:
        raise MissingTool(name, install=f"sudo apt-get install {package}", looked="looked in PATH")
    return path


@functools.cache
def sets_death_signal(setpriv: str) -> bool:
    """Whether this `setpriv` can set a parent-death signal: BusyBox's cannot, nor util-linux' before 2.33."""
    argv, null = [*_with_death_signal(setpriv), "/bin/sh", "-c", ":"], subprocess.DEVNULL
    try:
        tried = subprocess.run(argv, stdin=null, stdout=null, stderr=null, timeout=SETPRIV_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0


def _dies_with_us() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return _with_death_signal(setpriv) if setpriv and sets_death_signal(setpriv) else ()


def _with_death_signal(setpriv: str) -> tuple[str, ...]:
    return (setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", ORPHAN_CHECK, str(os.getpid()))
