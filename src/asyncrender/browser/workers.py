"""Workers: each gets our clock before its own first line, and from then on goes by that of who made it (workers.js)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from asyncrender.browser import scripts
from asyncrender.browser.connection import Connection

WORKER_SCRIPTS = ("chance.js", "clock.js", "surroundings.js", "workers.js")
"""What runs in every worker, in this order."""

ATTACH = {
    "autoAttach": True,
    "waitForDebuggerOnStart": True,
    "flatten": True,
    "filter": [{"type": "worker"}, {"type": "worklet"}, {"exclude": True}],
}
"""DevTools' Target.setAutoAttach: dedicated workers, each stopped before its first line. Worklets are stopped, too,
wanted or not, and only who has attached to one can let it go on."""


async def lead_workers(connection: Connection, session: str, config: Mapping[str, Any], key: str) -> None:
    """From now on the workers that this page makes, and those that they make, go by its clock.

    `config` and `key` are what the scripts of documents get. A worker whose name is `key` is ours, and left alone.
    """

    def attached(event: dict[str, Any]) -> None:
        """It has not all that its scripts will find before the first of them begins: there it shall stop again."""
        session = event["sessionId"]
        post = partial(connection.post, session=session)
        if event["targetInfo"]["type"] == "worklet":  # which has no clock
            post("Runtime.evaluate", {"expression": scripts.call("chance.js", config, key)})
            post("Runtime.runIfWaitingForDebugger", {})
            return
        connection.listen("Target.attachedToTarget", attached, session)
        connection.listen("Debugger.paused", partial(begin, post), session)
        post("Target.setAutoAttach", ATTACH)
        post("Debugger.enable", {})
        post("Debugger.setInstrumentationBreakpoint", {"instrumentation": "beforeScriptExecution"})
        post("Runtime.runIfWaitingForDebugger", {})

    def begin(post: Callable[[str, dict[str, Any]], None], event: dict[str, Any]) -> None:
        post("Runtime.evaluate", {"expression": _source(config, key)})
        post("Debugger.disable", {})

    connection.listen("Target.attachedToTarget", attached, session)
    await connection.call("Target.setAutoAttach", ATTACH, session)


def _source(config: Mapping[str, Any], key: str) -> str:
    calls = "\n".join(scripts.call(name, config, key) for name in WORKER_SCRIPTS)
    return f"if (self.name !== {json.dumps(key)}) ((window, document) => {{\n{calls}\n}})(self)"
