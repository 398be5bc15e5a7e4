"""Errors: one readable sentence with the facts, an exit code, and one cause out of a bundle."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest

import asyncrender
from asyncrender import errors
from asyncrender.browser.connection import CallFailed
from asyncrender.errors import (
    AsyncRenderError,
    BrowserCrashed,
    BrowserLaunchFailed,
    ChunkDamaged,
    DiskFull,
    InvalidOption,
    InvalidPlan,
    MissingTool,
    OutputLocked,
    PageNotReady,
    PageThrew,
    RenderCancelled,
    SceneNotFound,
    ToolFailed,
    ToolStalled,
    single_error,
)

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AsyncRenderError)]


@pytest.mark.parametrize(
    ("error", "exit_code", "transient"),
    [
        (InvalidOption("video.crf", 99, "0 to 51"), 2, False),
        (SceneNotFound("scene", "a.html", "there is no such file"), 2, False),
        (InvalidPlan("no plan"), 2, False),
        (MissingTool("ffmpeg", "sudo apt-get install ffmpeg", "looked in PATH"), 1, False),
        (PageThrew("Error: no", "http://scene.localhost/"), 1, False),
        (BrowserLaunchFailed("It did not start."), 75, True),
        (BrowserCrashed("It went away."), 75, True),
        (ToolFailed(["ffmpeg"], returncode=1, stderr="bad", doing="encoding"), 1, False),
        (ToolFailed(["ffmpeg"], returncode=-9, stderr="", doing="encoding"), 75, True),
        (ToolStalled("still"), 75, True),
        (ChunkDamaged("short"), 75, True),
        (DiskFull("full"), 1, False),
        (OutputLocked("busy"), 75, True),
        (RenderCancelled("cancelled"), 130, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_says_how_the_command_line_ends(error: AsyncRenderError, exit_code: int, transient: bool) -> None:
    assert (error.exit_code, error.transient) == (exit_code, transient)


def test_an_option_error_names_option_value_and_what_is_allowed() -> None:
    error = InvalidOption("video.crf", 99, "0 to 51")
    assert str(error) == "video.crf=99 is not possible: 0 to 51."
    assert isinstance(error, ValueError)


def test_a_tools_error_carries_its_last_words() -> None:
    error = ToolFailed(["ffmpeg", "-i", "x"], returncode=1, stderr="x: No such file\n", doing="reading x")
    assert str(error) == "reading x: ffmpeg ended with exit code 1. Its last words: x: No such file"
    killed = ToolFailed(["ffmpeg"], returncode=-9, stderr="", doing="encoding")
    assert str(killed) == "encoding: ffmpeg was killed by signal 9. Its last words: nothing"


def test_a_page_that_is_not_ready_says_what_it_waits_for() -> None:
    error = PageNotReady("p.html", waiting_for=["the font Inter", "a.png"], seconds=60, deadline="timeouts.ready")
    assert "the font Inter; a.png" in str(error)
    assert "timeouts.ready" in str(error)


def test_an_error_knows_where_it_happened_and_the_first_place_stays() -> None:
    error = PageThrew("Error: no", "p.html").at(frame=7).at(frame=9, chunk=2)
    assert str(error).startswith("chunk 2, frame 7: p.html threw: Error: no")
    assert (error.frame, error.chunk) == (7, 2)


def test_the_first_failure_is_reported_and_ours_before_strangers() -> None:
    crash, damage = BrowserCrashed("gone"), ChunkDamaged("short")
    bundle = BaseExceptionGroup("", [KeyboardInterrupt(), ExceptionGroup("", [OSError("pipe"), crash]), damage])
    assert single_error(bundle) is crash
    assert str(single_error(ExceptionGroup("", [ValueError("a"), ValueError("b")]))) == "a"
    assert type(single_error(BaseExceptionGroup("", [KeyboardInterrupt()]))) is KeyboardInterrupt


def test_the_tree_is_drawn_whole() -> None:
    drawn = errors.__doc__ or ""
    assert [kind.__name__ for kind in KINDS if f" {kind.__name__} " not in drawn.replace("\n", " ")] == []
    assert errors.__all__ == sorted(errors.__all__)
    assert {kind.__name__ for kind in KINDS} <= set(errors.__all__) & set(asyncrender.__all__)


HOW_MADE: dict[type[AsyncRenderError], Callable[[], AsyncRenderError]] = {
    InvalidOption: lambda: InvalidOption("video.crf", 99, "0 to 51"),
    SceneNotFound: lambda: SceneNotFound("scene", "a.html", "there is no such file"),
    MissingTool: lambda: MissingTool("ffmpeg", "sudo apt-get install ffmpeg", "looked in PATH"),
    PageThrew: lambda: PageThrew("Error: no", "p.html"),
    PageNotReady: lambda: PageNotReady("p.html", waiting_for=["a.png"], seconds=60, deadline="timeouts.ready"),
    BrowserLaunchFailed: lambda: BrowserLaunchFailed("It did not start.", stderr="no display"),
    BrowserCrashed: lambda: crashed(),
    ToolFailed: lambda: ToolFailed(["ffmpeg", "-i"], returncode=-9, stderr="bad", doing="encoding"),
    CallFailed: lambda: CallFailed("Page.navigate", -32000, "no such target"),
}
"""All others are made of their message."""


def crashed() -> BrowserCrashed:
    error = BrowserCrashed("It went away.", stderr="out of memory")
    error.ended(-9)
    return error


def made(kind: type[AsyncRenderError]) -> AsyncRenderError:
    error = HOW_MADE.get(kind, lambda: kind("words"))().at(chunk=3, frame=70)
    error.add_note("of a friend")
    return error


def same(error: BaseException, other: BaseException) -> bool:
    return (type(error), str(error), error.args, vars(error)) == (type(other), str(other), other.args, vars(other))


@pytest.mark.parametrize("kind", [*KINDS, CallFailed], ids=lambda kind: kind.__name__)
def test_an_error_can_be_copied_and_travel_between_processes(kind: type[AsyncRenderError]) -> None:
    error = made(kind)
    again = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in (*again, copy.copy(error), copy.deepcopy(error)):
        assert same(error, other)
        assert (other.exit_code, other.transient) == (error.exit_code, error.transient)


def fail(kind: type[AsyncRenderError]) -> None:
    raise made(kind) from OSError("of the system")


def test_a_pool_of_processes_outlives_an_error() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for kind in (SceneNotFound, PageNotReady):
            with pytest.raises(kind) as caught:
                pool.submit(fail, kind).result()
            assert same(caught.value, made(kind))
        assert pool.submit(abs, -1).result() == 1
