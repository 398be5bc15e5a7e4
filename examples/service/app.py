"""A render service: HTML in, progress as server-sent events, a film out. What embedding asyncrender looks like.

`create_app` makes a Starlette application; started as a program, this file serves it with uvicorn.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import uvicorn
from pydantic import ValidationError
from pydantic_core import to_json
from renders import Busy, Order, Render, Renders, open_renders
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import asyncrender as ar

MAX_BODY_BYTES = 2 << 20  # a page with some pictures and a font inside
RETRY_SECONDS = 5  # about as long as a short film takes
PING_SECONDS = 15  # proxies, and some clients, cut a connection that is silent for a minute
GOODBYE_SECONDS = 5  # clients that do not read hold up the server's end no longer than this


def create_app(folder: Path, *, browsers: int = 2, waiting: int = 20, keep: int = 20) -> Starlette:
    """The service. Films lie in `folder` while it lives; see `open_renders` for the rest."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_renders(folder, browsers=browsers, waiting=waiting, keep=keep) as app.state.renders:
            yield

    routes = [
        Route("/", page("index.html")),
        Route("/page.js", page("page.js")),
        Route("/renders", post, methods=["POST"]),
        Route("/renders/{id}", show),
        Route("/renders/{id}", delete, methods=["DELETE"]),
        Route("/renders/{id}/events", events),
        Route("/renders/{id}/film", film),
    ]
    return Starlette(routes=routes, exception_handlers=REFUSALS, lifespan=lifespan, max_body_size=MAX_BODY_BYTES)


async def post(request: Request) -> Response:
    order = Order.model_validate_json(await request.body())
    told = described(renders_of(request).begin(order))
    return JSONResponse(told, 201, {"Location": told["links"]["self"]})


async def show(request: Request) -> Response:
    return JSONResponse(described(found(request)))


async def events(request: Request) -> Response:
    return EventStream(found(request))


async def film(request: Request) -> Response:
    render = found(request)
    if render.state.name != "finished":
        raise HTTPException(409, f"There is no film: the render is {render.state.name}.")
    return FileResponse(render.film)


async def delete(request: Request) -> Response:
    """Cancel a render that is under way, and answer when all is tidied. Forget one that is over, and its film."""
    render = found(request)
    was_over = render.state.over
    render.scope.cancel()
    await render.over.wait()
    if was_over or render.state.name == "finished":  # it may be done before it is cancelled
        renders_of(request).forget(render)
    return Response(status_code=204)


def page(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return FileResponse(Path(__file__).with_name(name))

    return answer


class EventStream(Response):
    """A render's states as server-sent events: `progress` …, then one that is named after how the render ended.

    Written by hand, because it has to notice a client that goes while there is nothing to say.
    """

    media_type = "text/event-stream"

    def __init__(self, render: Render) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["Content-Length"]
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._render.watched():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await self._tell(send)
                tasks.cancel_scope.cancel()

    async def _tell(self, send: Send) -> None:
        state = None
        while state is None or not state.over:
            text = ": still waiting\n\n"
            with anyio.move_on_after(PING_SECONDS):
                state = await self._render.state_after(state)
                name = state.name if state.over else "progress"
                text = f"event: {name}\ndata: {json.dumps(described(self._render))}\n\n"
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        await send({"type": "http.response.body"})


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def renders_of(request: Request) -> Renders:
    renders: Renders = request.app.state.renders
    return renders


def found(request: Request) -> Render:
    render = renders_of(request).find(request.path_params["id"])
    if render is None:
        raise HTTPException(404, "There is no such render.")
    return render


def described(render: Render) -> dict[str, Any]:
    own, facts = f"/renders/{render.id}", asdict(render.state)
    links = {"self": own, "events": f"{own}/events", "film": f"{own}/film"}
    return {"id": render.id, "state": facts.pop("name"), **facts, "links": links}


# ---- refusals: JSON too


async def refuse(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def refuse_option(request: Request, error: ar.InvalidOption) -> Response:
    told = {"error": str(error), "option": error.option, "value": error.value, "allowed": error.allowed}
    # JSON of any value there is: strangers also send infinities
    return Response(to_json(told, inf_nan_mode="strings", fallback=str), 422, media_type="application/json")


async def refuse_body(request: Request, error: ValidationError) -> Response:
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"error": first["msg"]}, 400)
    option = ".".join(map(str, first["loc"])).removeprefix("options.")
    return await refuse_option(request, ar.InvalidOption(option, first.get("input"), first["msg"]))


async def refuse_for_now(request: Request, error: Busy) -> Response:
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return JSONResponse({"error": "Too many renders are waiting. Try again later."}, 503, headers)


async def answer_nobody(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)


REFUSALS: dict[Any, Any] = {
    HTTPException: refuse,
    ar.InvalidOption: refuse_option,
    ValidationError: refuse_body,
    Busy: refuse_for_now,
    ClientDisconnect: answer_nobody,
}


# ---- the program


class Server(uvicorn.Server):
    """Ends renders first: uvicorn waits for open connections, and an event stream is open as long as its render."""

    def __init__(self, app: Starlette, **config: Any) -> None:
        super().__init__(uvicorn.Config(app, **config))
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.renders.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.force_exit = False  # a second Ctrl-C would leave the tidying out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0: a free one, which is then told")
    parser.add_argument("--browsers", type=int, default=2, help="how many may run at once")
    parser.add_argument("--waiting", type=int, default=20, help="how many renders may wait for one")
    parser.add_argument("--keep", type=int, default=20, help="how many renders that are over are remembered")
    parser.add_argument("--folder", type=Path, help="where films lie while the server runs")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # uvicorn ends by it, and skips no `with`
    with tempfile.TemporaryDirectory(prefix="films-") as folder, suppress(KeyboardInterrupt):
        limits = {"browsers": given.browsers, "waiting": given.waiting, "keep": given.keep}
        app = create_app(given.folder or Path(folder), **limits)
        Server(app, port=given.port, timeout_graceful_shutdown=GOODBYE_SECONDS).run()


if __name__ == "__main__":
    main()
