"""Pipes on every event loop: all that is sent arrives, in order, and who waits hears how it ended."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from asyncrender.pipes import PIPE_BYTES, FilePart, Pipe
from asyncrender.tasks import open_task_group

pytestmark = pytest.mark.anyio


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Pipe, Pipe]]:
    """(to write, to read)"""
    reader, writer = (Pipe(fd) for fd in os.pipe())
    yield writer, reader
    for end in (writer, reader):
        end.close()


async def received(reader: Pipe) -> bytes:
    data = bytearray()
    await reader.receive_all(data.extend)
    return bytes(data)


async def test_all_that_is_sent_arrives(ends: tuple[Pipe, Pipe], tmp_path: Path) -> None:
    writer, reader = ends
    whole = os.urandom(3 * PIPE_BYTES)
    (tmp_path / "file").write_bytes(b"before" + whole)
    got = []

    async def receive() -> None:
        got.append(await received(reader))

    with (tmp_path / "file").open("rb") as file:
        async with open_task_group() as tasks:
            tasks.start_soon(receive)
            await writer.send(b"head", whole, FilePart(file.fileno(), 6, len(whole)), b"")
            await writer.send(FilePart(file.fileno(), 0, 6))
            writer.close()
    assert got == [b"head" + whole + whole + b"before"]


async def test_what_is_no_more_read_cannot_be_sent(ends: tuple[Pipe, Pipe]) -> None:
    writer, reader = ends

    async def leave() -> None:
        await reader.receive()
        reader.close()

    async with open_task_group() as tasks:
        tasks.start_soon(leave)
        with pytest.raises(BrokenPipeError):
            await writer.send(bytes(8 * PIPE_BYTES))


async def test_what_is_made_of_it_may_fail(ends: tuple[Pipe, Pipe]) -> None:
    writer, reader = ends

    def fail(data: memoryview) -> None:
        raise LookupError(bytes(data))

    await writer.send(b"no")
    with pytest.raises(LookupError, match="no"):
        await reader.receive_all(fail)


@pytest.mark.parametrize("reads", [True, False])
async def test_who_waits_for_a_pipe_that_is_closed_is_told(ends: tuple[Pipe, Pipe], reads: bool) -> None:
    writer, reader = ends
    end = reader if reads else writer

    async def close() -> None:
        await anyio.wait_all_tasks_blocked()
        end.close()

    async with open_task_group() as tasks:
        tasks.start_soon(close)
        with pytest.raises(anyio.ClosedResourceError):
            await (received(reader) if reads else writer.send(bytes(8 * PIPE_BYTES)))


async def test_a_wait_that_was_cancelled_leaves_the_pipe_as_it_is(ends: tuple[Pipe, Pipe]) -> None:
    writer, reader = ends
    with anyio.move_on_after(0.02):
        await received(reader)
    await writer.send(b"still there")
    assert bytes(await reader.receive()) == b"still there"
    writer.close()
    assert await received(reader) == b""


async def test_a_file_that_ends_before_is_an_error(ends: tuple[Pipe, Pipe], tmp_path: Path) -> None:
    writer, _ = ends
    (tmp_path / "file").write_bytes(bytes(10))
    with (tmp_path / "file").open("rb") as file, pytest.raises(EOFError, match=f"of {PIPE_BYTES} bytes only 10"):
        await writer.send(FilePart(file.fileno(), 0, PIPE_BYTES))
