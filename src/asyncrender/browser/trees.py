"""Shadow trees of the browser's own, such as those of `<use>`, `<progress>` and `<details>`: no script of a page finds
them, so DevTools hands each root to the page's clock, which moves the animations in it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from functools import partial

from asyncrender.browser.connection import CallFailed, Connection

GROUP = {"objectGroup": "asyncrender trees"}
"""What DevTools holds for us under this name does not outlive the asking."""


class OwnTrees:
    """Of one page; `control` is the global name of its documents' clocks."""

    def __init__(self, connection: Connection, session: str, control: str) -> None:
        self._connection, self._session, self._control = connection, session, control
        self._call, self._send = partial(connection.call, session=session), partial(connection.send, session=session)
        self._begun: list[str] = []
        """Animations since the last time; without any nothing is asked."""
        connection.listen("Animation.animationCreated", lambda event: self._begun.append(event["id"]), session)

    async def hand_over(self, contexts: Collection[int]) -> None:
        """Hand the roots that the clocks do not know yet to them.

        `contexts`: DevTools' numbers of the script worlds of documents of other origins.
        """
        if not self._begun:
            return
        # Else Chromium tells us each time that one is moved: 150 messages a frame, where there are 500 of them.
        self._connection.post("Animation.releaseAnimations", {"animations": self._begun}, self._session)
        self._begun = []
        for context in ({}, *({"contextId": context} for context in sorted(contexts))):
            with contextlib.suppress(CallFailed):  # the document has left
                question = {"expression": f"globalThis.{self._control}?.clock.newHosts()", **GROUP, **context}
                found = await self._call("Runtime.evaluate", question)
                if hosts := found["result"].get("objectId"):
                    await self._hand_over(hosts)
                    await self._call("Runtime.releaseObjectGroup", GROUP)

    async def _hand_over(self, hosts: str) -> None:
        """`hosts`: DevTools' name of an array of elements. All are asked about at once: an icon is often a `<use>`."""
        listed = await self._call("Runtime.getProperties", {"objectId": hosts, "ownProperties": True})
        names = [one["value"]["objectId"] for one in listed["result"] if one["name"].isdecimal()]  # not its length
        described = [self._send("DOM.describeNode", {"objectId": name, "depth": 1, "pierce": True}) for name in names]
        roots = [root for one in described for root in (await one.result())["node"].get("shadowRoots", [])]
        own = [root["backendNodeId"] for root in roots if root["shadowRootType"] == "user-agent"]
        resolved = [self._send("DOM.resolveNode", {"backendNodeId": number, **GROUP}) for number in own]
        arguments = [{"objectId": (await one.result())["object"]["objectId"]} for one in resolved]
        adopt = f"function (...roots) {{ for (const root of roots) globalThis.{self._control}.clock.adopt(root); }}"
        order = {"objectId": hosts, "functionDeclaration": adopt, "arguments": arguments}
        await self._call("Runtime.callFunctionOn", order)
