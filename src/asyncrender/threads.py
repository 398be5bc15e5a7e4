"""Blocking work in a thread that is never left behind: whatever cancels the caller, it waits until the thread is done.

anyio's own shield does not hold against `asyncio.Task.cancel()`, nor against a loop that shuts down: a thread that then
goes on alone would write files after everybody believes the render over. On asyncio a thread ends with its work:
anyio's wait for more, and so Python never ends where a loop was left by `sys.exit` in a task, or just abandoned.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from asyncrender.pipes import running_loop

T = TypeVar("T")

LOOK_SECONDS = 0.005
"""How often a caller that was cancelled looks whether its thread has ended."""

MOST_THREADS = 40
"""At a time, in one event loop; as many as anyio gives to all its users together."""

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("asyncrender_limiter")
_job: ContextVar[_Job | None] = ContextVar("asyncrender_thread", default=None)


class Stopped(Exception):
    """Raised in a thread by `pause_point`, when its caller was cancelled."""


class _Job:
    """Work in a thread. It ends once: carried out, stopped at a pause point, or never begun."""

    def __init__(self, work: Callable[[], object], *, stoppable: bool) -> None:
        self._work, self.stoppable = work, stoppable
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.began = False
        self.stopping = False

    def run(self) -> object:
        with self._lock:
            self.began = True
            if self.stopping:
                return None
        try:
            _job.set(self)  # of this thread's own copy of the context
            return self._work()
        finally:
            self._ended.set()

    def stop(self) -> None:
        with self._lock:
            self.stopping = True
            if not self.began:
                self._ended.set()

    async def ended(self) -> None:
        try:
            with anyio.CancelScope(shield=True):
                while not self._ended.is_set():
                    await anyio.sleep(LOOK_SECONDS)
        finally:
            self._ended.wait()  # cancelled again: rather hold the loop up than leave the thread alone


async def in_thread(work: Callable[[], T], *, stoppable: bool = False, surely: bool = False) -> T:
    """The result of `work()`, carried out in a thread.

    A cancelled scope lets it finish. `stoppable`: it is ended instead at its next `pause_point`. `surely`: it is also
    carried out, right here, if the caller is cancelled before it began; for what tidies.
    """
    job = _Job(work, stoppable=stoppable)
    try:
        result = await _carry_out(job)
    except BaseException:
        job.stop()
        if surely and not job.began:
            work()
        await job.ended()
        raise
    return result  # type: ignore[return-value]


async def _carry_out(job: _Job) -> object:
    loop = running_loop()
    if loop is None:
        return await anyio.to_thread.run_sync(job.run, abandon_on_cancel=job.stoppable, limiter=_own_limiter())
    await anyio.lowlevel.checkpoint()
    async with _own_limiter():
        with anyio.CancelScope(shield=not job.stoppable):
            result = await _begin(job, loop)
    return result


def _begin(job: _Job, loop: asyncio.AbstractEventLoop) -> asyncio.Future[object]:
    over = loop.create_future()

    def settle(result: object, error: BaseException | None) -> None:
        if over.done():  # its caller was cancelled
            return
        if error is None:
            over.set_result(result)
        else:
            over.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = job.run()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=copy_context().run, args=(run,), name="asyncrender").start()
    return over


def _own_limiter() -> anyio.CapacityLimiter:
    """Not anyio's: the host program's threads may have taken all of that, and be waiting for us."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(MOST_THREADS)
        _limiter.set(limiter)
        return limiter


def pause_point() -> None:
    """To be called now and then by long work: ends it if it may be stopped, and its caller was cancelled."""
    job = _job.get()
    if job is not None and job.stopping and job.stoppable:
        raise Stopped
