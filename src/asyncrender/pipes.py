"""Our end of a child's pipe: read and written whenever it is ready, without a copy where that can be had.

On trio the task that waits is woken for each piece. On asyncio and uvloop the event loop itself reads or writes them,
and wakes the task at the end: for the pieces of a picture, and for what a browser says, that is half the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import anyio.lowlevel

from asyncrender.forks import Descriptor

PIPE_BYTES = 1 << 20
"""Wished size of a pipe, Linux' limit for ordinary users: fewer wake-ups for pictures of some megabytes."""


@dataclass(frozen=True)
class FilePart:
    """`size` bytes of an open file, from `at` on. They have to stay as they are until they are sent, and read."""

    fd: int
    at: int
    size: int

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        """Raises EOFError if the file ends before."""
        data = os.pread(self.fd, self.size, self.at)
        if len(data) < self.size:
            raise EOFError(f"of {self.size} bytes only {len(data)} are there")
        return data


class Pipe:
    """Our end of a child's pipe. `receive` gives nothing at the end; `send` raises BrokenPipeError if nobody reads."""

    def __init__(self, fd: int) -> None:
        self._end = Descriptor(fd)
        self._waited = False
        """The last `receive` gave others their turn, so that the next one need not."""
        self._room: bytearray | None = None
        self._stop: Callable[[], None] | None = None
        """Ends what the event loop does here."""
        os.set_blocking(fd, False)
        if sys.platform == "linux":
            import fcntl

            with contextlib.suppress(OSError):  # the user's pipe quota is used up: the default size does too
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    async def receive(self) -> memoryview:
        """What has come, to be used up before the next call: it all comes into the same room.

        New memory for each piece, given back but for the little that was filled, would be a heap that only grows.
        """
        if not self._waited:
            await anyio.lowlevel.checkpoint()
        self._waited = False
        while True:
            try:
                return self._receive_now()
            except BlockingIOError:
                await anyio.wait_readable(self._end.fd)
                self._waited = True

    async def receive_all(self, take: Callable[[memoryview], None]) -> None:
        """Hand whatever comes to `take`, until the end. It has to be used up there, and not to block."""

        def receive() -> bool:
            try:
                data = self._receive_now()
            except BlockingIOError:
                return False
            take(data)
            return not data

        await self._until(receive, writing=False)

    def _receive_now(self) -> memoryview:
        if self._room is None:
            self._room = bytearray(PIPE_BYTES)
        return memoryview(self._room)[: os.readv(self._end.fd, [self._room])]

    async def send(self, *data: bytes | memoryview | FilePart) -> None:
        """One after the other. A part of a file goes without a copy, where that can be had, if it is so large that it
        displaces the last.

        Others get their turn only if there is no room: it is the reader whom everybody waits for.
        """
        waited = False
        for piece in data:
            send = self._sending(piece)
            if not send():
                await self._until(send, writing=True)
                waited = True
        if not waited:
            await anyio.lowlevel.checkpoint_if_cancelled()

    def _sending(self, data: bytes | memoryview | FilePart) -> Callable[[], bool]:
        """What sends as much as there is room for, and says whether that was the rest."""
        if isinstance(data, FilePart):
            if sys.platform == "linux" and len(data) >= PIPE_BYTES:
                return self._splicing(data)
            data = bytes(data)
        left = memoryview(data)

        def send() -> bool:
            nonlocal left
            left = left[self.send_now(left) :]
            return not left

        return send

    def send_now(self, data: bytes | memoryview) -> int:
        """How many of the bytes there was room for: they are sent. Raises BrokenPipeError."""
        try:
            return os.write(self._end.fd, data)
        except BlockingIOError:
            return 0

    def _splicing(self, part: FilePart) -> Callable[[], bool]:
        at, end = part.at, part.at + part.size

        def splice() -> bool:
            nonlocal at
            while at < end:
                try:
                    moved = os.splice(part.fd, self._end.fd, end - at, offset_src=at)
                except BlockingIOError:
                    return False
                if not moved:
                    raise EOFError(f"of {part.size} bytes only {at - part.at} are there")
                at += moved
            return True

        return splice

    async def _until(self, act: Callable[[], bool], *, writing: bool) -> None:
        """Call `act` whenever the pipe is ready, until it says that it was the last time. Raises what that raises."""
        loop = running_loop()
        if loop is None:
            wait = anyio.wait_writable if writing else anyio.wait_readable
            while not act():
                await wait(self._end.fd)
            return
        over = loop.create_future()

        def on_ready() -> None:
            if over.done():
                return
            try:
                if act():
                    over.set_result(None)
            except Exception as error:
                over.set_exception(error)

        def stop() -> None:
            self._stop = None
            if self._end.fd >= 0:  # else this is a process forked off from ours, and the event loop is ours
                (loop.remove_writer if writing else loop.remove_reader)(self._end.fd)
            if not over.done():
                over.set_exception(anyio.ClosedResourceError())

        (loop.add_writer if writing else loop.add_reader)(self._end.fd, on_ready)
        self._stop = stop
        try:
            await over
        finally:
            if self._stop is stop:
                stop()

    def close(self) -> None:
        if self._end.fd >= 0:
            if self._stop is not None:
                self._stop()
            anyio.notify_closing(self._end.fd)
            self._end.close()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of asyncio, or of its kind, if it runs this task."""
    try:
        return asyncio.get_running_loop() if asyncio.current_task() is not None else None
    except RuntimeError:
        return None
