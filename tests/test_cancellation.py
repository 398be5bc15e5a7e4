"""Ending a render early, or having its children die: everything reaped, everything tidied, one outcome."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import psutil
import pytest

import asyncrender as ar
from asyncrender import chunk
from asyncrender.browser.camera import Picture, PngPicture
from children import arrived, children, strike
from frames import SCENES, digests, left_in, small

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30
"""Far more than TERM's and KILL's grace together."""

VANISH_SECONDS = 2.0
"""Of killed processes, on a busy machine."""

LONG = {"frame_count": 4000, "concurrency": 2}


def alive() -> list[str]:
    """Our own children are buried when a call returns; theirs are killed by then, and vanish a moment later."""
    until = time.monotonic() + VANISH_SECONDS
    while (found := children("chrom") + children("ffmpeg") + children("ffprobe")) and time.monotonic() < until:
        time.sleep(0.01)
    return [str(child.name()) for child in found]


def once(frames: int, act: Callable[[], object]) -> Callable[[ar.Progress], None]:
    """A progress callback that acts, one time, when so many frames are done."""
    acted = False

    def look(progress: ar.Progress) -> None:
        nonlocal acted
        if progress.frames_done >= frames and not acted:
            acted = True
            act()

    return look


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out.mkv").write_bytes(b"an older film")
    return tmp_path / "out.mkv"


def untouched(output: Path) -> bool:
    return output.read_bytes() == b"an older film" and left_in(output.parent) == {"out.mkv"}


async def test_a_scope_cancels_a_render(output: Path) -> None:
    with anyio.CancelScope() as scope:
        await ar.render(SCENES / "canvas.html", output, small(**LONG), on_progress=once(5, scope.cancel))
    assert scope.cancelled_caught
    assert not alive()
    assert untouched(output)


async def test_a_crashed_browser_is_replaced_and_nobody_sees_it(tmp_path: Path) -> None:
    def kill() -> None:
        strike([min(children("chrom"), key=lambda child: child.pid)])

    options = small(frame_count=60)
    result = await ar.render(SCENES / "canvas.html", tmp_path / "a.mkv", options, on_progress=once(20, kill))
    assert [chunk.attempts for chunk in result.chunks] == [2]
    await ar.render(SCENES / "canvas.html", tmp_path / "b.mkv", options)
    assert digests(tmp_path / "a.mkv") == digests(tmp_path / "b.mkv")
    assert not alive()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_children_that_are_stopped_do_not_hold_a_cancel_up(output: Path) -> None:
    def stop_all_and_cancel() -> None:
        strike(psutil.Process().children(recursive=True), signal.SIGSTOP)
        scope.cancel()

    with anyio.fail_after(PATIENCE_SECONDS), anyio.CancelScope() as scope:
        options = small(**LONG)
        await ar.render(SCENES / "canvas.html", output, options, on_progress=once(5, stop_all_and_cancel))
    assert scope.cancelled_caught
    assert not alive()
    assert untouched(output)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_deadline_at_any_moment(output: Path) -> None:
    for seconds in (0.0, 0.05, 0.2, 0.4, 0.8, 1.2):
        with anyio.move_on_after(seconds) as scope:
            await ar.render(SCENES / "canvas.html", output, small(**LONG))
        assert scope.cancelled_caught
        assert not alive()
        assert untouched(output)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_an_encoder_that_is_cancelled_first_is_no_error_of_its_own() -> None:
    """Which of the two tasks learns first that the render is cancelled, nobody says."""
    send, receive = anyio.create_memory_object_stream[Picture](1)
    receive.close()
    with send, anyio.move_on_after(0.05) as scope:
        await chunk._hand_over(PngPicture(b""), send)
    assert scope.cancelled_caught


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_job_is_cancelled(output: Path) -> None:
    plan = ar.RenderOrchestrator.plan(SCENES / "canvas.html", output, small(**LONG))
    async with ar.open_render(plan) as job:
        ends = []
        async for event in job.events():
            if isinstance(event, ar.Progress) and event.frames_done > 3:
                job.cancel()
            if not isinstance(event, ar.Progress):
                ends.append(event)
        assert ends == [ar.Cancelled()]
        with pytest.raises(ar.RenderCancelled):
            await job.result()
    assert not alive()
    assert untouched(output)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_leaving_the_block_early_cancels(output: Path) -> None:
    plan = ar.RenderOrchestrator.plan(SCENES / "canvas.html", output, small(**LONG))
    async with ar.open_render(plan) as job:
        async for event in job.events():
            if isinstance(event, ar.Progress) and event.frames_done > 3:
                break
    assert not alive()
    assert untouched(output)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_error_in_the_block_comes_out_as_it_is(output: Path) -> None:
    plan = ar.RenderOrchestrator.plan(SCENES / "canvas.html", output, small(**LONG))

    async def stumble() -> None:
        async with ar.open_render(plan) as job:
            async for event in job.events():
                if isinstance(event, ar.Progress) and event.frames_done > 3:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await stumble()
    assert not alive()
    assert untouched(output)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_failing_callback_fails_the_render(output: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ar.render(SCENES / "canvas.html", output, small(**LONG), on_progress=once(3, fail))
    assert not alive()
    assert untouched(output)


@pytest.mark.asyncio
async def test_asyncio_cancellation_is_asyncios_own(output: Path) -> None:
    begun = asyncio.Event()
    render = ar.render(SCENES / "canvas.html", output, small(**LONG), on_progress=once(3, begun.set))
    task = asyncio.create_task(render)
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive()
    assert untouched(output)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_encoder_is_replaced(tmp_path: Path, number: signal.Signals) -> None:
    def kill() -> None:
        strike(arrived("ffmpeg"), number)

    options = small(frame_count=60)
    result = await ar.render(SCENES / "canvas.html", tmp_path / "a.mkv", options, on_progress=once(20, kill))
    assert [chunk.attempts for chunk in result.chunks] == [2]
    assert not alive()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_browser_that_dies_again_and_again_is_an_error(output: Path) -> None:
    killing = anyio.Event()

    async def keep_killing() -> None:
        await killing.wait()
        while True:
            strike(children("chrom"))
            await anyio.sleep(0.05)

    caught: list[ar.BrowserError] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_killing)
        try:
            await ar.render(SCENES / "canvas.html", output, small(**LONG), on_progress=once(3, killing.set))
        except ar.BrowserError as error:
            caught.append(error)
        tasks.cancel_scope.cancel()
    assert caught[0].chunk is not None
    assert caught[0].exit_code == 75
    assert "was killed by signal 9" in str(caught[0])
    assert not alive()
    assert untouched(output)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_encoder_that_dies_again_and_again_is_an_error(output: Path) -> None:
    def kill(progress: ar.Progress) -> None:
        if progress.frames_done:
            strike(children("ffmpeg"))

    with pytest.raises(ar.ToolFailed, match="was killed by signal 9") as caught:
        await ar.render(SCENES / "canvas.html", output, small(frame_count=500), on_progress=kill)
    error = caught.value
    assert (error.returncode, error.chunk, error.exit_code) == (-9, 0, 75)
    assert error.frame is not None
    assert not alive()
    assert untouched(output)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("concat", signal.SIGKILL),
        ("mix", signal.SIGTERM),
        pytest.param("concat", signal.SIGTERM, marks=pytest.mark.soak),
        pytest.param("mix", signal.SIGKILL, marks=pytest.mark.soak),
    ],
)
async def test_an_ffmpeg_that_is_killed_at_the_end_is_replaced(
    tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    killed: list[psutil.Process] = []

    async def look_for_it() -> None:
        while not killed:
            killed.extend(children("ffmpeg") if reached else [])
            strike(killed, number)
            await anyio.sleep(0)

    def look(progress: ar.Progress) -> None:
        if progress.stage == stage:
            reached.append(stage)

    reached: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look_for_it)
        await ar.render(SCENES / "canvas.html", tmp_path / "a.mkv", small(frame_count=30), on_progress=look)
        tasks.cancel_scope.cancel()
    assert killed
    await ar.render(SCENES / "canvas.html", tmp_path / "b.mkv", small(frame_count=30))
    assert digests(tmp_path / "a.mkv") == digests(tmp_path / "b.mkv")
    assert left_in(tmp_path) == {"a.mkv", "b.mkv"}


async def test_the_first_failure_ends_the_siblings(output: Path) -> None:
    page = "<script>setTimeout(() => { throw new Error('no such star') }, 3000)</script>"
    with pytest.raises(ar.PageThrew, match="no such star") as caught:
        await ar.render(ar.Html(page), output, small(frame_count=4000, chunk_frames=50, concurrency=2, resume=False))
    assert caught.value.frame is not None
    assert not alive()
    assert untouched(output)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_two_renders_to_one_output(tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    plan = ar.RenderOrchestrator.plan(SCENES / "canvas.html", output, small(**LONG))
    async with ar.open_render(plan) as job:
        async for event in job.events():
            if isinstance(event, ar.Progress) and event.frames_done > 1:
                break
        with pytest.raises(ar.OutputLocked, match=r"out\.mkv"):
            await ar.render(SCENES / "canvas.html", output, small())
    await ar.render(SCENES / "canvas.html", output, small())
    assert left_in(tmp_path) == {"out.mkv"}


async def test_errors_that_the_block_raises_as_a_group_come_out_whole(output: Path) -> None:
    plan = ar.RenderOrchestrator.plan(SCENES / "canvas.html", output, small(**LONG))
    with pytest.raises(ExceptionGroup) as caught:
        async with ar.open_render(plan):
            raise ExceptionGroup("the caller's own", [KeyError("one"), ar.DiskFull("two")])
    assert [type(error) for error in caught.value.exceptions] == [KeyError, ar.DiskFull]
    assert untouched(output)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_callback_that_waits_for_what_is_cancelled_ends_the_render(output: Path) -> None:
    async def wait_for_a_lost_future(progress: ar.Progress) -> None:
        lost = asyncio.get_running_loop().create_future()
        lost.cancel()
        await lost

    with pytest.raises(asyncio.CancelledError):
        await ar.render(SCENES / "canvas.html", output, small(**LONG), on_progress=wait_for_a_lost_future)
    assert not alive()
    assert untouched(output)
