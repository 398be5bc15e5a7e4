"""The example service as its users meet it: a server process, real HTTP, a real browser looking at the page."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from asyncrender.browser.launch import open_browser
from asyncrender.specs import BrowserOptions
from children import command, ended
from frames import html, left_in, served

PROGRAM = Path(__file__).parents[1] / "examples" / "service" / "app.py"

DEADLINE_SECONDS = 60
"""For anything that is waited for: it takes a second or two, unless the machine is very busy."""

LONG, SHORT = 1500, 20
"""Frames of a render that is not done before it is cancelled, and of one that soon is."""

SCENE = "<style>h1 { animation: turn 1s infinite } @keyframes turn { to { rotate: 90deg } }</style><h1>Hello</h1>"


# ---- the server, and its clients


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    temporary: Path
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def browsers(self) -> int:
        """How many run: children of the server, for what a browser starts are its grandchildren."""
        children = psutil.Process(self.process.pid).children()
        return sum("--remote-debugging-pipe" in command(child) for child in children)

    def idle(self) -> bool:
        return not self.family() and not any(name.startswith(".") for name in left_in(self.folder))


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Server]:
    """A server as the README starts it. At the end it is told to go, unless it has gone, and must leave nothing."""
    temporary = Path(tempfile.mkdtemp(prefix="s-"))
    command = [sys.executable, "-W", "default", str(PROGRAM), "--port", "0", "--folder", str(folder / "films"), *flags]
    log = folder / "log"
    with log.open("wb") as written:
        env = {**os.environ, "TMPDIR": str(temporary)}
        process = subprocess.Popen(command, stdout=written, stderr=written, env=env, start_new_session=True)
    try:
        found = until(lambda: re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text()))
        server = Server(process, int(found[1]), folder / "films", temporary, log)
        yield server
        if process.poll() is None:
            stop(server, signal.SIGTERM)
        assert not left_in(server.folder)
        temporary.rmdir()  # it is empty
        assert not re.search("Traceback|ERROR|Warning", log.read_text()), log.read_text()
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def stop(server: Server, *signals: signal.Signals) -> None:
    family = server.family()
    for number in signals:
        server.process.send_signal(number)
    server.process.wait(DEADLINE_SECONDS)
    until(lambda: all(map(ended, family)))  # the killed need a moment to vanish


def until(look: Callable[[], Any]) -> Any:
    """What is looked for, as soon as it is there."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return seen


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(server: Server, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)) as connection:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def order(frames: int = SHORT, scene: str = SCENE, **more: object) -> dict[str, object]:
    return {"html": scene, "options": {"width": 64, "height": 64, "frame_count": frames}, **more}


def begin(server: Server, frames: int = SHORT, scene: str = SCENE, **more: object) -> str:
    """The path of a new render."""
    answer = ask(server, "POST", "/renders", order(frames, scene, **more))
    assert answer.status == 201, answer.body
    assert answer.headers["Location"] == answer.json["links"]["self"]
    return answer.headers["Location"]


def state(server: Server, path: str) -> str:
    return ask(server, "GET", path).json["state"]


class Watch:
    """An open event stream; iterating gives (name, data), until the server ends it."""

    def __init__(self, server: Server, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
        self._connection.request("GET", f"{path}/events")
        self._stream = self._connection.getresponse()
        assert self._stream.headers["Content-Type"].startswith("text/event-stream")

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        while line := self._stream.readline():
            if line.startswith(b":"):  # a comment, so that the connection is not taken for dead
                assert self._stream.readline() == b"\n"
                continue
            data, end = self._stream.readline(), self._stream.readline()
            assert (line[:7], data[:6], end) == (b"event: ", b"data: ", b"\n")
            yield line[7:-1].decode(), json.loads(data[6:])

    def until_frame(self, frame: int) -> None:
        next(data for _, data in self if data["progress"] and data["progress"]["frames_done"] >= frame)

    def close(self) -> None:
        self._stream.close()
        self._connection.close()


def watch(server: Server, path: str) -> closing[Watch]:
    return closing(Watch(server, path))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("service"), "--browsers", "2", "--waiting", "4") as started:
        yield started


# ---- one render


def test_everyone_who_watches_sees_it_grow_and_end_once(server: Server) -> None:
    path = begin(server, 60)
    with ThreadPoolExecutor() as threads, watch(server, path) as first, watch(server, path) as second:
        seen = threads.submit(list, second)
        first.until_frame(5)
        with watch(server, path) as late:
            at_once, *_ = told = list(late)
        told_first, told_second = list(first), seen.result()
    assert at_once[1]["progress"]["frames_done"] >= 5
    for events in (told, told_first, told_second):
        names = [name for name, _ in events]
        assert (set(names[:-1]), names[-1]) == ({"progress"}, "finished")
        fractions = [data["progress"]["fraction"] for _, data in events if data["progress"]]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
    with watch(server, path) as too_late:
        assert [(name, data["state"]) for name, data in too_late] == [("finished", "finished")]


def test_the_film_is_sent_in_ranges_and_removed_on_demand(server: Server) -> None:
    path = begin(server)
    with watch(server, path) as events:
        assert list(events)[-1][0] == "finished"
    film = ask(server, "GET", f"{path}/film")
    assert (film.status, film.headers["Content-Type"]) == (200, "video/mp4")
    part = ask(server, "GET", f"{path}/film", Range="bytes=4-7")
    assert (part.status, part.body) == (206, film.body[4:8])
    assert [ask(server, "DELETE", path).status, ask(server, "DELETE", path).status] == [204, 404]
    assert ask(server, "GET", f"{path}/film").status == 404
    assert path.rpartition("/")[2] + ".mp4" not in left_in(server.folder)


def test_a_page_that_throws_fails_in_its_own_words(server: Server) -> None:
    path = begin(server, scene="<script>throw new Error('no such sunset')</script>")
    with watch(server, path) as events:
        name, data = list(events)[-1]
    assert (name, data["state"], data["error"]["exit_code"], data["error"]["transient"]) == (
        "failed",
        "failed",
        1,
        False,
    )
    assert "no such sunset" in data["error"]["message"]
    film = ask(server, "GET", f"{path}/film")
    assert film.status == 409
    assert "failed" in film.json["error"]


def test_a_page_may_not_wish_for_too_much_either(server: Server) -> None:
    answer = ask(server, "POST", "/renders", {"html": '<meta name="asyncrender" content="duration=3600">'})
    with watch(server, answer.headers["Location"]) as events:
        name, data = list(events)[-1]
    assert (name, data["error"]["exit_code"]) == ("failed", 2)
    assert "1800" in data["error"]["message"]


def test_a_page_sees_no_network(server: Server) -> None:
    asked: list[str] = []
    with served(lambda request: (asked.append(request.path), html(request, "secret"))) as address:
        path = begin(server, scene=f'<img src="{address}"><iframe src="{address}"></iframe>{SCENE}')
        with watch(server, path) as events:
            assert list(events)[-1][0] == "finished"
    assert not asked


# ---- cancelling


@pytest.mark.parametrize("frame", [None, 0, 3])
def test_delete_cancels_and_leaves_nothing(server: Server, frame: int | None) -> None:
    path = begin(server, LONG)
    with watch(server, path) as events:
        if frame is not None:
            events.until_frame(frame)
        assert ask(server, "DELETE", path).status == 204
        assert server.idle()
        assert [name for name, _ in events if name != "progress"] == ["cancelled"]
    assert state(server, path) == "cancelled"


@pytest.mark.parametrize("asked", [True, False])
def test_the_last_watcher_to_go_cancels_if_that_was_asked_for(server: Server, asked: bool) -> None:
    path = begin(server, LONG, cancel_on_disconnect=asked)
    with watch(server, path) as first:
        with watch(server, path) as second:
            second.until_frame(3)
        first.until_frame(10)
    if asked:
        until(lambda: state(server, path) == "cancelled")
    else:
        with watch(server, path) as third:
            third.until_frame(100)
        assert ask(server, "DELETE", path).status == 204
    assert server.idle()


# ---- refusals


def test_many_wishes_are_refused_by_name(server: Server) -> None:
    wishes = {
        "browser.executable": {"browser": {"executable": "/bin/sh"}},
        "browser.args": {"browser": {"args": ["--user-data-dir=/"]}},
        "audio.tracks": {"audio": {"tracks": [{"path": "/etc/passwd"}]}},
        "video.threads": {"video": {"threads": 256}},
        "environment.asyncrender": {"environment": {"asyncrender": "1", "browser": "1", "ffmpeg": "1"}},
        "resume": {"resume": True},
        "width": {"width": 16_000, "height": 9_000},
        "height": {"width": 64, "height": 0},
        "frame_count": {"frame_count": 31_536_000},
        "duration": {"duration": 31_536_000},
        "start_frame": {"start_frame": -1},
        "fps": {"fps": "soon"},
        "video.codec": {"video": {"codec": "ffv1"}},
        "video.crf": {"video": {"crf": 60}},
        "colour": {"colour": "red"},
    }
    for option, options in wishes.items():
        answer = ask(server, "POST", "/renders", {"html": SCENE, "options": options})
        assert (option, answer.status, answer.json["option"]) == (option, 422, option)
        assert option in answer.json["error"]
        assert {"value", "allowed"} < answer.json.keys()
    odd = ask(server, "POST", "/renders", {"html": SCENE, "options": {"width": 33}})
    assert (odd.status, odd.json["value"]) == (422, 33)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/renders", b"{", 400),
        ("POST", "/renders", b"[" * 100_000, 400),
        ("POST", "/renders", b'{"html": "\\ud800"}', 400),
        ("POST", "/renders", b"{}", 422),
        ("POST", "/renders", b'{"html": "", "options": {"width": 1e999}}', 422),
        ("POST", "/renders", b'{"html": "", "path": "/etc/passwd"}', 422),
        ("GET", "/renders/none", None, 404),
        ("GET", "/renders/none/events", None, 404),
        ("GET", "/renders/none/film", None, 404),
        ("DELETE", "/renders/none", None, 404),
        ("GET", "/app.py", None, 404),
        ("PUT", "/renders", b"", 405),
    ],
)
def test_other_refusals(server: Server, method: str, path: str, body: bytes | None, status: int) -> None:
    answer = ask(server, method, path, body)
    assert (answer.status, list(answer.json)[:1]) == (status, ["error"])


def test_a_body_that_is_too_large_is_not_even_read(server: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)) as connection:
        connection.putrequest("POST", "/renders")
        connection.putheader("Content-Length", str(1 << 40))
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_a_client_that_goes_in_the_middle_of_its_request_is_no_error(server: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)) as connection:
        connection.putrequest("POST", "/renders")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b'{"html": ')
    assert ask(server, "GET", "/").status == 200  # and the log is looked through at the end


def test_who_comes_first_is_served_first_and_old_films_go(tmp_path: Path) -> None:
    with serving(tmp_path, "--browsers", "1", "--waiting", "1", "--keep", "1") as server:
        first, second = begin(server), begin(server)
        assert state(server, second) == "waiting"
        third = ask(server, "POST", "/renders", order())
        assert (third.status, third.headers["Retry-After"]) == (503, "5")
        assert "waiting" in third.json["error"]
        with watch(server, second) as events:
            assert list(events)[-1][0] == "finished"
        assert ask(server, "GET", first).status == 404
        assert left_in(server.folder) == {second.rpartition("/")[2] + ".mp4"}


# ---- many at once


def crowd(server: Server, requests: int) -> list[Answer]:
    """So many POSTs at the same moment; returns when all that were taken are over. Looks on meanwhile."""
    together, over, most = threading.Barrier(requests), threading.Event(), [0]

    def post(_: int) -> Answer:
        together.wait(DEADLINE_SECONDS)
        options = {"width": 16, "height": 16, "frame_count": 2}
        return ask(server, "POST", "/renders", {"html": "<h1>Hi", "options": options})

    def count_browsers() -> None:
        while not over.is_set():
            most[0] = max(most[0], server.browsers())
            over.wait(0.02)

    with ThreadPoolExecutor(requests + 1) as threads:
        counting = threads.submit(count_browsers)
        try:
            answers = list(threads.map(post, range(requests)))
            for answer in answers:
                if answer.status == 201:
                    with watch(server, answer.headers["Location"]) as events:
                        assert list(events)[-1][0] == "finished"
        finally:
            over.set()
        counting.result()
    assert 1 <= most[0] <= 2
    return answers


def test_two_hundred_at_once_are_served_or_refused(tmp_path: Path) -> None:
    with serving(tmp_path, "--browsers", "2", "--waiting", "6") as server:
        answers = crowd(server, 200)
        assert Counter(answer.status for answer in answers) == {201: 8, 503: 192}
        assert all("Retry-After" in answer.headers for answer in answers if answer.status == 503)
        assert server.idle()


@pytest.mark.soak
def test_two_hundred_at_once_are_all_served(tmp_path: Path) -> None:
    with serving(tmp_path, "--browsers", "2", "--waiting", "200", "--keep", "200") as server:
        assert Counter(answer.status for answer in crowd(server, 200)) == {201: 200}
        assert len(left_in(server.folder)) == 200
        assert server.idle()


# ---- the end of the server


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGINT, signal.SIGTERM]],
    ids=["TERM", "INT", "impatient"],
)
def test_the_end_of_the_server_is_the_end_of_all(tmp_path: Path, signals: list[signal.Signals]) -> None:
    with serving(tmp_path, "--browsers", "2") as server:
        running, other, waiting = (begin(server, LONG) for _ in range(3))
        with watch(server, running) as events, watch(server, waiting) as patient, watch(server, other) as deaf:
            events.until_frame(3)
            deaf.until_frame(3)
            stop(server, *signals)
            assert [list(stream)[-1][0] for stream in (events, patient)] == ["cancelled", "cancelled"]
        assert server.process.returncode in (0, 128 + signal.SIGTERM)


# ---- the page


class Tab:
    """A page in a browser."""

    def __init__(self, call: Callable[..., Any], target: str, session: str) -> None:
        self._call, self._target, self._session = call, target, session

    async def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        wish = {"expression": script, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        with anyio.fail_after(DEADLINE_SECONDS):
            answer = await self._call("Runtime.evaluate", wish, self._session)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def close(self) -> None:
        await self._call("Target.closeTarget", {"targetId": self._target})


@asynccontextmanager
async def looking_at(url: str) -> AsyncIterator[Tab]:
    async with open_browser(BrowserOptions(), capture="screenshot", launch_seconds=DEADLINE_SECONDS) as browser:
        connection, loaded = browser.connection, anyio.Event()
        target = (await connection.call("Target.createTarget", {"url": "about:blank"}))["targetId"]
        attach = {"targetId": target, "flatten": True}
        session = (await connection.call("Target.attachToTarget", attach))["sessionId"]
        connection.listen("Page.loadEventFired", lambda _: loaded.set(), session)
        await connection.call("Page.enable", session=session)
        await connection.call("Page.navigate", {"url": url}, session)
        with anyio.fail_after(DEADLINE_SECONDS):
            await loaded.wait()
        yield Tab(connection.call, target, session)


def changed(attribute: str, condition: str) -> str:
    """A promise in the page: kept when the bar or the words have changed so that the condition holds."""
    return f"""new Promise(keep => {{
        const look = () => {{ if ({condition}) keep({attribute}); }};
        new MutationObserver(look).observe(document.body, {{attributes: true, childList: true, subtree: true}});
        look();
    }})"""


RECORD = """{
    globalThis.shown = [];
    const bar = document.querySelector('progress');
    new MutationObserver(() => shown.push(bar.value)).observe(bar, {attributes: true});
}"""

PLAYED = """(async () => {
    const video = document.querySelector('video');
    const once = name => new Promise(keep => video.addEventListener(name, keep, {once: true}));
    if (video.readyState < 2) await once('loadeddata');
    while (!video.currentTime) await once('timeupdate');
    const played = video.currentTime;
    video.pause();
    video.currentTime = 1.5;
    if (video.seeking) await once('seeked');
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight).getContext('2d');
    canvas.drawImage(video, 0, 0);
    const pixel = [...canvas.getImageData(5, 5, 1, 1).data];
    return {played, at: video.currentTime, width: video.videoWidth, seconds: video.duration, pixel};
})()"""

CLICK = "document.forms[0].{}.click();"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_page_shows_the_bar_and_plays_the_film(server: Server) -> None:
    async with looking_at(server.url) as tab:
        await tab.run(RECORD + CLICK.format("render"))
        words = "document.querySelector('output').textContent"
        assert await tab.run(changed(words, f"/^(Finished|Failed|Not taken)/.test({words})")) == "Finished."
        film = await tab.run(PLAYED)
        shown = await tab.run("shown")
    assert shown == sorted(shown)
    assert len({value for value in shown if 0 < value < 1}) > 5
    assert shown[-1] == 1
    assert film["played"] > 0
    assert (film["at"], film["width"], film["seconds"]) == (1.5, 640, pytest.approx(3, abs=0.05))
    assert film["pixel"][:3] == pytest.approx([0x0D, 0x10, 0x30], abs=8)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_pages_button_cancels_and_so_does_closing_it(server: Server) -> None:
    async with looking_at(server.url) as tab:
        words, grown = "document.querySelector('output').textContent", "document.querySelector('progress').value > 0"
        await tab.run("document.forms[0].html.value = '<meta name=asyncrender content=\"duration=50\"><h1>Long'")
        await tab.run(CLICK.format("render") + changed(words, grown))
        await tab.run(CLICK.format("cancel"))
        assert await tab.run(changed(words, f"{words} === 'Cancelled.'")) == "Cancelled."
        assert server.idle()
        await tab.run(CLICK.format("render"))
        await tab.run(changed(words, grown))
        await tab.close()
        await anyio.to_thread.run_sync(lambda: until(server.idle))
