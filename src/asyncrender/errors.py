"""What can go wrong: one tree. This room knows no other room and does no I/O.

AsyncRenderError
├── InvalidOption          an option is wrong; nothing was started                          (exit code 2)
│   └── SceneNotFound      the page is not there: no such file, HTTP 404, refused           (exit code 2)
├── InvalidPlan            a plan is not one, or would write outside its work folder        (exit code 2)
├── MissingTool            ffmpeg or the browser is not installed, or too old; says how to install it
├── PageError              the page's own fault
│   ├── PageThrew          an uncaught error or rejection, with the page's stack
│   ├── PageNotReady       a deadline passed before the page was ready; names what it waits for
│   └── PageStalled        the page's scripts did not finish a frame within their deadline
├── BrowserError           the browser's fault; transient
│   ├── BrowserLaunchFailed
│   ├── BrowserCrashed     the browser, the page's renderer, its GPU or network process died
│   ├── BrowserStalled     the browser, not the page, did not do its part of a frame within the deadline
│   └── CaptureUnavailable frames of this page cannot leave the browser in the way that was chosen; not transient
├── MediaError             ffmpeg's fault, or a media file's
│   ├── ToolFailed         ffmpeg or ffprobe ended badly; carries its last words
│   ├── ToolStalled        ffmpeg made no progress within its deadline; transient
│   └── ChunkDamaged       a chunk is not what its sidecar or its plan says; transient
├── OutputError            the output's place
│   ├── DiskFull
│   └── OutputLocked       another render writes this output; transient
└── RenderCancelled        `job.cancel()` was called
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = [
    "AsyncRenderError",
    "BrowserCrashed",
    "BrowserError",
    "BrowserLaunchFailed",
    "BrowserStalled",
    "CaptureUnavailable",
    "ChunkDamaged",
    "DiskFull",
    "InvalidOption",
    "InvalidPlan",
    "MediaError",
    "MissingTool",
    "OutputError",
    "OutputLocked",
    "PageError",
    "PageNotReady",
    "PageStalled",
    "PageThrew",
    "RenderCancelled",
    "SceneNotFound",
    "ToolFailed",
    "ToolStalled",
    "disk_error",
    "shortened",
    "single_error",
]


SHOWN_CHARS = 1000
"""Of a value that is refused: props, or a scene's HTML, may be megabytes; a path is shorter."""


class AsyncRenderError(Exception):
    """The root: everything this library raises on purpose.

    `exit_code` is the command line's (0 done, 1 failed for good, 2 bad input, 75 transient, 130 interrupted);
    `transient` says that trying again may help; `frame` and `chunk` say where, when that is known.
    """

    exit_code: int = 1
    transient: bool = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.frame: int | None = None
        self.chunk: int | None = None

    def at(self, *, frame: int | None = None, chunk: int | None = None) -> AsyncRenderError:
        """The same error, which now knows where it happened. What was known before stays."""
        self.frame = frame if self.frame is None else self.frame
        self.chunk = chunk if self.chunk is None else self.chunk
        return self

    def __str__(self) -> str:
        place = [f"chunk {self.chunk}"] * (self.chunk is not None) + [f"frame {self.frame}"] * (self.frame is not None)
        return f"{', '.join(place)}: {self.message}" if place else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied, and sent to other processes, by what it knows: most kinds are not made of `args`, their message."""
        return type(self).__new__, (type(self), *self.args), vars(self)


class InvalidOption(AsyncRenderError, ValueError):
    """An option is wrong. `option` is its dotted name (`video.crf`), `value` what was given, `allowed` what may be."""

    exit_code = 2

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(f"{option}={shortened(repr(value), SHOWN_CHARS)} is not possible: {allowed}.")
        self.option, self.value, self.allowed = option, value, allowed


class SceneNotFound(InvalidOption):
    """The scene is not there. `value` is the path or URL; `allowed` ends with the system's or server's own words."""


class InvalidPlan(AsyncRenderError, ValueError):
    """A plan cannot be run: it does not validate, or it names a path outside its work folder."""

    exit_code = 2


class MissingTool(AsyncRenderError):
    """A program is not installed, or is too old. `tool` is its name, `install` a command that installs it on Debian."""

    def __init__(self, tool: str, install: str, looked: str) -> None:
        super().__init__(f"{tool} was not found ({looked}). Install it with: {install}")
        self.tool, self.install = tool, install


class PageError(AsyncRenderError):
    """The page did something that ends the render."""


class PageThrew(PageError):
    """An uncaught error or an unhandled rejection in the page. `stack` is the page's own."""

    def __init__(self, stack: str, url: str) -> None:
        super().__init__(f"{url} threw: {stack}\nMend the page, or go on regardless with page_errors='warn'.")
        self.stack, self.url = stack, url


class PageNotReady(PageError):
    """The page was not ready in time. `waiting_for` names each thing it waits for."""

    def __init__(self, url: str, *, waiting_for: Sequence[str], seconds: float, deadline: str) -> None:
        what = "; ".join(waiting_for) or "its first answer"
        super().__init__(
            f"{url} was not ready after {seconds:g} s: it waits for {what}. Raise {deadline} if it needs longer."
        )
        self.url, self.waiting_for = url, tuple(waiting_for)


class PageStalled(PageError):
    """The page's scripts did not finish a frame within `timeouts.frame`: an endless loop, or a far too busy machine."""


class BrowserError(AsyncRenderError):
    """The browser failed, not the page."""

    exit_code = 75
    transient = True


class BrowserLaunchFailed(BrowserError):
    """The browser did not come up. `stderr` holds its last words, `returncode` how it ended (negative: the signal)."""

    def __init__(self, message: str, *, stderr: str = "") -> None:
        super().__init__(message + (f" Its last words: {stderr}" if stderr else ""))
        self.stderr = stderr
        self.returncode: int | None = None

    def ended(self, returncode: int | None) -> None:
        """Tell how the browser's process ended, once that is known."""
        if returncode is not None and self.returncode is None:
            self.returncode = returncode
            self.message += f" It {_how_ended(returncode)}."


class BrowserCrashed(BrowserLaunchFailed):
    """The browser or the page's renderer died while rendering."""


class BrowserStalled(BrowserError):
    """The browser did not do its part of a frame in time: it hangs, or does not draw what the page's scripts did."""


class CaptureUnavailable(BrowserError):
    """Frames of this page cannot leave the browser in the way that `capture` says; another way may do."""

    exit_code = 1
    transient = False


class MediaError(AsyncRenderError):
    """ffmpeg failed, or a media file is not what it should be."""


class ToolFailed(MediaError):
    """A tool ended badly. Facts: `argv`, `returncode` (negative: the signal), `stderr` (its last words).

    Transient if a signal ended it: the machine ran out of memory, or somebody killed it.
    """

    def __init__(self, argv: Sequence[str], *, returncode: int, stderr: str, doing: str) -> None:
        last = stderr.strip() or "nothing"
        super().__init__(f"{doing}: {argv[0]} {_how_ended(returncode)}. Its last words: {last}")
        self.argv, self.returncode, self.stderr = tuple(argv), returncode, stderr
        self.transient = returncode < 0
        self.exit_code = 75 if self.transient else 1


class ToolStalled(MediaError):
    """A tool made no progress within its deadline (`timeouts.encode`, `timeouts.mix`)."""

    exit_code = 75
    transient = True


class ChunkDamaged(MediaError):
    """A chunk does not hold what it should: wrong frame count, size or checksum."""

    exit_code = 75
    transient = True


class OutputError(AsyncRenderError):
    """The output, or the work folder beside it, cannot be written."""


class DiskFull(OutputError):
    """No space is left where the output is made. What was there before is untouched."""


class OutputLocked(OutputError):
    """Another render is writing the same output right now."""

    exit_code = 75
    transient = True


NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""The disk is full, or the user's share of it."""


def disk_error(path: object, error: OSError) -> OutputError:
    """What the system said of a file that was to be written, by its right name."""
    kind = DiskFull if error.errno in NO_SPACE else OutputError
    return kind(f"{path} could not be written: {error.strerror}.")


class RenderCancelled(AsyncRenderError):
    """The render was cancelled through its job. (A cancelled scope raises the backend's own cancellation instead.)"""

    exit_code = 130


@contextmanager
def located(*, frame: int | None = None, chunk: int | None = None) -> Iterator[None]:
    """Errors out of the block know that it happened there."""
    try:
        yield
    except AsyncRenderError as error:
        error.at(frame=frame, chunk=chunk)
        raise


def shortened(text: str, most_chars: int) -> str:
    """So much of a text as a message can hold, with … where it goes on."""
    return text if len(text) <= most_chars else text[:most_chars] + "…"


def _how_ended(returncode: int) -> str:
    return f"was killed by signal {-returncode}" if returncode < 0 else f"ended with exit code {returncode}"


def single_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error to report out of a task group's bundle: the first failure, siblings' cancellations left aside.

    A task group cancels the siblings of the first task that fails and bundles what comes out of them; users shall
    see the cause alone. The cause keeps its own traceback.
    """
    flat: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending[:0] = error.exceptions
        else:
            flat.append(error)
    failures = [error for error in flat if isinstance(error, Exception)]
    ours = [error for error in failures if isinstance(error, AsyncRenderError)]
    return (ours or failures or flat)[0]
