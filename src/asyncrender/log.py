"""What the library says while it works, through structlog, if the application listens.

structlog that nobody configured prints to standard output, and a library must not: until the application configures
structlog (or the standard library's logging), nothing is said at all. Context bound with `bound` travels with the task.
structlog is imported at the first word: it brings half of rich along, which `asyncrender --help` need not wait for.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any


class Logger:
    """A named logger with bound context; the levels are those of structlog."""

    def __init__(self, name: str, context: dict[str, Any]) -> None:
        self._name, self._context = name, context

    def bind(self, **context: Any) -> Logger:
        return Logger(self._name, {**self._context, **context})

    def debug(self, event: str, **facts: Any) -> None:
        self._say(logging.DEBUG, event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._say(logging.WARNING, event, facts)

    def error(self, event: str, **facts: Any) -> None:
        self._say(logging.ERROR, event, facts)

    def exception(self, event: str, **facts: Any) -> None:
        """An error with the traceback of the exception being handled."""
        self._say(logging.ERROR, event, {**facts, "exc_info": True})

    def _say(self, level: int, event: str, facts: dict[str, Any]) -> None:
        import structlog

        everything = {**structlog.contextvars.get_contextvars(), **self._context, **facts}
        if structlog.is_configured():
            method = logging.getLevelName(level).lower()
            getattr(structlog.get_logger(self._name), method)(event, **everything)
            return
        plain = logging.getLogger(self._name)
        if plain.hasHandlers() and plain.isEnabledFor(level):
            traceback = everything.pop("exc_info", False)
            words = " ".join(f"{key}={value!r}" for key, value in everything.items())
            plain.log(level, "%s %s", event, words, exc_info=traceback)


def get_logger(name: str) -> Logger:
    return Logger(name, {})


def bound(**context: Any) -> AbstractContextManager[None]:
    """Context for everything said within the block, also by tasks that begin in it."""
    import structlog

    return structlog.contextvars.bound_contextvars(**context)
