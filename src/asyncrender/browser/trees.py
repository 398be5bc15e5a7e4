"""Shadow trees of the browser's own, such as those of `<use>`, `<progress>` and `<details>`: no script of a page finds
them, so DevTools hands each root to the page's clock, which moves the animations in it."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from asyncrender.browser.connection import CallFailed

GROUP = {"objectGroup": "asyncrender trees"}
"""What DevTools holds for us under this name does not outlive the asking."""

Call = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


async def hand_over(call: Call, control: str, *, begun: set[str], contexts: Collection[int]) -> None:
    """Hand the roots that the clocks of a page's documents do not know yet to them; `call` is a DevTools command.

    `control`: the clocks' global name. `begun`: animations since the last time, emptied here; without any nothing is
    asked. `contexts`: DevTools' numbers of the script worlds of documents of other origins.
    """
    if not begun:
        return
    begun.clear()
    for context in ({}, *({"contextId": context} for context in sorted(contexts))):
        with contextlib.suppress(CallFailed):  # the document has left
            question = {"expression": f"globalThis.{control}?.hosts()", **GROUP, **context}
            found = await call("Runtime.evaluate", question)
            if hosts := found["result"].get("objectId"):
                await _hand_over(call, control, hosts)
                await call("Runtime.releaseObjectGroup", GROUP)


async def _hand_over(call: Call, control: str, hosts: str) -> None:
    """`hosts`: DevTools' name of an array of elements."""
    adopt = f"function () {{ globalThis.{control}.clock.adopt(this); }}"
    listed = await call("Runtime.getProperties", {"objectId": hosts, "ownProperties": True})
    for host in listed["result"]:
        if not host["name"].isdecimal():  # its length
            continue
        question = {"objectId": host["value"]["objectId"], "depth": 1, "pierce": True}
        node = (await call("DOM.describeNode", question))["node"]
        for root in node.get("shadowRoots", []):
            if root["shadowRootType"] == "user-agent":
                found = await call("DOM.resolveNode", {"backendNodeId": root["backendNodeId"], **GROUP})
                order = {"objectId": found["object"]["objectId"], "functionDeclaration": adopt}
                await call("Runtime.callFunctionOn", order)
