"""The web application: the page and its files, one WebSocket a tab, uploads, and what was exported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache, partial
from importlib import resources

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from pggan.utils.errors import PgganError
from pggan.utils.formatting import one_line
from pggan.web.explorer import MOST_TABS, Explorer
from pggan.web.messages import (
    favourite_messages,
    film_messages,
    photo_messages,
    rack_messages,
    run_messages,
    screen_messages,
)
from pggan.web.security import Gate, Guardian
from pggan.web.session.outbox import Outbox
from pggan.web.session.tab import Tab
from pggan.web.uploads import MOST_UPLOAD_BYTES, accept

KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
# Messages a second that a tab may send, and how many at once after a rest; more have to wait.
MESSAGES_A_SECOND, MESSAGES_AT_ONCE = 200, 400
MOST_MESSAGE_BYTES = 1 << 20

HANDLERS = {
    name: handler
    for module in (screen_messages, favourite_messages, film_messages, rack_messages, run_messages, photo_messages)
    for name, handler in module.HANDLERS.items()
}


@cache
def assets() -> dict[str, bytes]:
    """Returns the page's files by name: nothing else is ever read."""
    folder = resources.files("pggan.web").joinpath("assets")
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if _ending(entry.name) in KINDS}


def _ending(name: str) -> str:
    return name[name.rfind(".") :]


async def page(request: Request) -> Response:
    """The page itself."""
    return Response(assets()["index.html"], media_type="text/html")


async def asset(request: Request) -> Response:
    """A script, a style or an icon of the page."""
    name = request.path_params["name"]
    if name not in assets():
        return PlainTextResponse("there is no such file\n", 404)
    return Response(assets()[name], media_type=KINDS[_ending(name)])


async def upload(request: Request) -> Response:
    """Takes a picture: one of pggan's brings its state back, another one waits to be found."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_UPLOAD_BYTES:
            return JSONResponse({"error": f"a picture has at most {MOST_UPLOAD_BYTES >> 20} MB"}, 413)
    explorer: Explorer = request.app.state.explorer
    try:
        return JSONResponse(await asyncio.to_thread(accept, bytes(data), explorer))
    except (PgganError, OSError) as error:  # such as a model file that is gone, which another command's latent needs
        reason = str(error) if isinstance(error, PgganError) else f"it did not work: {one_line(error)}"
        return JSONResponse({"error": reason}, 400)


async def exported(request: Request) -> Response:
    """A file that was exported, by the number that it was given."""
    file = request.app.state.explorer.exports.find(request.path_params["key"])
    if file is None:
        return PlainTextResponse("there is no such file any more; export it again\n", 404)
    return FileResponse(file.path, filename=file.name, media_type=file.kind)


class Allowance:
    """How many messages a tab may still send: a bucket that fills with time."""

    def __init__(self) -> None:
        self._left, self._at = float(MESSAGES_AT_ONCE), time.monotonic()

    def wait_seconds(self) -> float:
        """Takes one message; returns how long the tab has to wait."""
        now = time.monotonic()
        self._left = min(MESSAGES_AT_ONCE, self._left + (now - self._at) * MESSAGES_A_SECOND) - 1
        self._at = now
        return max(0.0, -self._left / MESSAGES_A_SECOND)


async def socket(websocket: WebSocket) -> None:
    """A tab from opening to closing."""
    explorer: Explorer = websocket.app.state.explorer
    if len(explorer.tabs) >= MOST_TABS:
        await websocket.close(1013, f"{MOST_TABS} tabs are open already; close one")
        return
    await websocket.accept()
    outbox = Outbox(asyncio.get_running_loop())
    broadcast = partial(outbox.from_thread, outbox.reply)
    explorer.tabs.append(broadcast)
    tab = Tab(explorer, outbox, HANDLERS)
    sender = asyncio.create_task(_send(websocket, outbox))
    try:
        await _receive(websocket, tab)
    finally:
        explorer.tabs.remove(broadcast)
        tab.close()
        sender.cancel()
        with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError, OSError):
            await sender


async def _receive(websocket: WebSocket, tab: Tab) -> None:
    allowance = Allowance()
    while True:
        event = await websocket.receive()
        if event["type"] == "websocket.disconnect":
            return
        if (seconds := allowance.wait_seconds()) > 0:
            await asyncio.sleep(seconds)
        raw = event.get("text")
        tab.receive(raw if raw is not None else event.get("bytes") or b"")


async def _send(websocket: WebSocket, outbox: Outbox) -> None:
    while True:
        message = await outbox.take()
        if isinstance(message, str):
            await websocket.send_text(message)
        else:
            await websocket.send_bytes(message)


def application(explorer: Explorer, guardian: Guardian) -> Starlette:
    """Returns the ASGI application of an explorer; its threads run from startup to shutdown."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        explorer.start()
        yield
        await asyncio.to_thread(explorer.stop)

    routes = [
        Route("/", page),
        Route("/assets/{name}", asset),
        Route("/files/{key}", exported),
        Route("/upload", upload, methods=["POST"]),
        WebSocketRoute("/socket", socket),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Gate, guardian=guardian)], lifespan=lifespan)
    app.state.explorer = explorer
    return app
