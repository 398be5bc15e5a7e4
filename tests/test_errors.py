"""Errors: one readable sentence with the facts, an exit code, and one cause out of a bundle."""

from __future__ import annotations

import pickle

import pytest

from asyncrender import errors
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
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AsyncRenderError)]
    assert [kind.__name__ for kind in kinds if f" {kind.__name__} " not in drawn.replace("\n", " ")] == []
    assert errors.__all__ == sorted(errors.__all__)
    assert {kind.__name__ for kind in kinds} <= set(errors.__all__)


@pytest.mark.parametrize("error", [InvalidPlan("no"), ChunkDamaged("short").at(chunk=3)], ids=str)
def test_plain_errors_travel_between_processes(error: AsyncRenderError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
