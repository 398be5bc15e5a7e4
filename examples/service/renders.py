"""The renders of a server and what they may cost. Knows asyncrender, and nothing of HTTP."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup
from pydantic import BaseModel, ConfigDict

import asyncrender as ar

MAX_PIXELS = 1920 * 1080  # of a frame; this and the next keep a stranger from asking for a year of 16k video
MAX_FRAMES = 1800  # a minute at 30 a second
MAX_SECONDS = 600  # of work on one render: a page may also spend a minute on each frame

OPEN_OPTIONS = {
    *("width", "height", "fps", "duration", "frame_count", "start_frame", "composition_duration"),
    *("props", "seed", "epoch_ms", "page_errors", "capture", "concurrency", "chunk_frames"),
    *("video.codec", "video.crf", "video.preset", "video.bitrate", "video.pixel_format", "video.key_frame_seconds"),
    *("audio.codec", "audio.bitrate", "audio.sample_rate", "audio.channels", "audio.muted"),
}
"""What a stranger may set. Left out is, above all, what names files or programs here: `browser`, `audio.tracks`."""

NO_NETWORK = ("--proxy-server=127.0.0.1:9", "--proxy-bypass-list=<-loopback>;scene.localhost")
"""Else a stranger's page sees what only this machine can reach. All but the scene goes to a proxy that is not there."""

_log = logging.getLogger(__name__)


class Busy(Exception):
    """So many renders are waiting that another one is not taken."""


class Order(BaseModel):
    """What shall be rendered. HTML text; no path and no URL, which would be opened with this server's rights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    html: str
    options: ar.RenderOptions = ar.RenderOptions()
    cancel_on_disconnect: bool = False


@dataclass(frozen=True)
class Problem:
    message: str
    exit_code: int = 1
    """As on the command line: 2 bad input, 75 transient, 1 anything else."""
    transient: bool = False


@dataclass(frozen=True)
class State:
    """Where a render stands."""

    name: Literal["waiting", "running", "finished", "failed", "cancelled"]
    progress: ar.Progress | None = None
    error: Problem | None = None

    @property
    def over(self) -> bool:
        return self.name not in ("waiting", "running")


class Render:
    """One render, from its order to its end. Who looks sees its present state; nothing is queued for anybody."""

    def __init__(self, order: Order, folder: Path) -> None:
        self.id = secrets.token_hex(16)  # who knows it may look, cancel and delete
        self.order, self.film = order, folder / f"{self.id}.mp4"
        self.state, self._changed = State("waiting"), anyio.Event()
        self.scope, self.over, self._watchers = anyio.CancelScope(), anyio.Event(), 0

    def become(self, state: State) -> None:
        self.state = state
        self._changed.set()
        self._changed = anyio.Event()
        if state.over:
            self.over.set()

    async def state_after(self, shown: State | None) -> State:
        """The present state, as soon as it is another than `shown`."""
        while self.state is shown:
            await self._changed.wait()
        return self.state

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Somebody watches for as long as the block lasts."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1
            if self.order.cancel_on_disconnect and not self._watchers:
                self.scope.cancel()


class Renders:
    """All renders of a server. Made by `open_renders`, which also ends them."""

    def __init__(self, tasks: TaskGroup, folder: Path, *, browsers: int, waiting: int, keep: int) -> None:
        self._tasks, self._folder, self._most, self._keep = tasks, folder, browsers + waiting, keep
        self._browsers = anyio.CapacityLimiter(browsers)  # shared by all renders, whatever each of them does
        self._turns = anyio.CapacityLimiter(browsers)  # else all that wait would be resolved before one is rendered
        self._all: dict[str, Render] = {}
        self._closed = False

    def begin(self, order: Order) -> Render:
        """Raises Busy, or InvalidOption."""
        if self._closed or sum(not other.state.over for other in self._all.values()) >= self._most:
            raise Busy
        render = Render(order, self._folder)
        check(order, render.film)
        self._all[render.id] = render
        self._tasks.start_soon(self._run, render)
        return render

    def find(self, name: str) -> Render | None:
        return self._all.get(name)

    def forget(self, *renders: Render) -> None:
        """Remove them and their films."""
        for render in renders:
            self._all.pop(render.id, None)
            render.film.unlink(missing_ok=True)

    def close(self) -> None:
        """Begin nothing more, and cancel what is under way."""
        self._closed = True
        for render in self._all.values():
            render.scope.cancel()

    async def _run(self, render: Render) -> None:
        end = State("cancelled")
        try:
            with render.scope:
                async with self._turns:
                    with anyio.move_on_after(MAX_SECONDS) as limit:
                        await self._carry_out(render)
                        end = State("finished")
                    if limit.cancelled_caught:
                        end = State("failed", error=Problem(f"It was not done after {MAX_SECONDS} s."))
        except ar.AsyncRenderError as error:
            end = State("failed", error=Problem(str(error), error.exit_code, error.transient))
        except Exception as error:  # a defect; the other renders shall not go down with it
            _log.exception("Render %s", render.id)
            end = State("failed", error=Problem(repr(error)))
        finally:
            self._end(render, end)

    async def _carry_out(self, render: Render) -> None:
        render.become(State("running"))
        scene, options = ar.Html(render.order.html), render.order.options
        own = {
            "browser": ar.BrowserOptions(args=NO_NETWORK),
            # one browser each, so that nobody waits for a share; who asks for more takes more of all there are
            "concurrency": min(options.concurrency or 1, int(self._browsers.total_tokens)),
            # so that resolve need not load the page, whose own wishes check_cost has not seen yet
            "preroll": "always",
            "resume": False,
        }
        options = await ar.resolve(scene, render.film, options.model_copy(update=own), limiter=self._browsers)
        check_cost(options)
        plan = ar.RenderOrchestrator.plan(scene, render.film, options)
        async with ar.open_render(plan, limiter=self._browsers) as job:
            async for event in job.events():
                if isinstance(event, ar.Progress):
                    render.become(State("running", event))
            await job.result()

    def _end(self, render: Render, end: State) -> None:
        if end.name != "finished":  # it may have been cancelled after its film was there
            render.film.unlink(missing_ok=True)
        render.become(replace(end, progress=render.state.progress))
        ended = [other for other in self._all.values() if other.state.over]
        self.forget(*ended[: max(0, len(ended) - self._keep)])


@asynccontextmanager
async def open_renders(folder: Path, *, browsers: int, waiting: int, keep: int) -> AsyncIterator[Renders]:
    """Renders can be begun while the block lasts. Leaving it cancels them, waits for their end, and removes the films.

    At most `browsers` browsers run at once, `waiting` renders wait, and the last `keep` that are over are remembered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        async with anyio.create_task_group() as tasks:
            renders = Renders(tasks, folder, browsers=browsers, waiting=waiting, keep=keep)
            yield renders
            renders.close()
    finally:
        renders.forget(*renders._all.values())


def check(order: Order, film: Path) -> None:
    """Refuse what can be refused without a look at anything. Raises InvalidOption."""
    for name, value in given(order.options):
        if name not in OPEN_OPTIONS:
            raise ar.InvalidOption(name, value, f"a request may set {', '.join(sorted(OPEN_OPTIONS))}")
    check_cost(order.options)
    ar.RenderOrchestrator.plan(ar.Html(order.html), film, order.options.model_copy(update={"frame_count": 1}))


def given(options: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of each option that was set."""
    for name in sorted(options.model_fields_set):
        value = getattr(options, name)
        if isinstance(value, BaseModel):
            yield from given(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def check_cost(options: ar.RenderOptions) -> None:
    """Raises InvalidOption for a film that is too large, as far as its size is known."""
    if (options.width or 1) * (options.height or 1) > MAX_PIXELS:
        raise ar.InvalidOption("width", options.width, f"width x height may be {MAX_PIXELS} pixels at most")
    frames = options.frame_count or (options.duration or 0) * (options.fps or 30)
    if options.start_frame + frames > MAX_FRAMES:
        length = "frame_count" if options.frame_count else "duration"
        raise ar.InvalidOption(length, getattr(options, length), f"the film may end at frame {MAX_FRAMES} at most")
