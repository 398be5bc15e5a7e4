"""A conversation with a browser that answers late, in another order, not at all, or dies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from asyncrender.browser.connection import CallFailed, Connection, open_connection
from asyncrender.errors import BrowserCrashed
from fakes import FakeBrowser, fake_browser

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30


@asynccontextmanager
async def conversation() -> AsyncIterator[tuple[Connection, FakeBrowser]]:
    with fake_browser() as browser, anyio.fail_after(PATIENCE_SECONDS):
        async with open_connection(*browser.ours, lambda: "Segmentation fault") as connection:
            yield connection, browser


async def test_a_call_gets_its_reply() -> None:
    async with conversation() as (connection, browser), anyio.create_task_group() as tasks:

        async def answer() -> None:
            call = await browser.next_call()
            assert (call["method"], call["params"], call["sessionId"]) == ("Page.navigate", {"url": "a"}, "S")
            await browser.reply(call, frameId="F")

        tasks.start_soon(answer)
        assert await connection.call("Page.navigate", {"url": "a"}, "S") == {"frameId": "F"}


async def test_replies_may_come_in_any_order() -> None:
    results: dict[str, Any] = {}
    async with conversation() as (connection, browser), anyio.create_task_group() as tasks:

        async def ask(method: str) -> None:
            results[method] = await connection.call(method)

        for method in ("a", "b", "c"):
            tasks.start_soon(ask, method)
        calls = [await browser.next_call() for _ in range(3)]
        for call in reversed(calls):
            await browser.reply(call, echo=call["method"])
    assert results == {"a": {"echo": "a"}, "b": {"echo": "b"}, "c": {"echo": "c"}}


async def test_events_reach_the_listener_of_their_session() -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    last = anyio.Event()
    async with conversation() as (connection, browser):
        connection.listen("Page.loaded", lambda params: heard.append(("top", params)))
        connection.listen("Page.loaded", lambda params: heard.append(("S", params)), "S")
        connection.listen("End", lambda params: last.set())
        await browser.emit("Page.loaded", session="S", n=1)
        await browser.emit("Page.loaded", n=2)
        await browser.emit("Page.loaded", session="other", n=3)
        await browser.emit("Unheard")
        await browser.emit("End")
        await last.wait()
    assert heard == [("S", {"n": 1}), ("top", {"n": 2})]


async def test_a_refused_call_says_why() -> None:
    async with conversation() as (connection, browser), anyio.create_task_group() as tasks:

        async def refuse() -> None:
            await browser.refuse(await browser.next_call(), -32601, "'No.such' wasn't found")

        tasks.start_soon(refuse)
        with pytest.raises(CallFailed, match=r"refused No\.such: 'No\.such' wasn't found \(-32601\)") as failed:
            await connection.call("No.such")
        assert (failed.value.method, failed.value.code) == ("No.such", -32601)


async def test_a_posted_call_may_be_refused() -> None:
    async with conversation() as (connection, browser), anyio.create_task_group() as tasks:
        connection.post("Page.stop", {})
        await browser.refuse(await browser.next_call(), -32000, "no")

        async def answer() -> None:
            await browser.reply(await browser.next_call())

        tasks.start_soon(answer)
        assert await connection.call("Page.enable") == {}


async def test_a_browser_that_dies_fails_all_that_is_pending_with_its_last_words() -> None:
    crashes: list[str] = []
    closed = anyio.Event()
    async with conversation() as (connection, browser):
        connection.on_close(closed.set)
        async with anyio.create_task_group() as tasks:

            async def ask(method: str) -> None:
                with pytest.raises(BrowserCrashed, match="Segmentation fault") as crashed:
                    await connection.call(method)
                crashes.append(str(crashed.value))

            tasks.start_soon(ask, "Page.enable")
            tasks.start_soon(ask, "DOM.enable")
            for _ in range(2):
                await browser.next_call()
            browser.leave()
        await closed.wait()
        with pytest.raises(BrowserCrashed, match=r"Later\.call"):
            await connection.call("Later.call")
        connection.post("Later.post", {})
    assert sorted(crashes)[0].startswith("The browser went away during DOM.enable.")
    assert len(crashes) == 2


async def test_a_call_into_a_pipe_nobody_reads_is_a_crash() -> None:
    async with conversation() as (connection, browser):
        browser._hears.close()
        with pytest.raises(BrowserCrashed, match=r"Page\.enable"):
            await connection.call("Page.enable")


async def test_a_cancelled_callers_reply_disturbs_nobody() -> None:
    async with conversation() as (connection, browser), anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as callers:
                callers.start_soon(connection.call, "Slow.call")
                slow = await browser.next_call()
                scope.cancel()
        await browser.reply(slow)

        async def answer() -> None:
            await browser.reply(await browser.next_call(), ok=True)

        tasks.start_soon(answer)
        assert await connection.call("Page.enable") == {"ok": True}


async def test_a_dead_renderers_session_fails_alone() -> None:
    outcome: list[str] = []
    async with conversation() as (connection, browser), anyio.create_task_group() as tasks:

        async def ask(session: str) -> None:
            try:
                await connection.call("Runtime.evaluate", {}, session)
                outcome.append(f"{session} answered")
            except BrowserCrashed as error:
                outcome.append(f"{session}: {error.message}")

        tasks.start_soon(ask, "dead")
        await browser.next_call()
        tasks.start_soon(ask, "alive")
        alive = await browser.next_call()
        connection.abandon("dead", "The page died.")
        await browser.reply(alive)
        await ask("dead")
    assert sorted(outcome) == ["alive answered", "dead: The page died.", "dead: The page died."]


async def test_a_cancelled_callers_message_is_sent_to_its_end() -> None:
    async with conversation() as (connection, browser), anyio.create_task_group() as tasks:
        with anyio.move_on_after(0.05):
            await connection.call("Big.call", {"data": bytes(5_000_000)})
        small = connection.send("Small.call")
        big = await browser.next_call()
        assert len(big["params"]["data"]) == 5_000_000

        async def answer() -> None:
            await browser.reply(await browser.next_call(), ok=True)

        tasks.start_soon(answer)
        assert await small.result() == {"ok": True}


async def test_a_browser_that_leaves_in_the_midst_of_a_message_has_crashed() -> None:
    async with conversation() as (connection, browser):
        big = connection.send("Big.call", {"data": bytes(5_000_000)})
        browser.leave()
        with pytest.raises(BrowserCrashed, match=r"Big\.call"):
            await big.result()


async def test_commands_arrive_in_the_order_in_which_they_were_sent() -> None:
    async with conversation() as (connection, browser):
        sent = [("Big.call", bytes(3_000_000)), *((f"Small.call{number}", bytes(number)) for number in range(5))]
        for method, data in sent:
            connection.send(method, {"data": data})
        for method, data in sent:
            call = await browser.next_call()
            assert (call["method"], call["params"]["data"]) == (method, data)


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with conversation():
            raise KeyError("mine")
