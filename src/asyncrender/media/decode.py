"""A film as raw pictures by number: any codec, each picture known by its presentation time. This room knows no page."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from asyncrender import process
from asyncrender.errors import MediaError
from asyncrender.media import ffmpeg, graphs, packets
from asyncrender.media.film import ONLY, Film, FragmentReader, decode_argv, make_film

DEADLINE = "timeouts.request"

CACHE_BYTES = 32 << 20
"""Pictures kept behind the present one: for loops of a second, and for pages that step back and forth."""

READ_THROUGH_SECONDS = 4
"""Pictures so far ahead are decoded through; beyond that a new start at a key frame is quicker."""


async def read_film(path: Path, *, idle_seconds: float) -> Film:
    """Look at a whole media file: what is in it, and when each picture is shown.

    Raises MediaError if it is none, ToolStalled after `idle_seconds` without a sign of life, MissingTool.
    """
    described = await _ffprobe(path, "-of", "json", "-show_format", "-show_streams", idle=idle_seconds)
    found = json.loads(described)
    form, streams = found.get("format", {}), found.get("streams", [])
    pictures = [stream for stream in streams if stream.get("codec_type") == "video" and stream.get("width")]
    pictures = [stream for stream in pictures if not stream.get("disposition", {}).get("attached_pic")]
    if not pictures and not any(stream.get("codec_type") == "audio" for stream in streams):
        raise MediaError(f"{path} holds neither pictures nor sound")
    wanted = ("-select_streams", f"{pictures[0]['index'] if pictures else 'a:0'}", "-show_entries", packets.ENTRIES)
    lines = (await _ffprobe(path, *wanted, "-of", "csv=p=0", idle=idle_seconds)).decode().split()
    stream = pictures[0] if pictures else next(one for one in streams if one.get("codec_type") == "audio")
    return make_film(path, form, stream, [line.split(",") for line in lines], pictures=bool(pictures))


FrameOf = Callable[[int], Awaitable[bytes]]


class Decoder:
    """A film's pictures, quickest in order. Made by `open_decoder`, which also ends it."""

    def __init__(self, film: Film, idle_seconds: float) -> None:
        self._film, self._idle_seconds = film, idle_seconds
        self._running = AsyncExitStack()
        self._child: process.Child | None = None
        self._boxes = FragmentReader()
        self._ahead: list[tuple[int, bytes]] = []
        self._last: tuple[int, bytes] | None = None
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._asking = anyio.Lock()

    async def frame(self, index: int) -> bytes:
        """Picture `index` of the film, raw, in its `pixels`: the last one that is shown at that time or before.

        Raises ToolFailed with ffmpeg's last words, ToolStalled, MediaError if nothing can be decoded.
        """
        async with self._asking:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
            wanted = self._film.ticks[index]
            if not self._is_near(wanted):
                await self._start(wanted)
            data = await self._read_to(wanted)
            self._cache[index] = data
            while len(self._cache) > max(1, CACHE_BYTES // max(1, len(data))):
                self._cache.popitem(last=False)
            return data

    async def close(self) -> None:
        running, self._running, self._child = self._running, AsyncExitStack(), None
        await running.aclose()

    def _is_near(self, wanted: int) -> bool:
        if self._child is None or self._last is None or wanted < self._last[0]:
            return False
        key = self._key_before(wanted)
        return key <= self._last[0] or (wanted - self._last[0]) * self._film.time_base <= READ_THROUGH_SECONDS

    def _key_before(self, wanted: int) -> int:
        keys = self._film.keys
        return keys[max(0, bisect_right(keys, wanted) - 1)] if keys else self._film.ticks[0]

    async def _start(self, wanted: int, *, from_beginning: bool = False) -> None:
        await self.close()
        self._boxes, self._ahead, self._last = FragmentReader(), [], None
        key = self._key_before(wanted)
        start = None if from_beginning or key <= self._film.ticks[0] else key
        argv = decode_argv(self._film, ffmpeg=ffmpeg.find(), seek_tick=start, first_tick=wanted)
        self._child = await self._running.enter_async_context(process.supervise(argv, stdout=True))
        if start is not None:
            first = await self._next()
            if first is None or first[0] > wanted:  # the container's index led astray
                await self._start(wanted, from_beginning=True)
            else:
                self._ahead.insert(0, first)

    async def _read_to(self, wanted: int) -> bytes:
        while self._last is None or self._last[0] < wanted:
            following = await self._next()
            if following is None:
                break
            if following[0] > wanted and self._last is not None:
                self._ahead.insert(0, following)
                break
            self._last = following
        if self._last is None:
            raise MediaError(f"{self._doing} gave no picture")
        return self._last[1]

    async def _next(self) -> tuple[int, bytes] | None:
        assert self._child is not None
        while not self._ahead:
            with anyio.move_on_after(self._idle_seconds) as waiting:
                data = await self._child.stdout.receive()
            if waiting.cancelled_caught:
                raise ffmpeg.stalled(self._child, self._doing, self._idle_seconds, DEADLINE)
            if not data:
                await ffmpeg.check_exit(
                    self._child, doing=self._doing, idle_seconds=self._idle_seconds, deadline=DEADLINE
                )
                return None
            scale = self._film.time_base.numerator
            self._ahead = [(time // scale, picture) for time, picture in self._boxes.feed(data)]
        return self._ahead.pop(0)

    @property
    def _doing(self) -> str:
        return f"decoding {self._film.path.name}"


@asynccontextmanager
async def open_decoder(path: Path, idle_seconds: float) -> AsyncIterator[tuple[dict[str, Any], FrameOf]]:
    """A media file: its description for the page, and its pictures by number. Raises as `read_film` does."""
    film = await read_film(path, idle_seconds=idle_seconds)
    decoder = Decoder(film, idle_seconds)
    try:
        yield film.describe(), decoder.frame
    finally:
        await decoder.close()


async def _ffprobe(path: Path, *arguments: str, idle: float) -> bytes:
    argv = [process.find_tool("ffprobe", package="ffmpeg"), "-v", "error", *ONLY, *arguments, graphs.local(str(path))]
    return await process.run(argv, doing=f"reading {path.name}", idle_seconds=idle, deadline=DEADLINE)
