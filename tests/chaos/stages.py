"""Where a render is, as it says itself in its log, and something to do at a given moment of it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

STAGES = ("launch", "load", "preroll", "capture", "drain", "concat", "mix", "publish")

STAGE_SECONDS = {"launch": 0.2, "load": 0.15, "preroll": 0.3, "capture": 0.1, "drain": 0.1, "concat": 0.3, "mix": 0.3}
"""About so long each lasts here; the moment is drawn from it. Publishing is over at once."""

_STAGE = re.compile(r"\bstage='(\w+)'")


class Moment:
    """The `nth` time a stage begins, and `delay` seconds more: then `act` is called, once."""

    def __init__(self, stage: str, nth: int = 1, delay: float = 0.0) -> None:
        self.stage, self.delay = stage, delay
        self._left = nth
        self._reached = anyio.Event()
        self.act: Callable[[], None] = lambda: None
        self.now = "prepare"
        """The stage that began last."""
        self.at: str | None = None
        """The stage in which it acted."""
        self.acted_at = 0.0

    def see(self, stage: str) -> None:
        self.now = stage
        if stage == self.stage and self._left > 0:
            self._left -= 1
            if self._left == 0:
                if self.delay:
                    self._reached.set()
                else:
                    self._fire()

    async def wait(self) -> None:
        """To be run beside the render."""
        await self._reached.wait()
        await anyio.sleep(self.delay)
        self._fire()

    def _fire(self) -> None:
        self.at, self.acted_at = self.now, time.monotonic()
        self.act()


class _Log(logging.Handler):
    def __init__(self, moment: Moment) -> None:
        super().__init__(logging.DEBUG)
        self._moment = moment

    def emit(self, record: logging.LogRecord) -> None:
        if found := _STAGE.search(record.getMessage()):
            self._moment.see(found[1])


@contextmanager
def watched(moment: Moment) -> Iterator[None]:
    """Let the moment see what renders say."""
    logger, handler = logging.getLogger("asyncrender"), _Log(moment)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
