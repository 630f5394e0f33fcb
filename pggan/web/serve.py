"""Runs the server on this machine until Ctrl-C, and opens the browser."""

from __future__ import annotations

import errno
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

import uvicorn

from pggan.utils.errors import UsageError
from pggan.utils.output import mute_heartbeat
from pggan.web.explorer import Explorer
from pggan.web.security import Guardian
from pggan.web.server import MOST_MESSAGE_BYTES, application

# Ports after the default one that are tried where it is taken.
MORE_PORTS = 20
MOST_CONNECTIONS = 64
SHUTDOWN_SECONDS = 3


def listening_socket(host: str, port: int, is_default: bool) -> socket.socket:
    """Returns a socket that listens; of the default port the next free one is taken.

    Raises:
        UsageError: The port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, port + (MORE_PORTS if is_default else 1)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                reason = error.strerror or str(error)
                raise UsageError(f"--host {host} --port {candidate}: {reason}; choose another one") from None
    raise UsageError(f"port {port} is taken by another program; give another --port, or --port 0 for a free one")


def address(guardian: Guardian) -> str:
    """Returns the URL that opens the page, token included."""
    host = guardian.host if guardian.host not in ("0.0.0.0", "::") else socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{guardian.port}/?token={quote(guardian.token, safe='')}"


def serve(
    explorer: Explorer, guardian: Guardian, listener: socket.socket, opens_browser: bool, ready: Callable[[], None]
) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Args:
        explorer: The model and its threads.
        guardian: Who may come in.
        listener: The listening socket.
        opens_browser: Whether to open the page in the user's browser.
        ready: Is called once the server answers.
    """
    config = uvicorn.Config(
        application(explorer, guardian), log_config=None, access_log=False, ws="websockets-sansio",
        ws_max_size=MOST_MESSAGE_BYTES, ws_per_message_deflate=False, ws_ping_interval=20, ws_ping_timeout=20,
        limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False, proxy_headers=False,
    )  # fmt: skip
    server = _Server(config, ready)
    if opens_browser:
        server.then(lambda: threading.Thread(target=_open, args=(address(guardian),), daemon=True).start())
    mute_heartbeat(True)  # it waits for people
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def _open(url: str) -> None:
    with suppress(webbrowser.Error):
        webbrowser.open(url)


class _Server(uvicorn.Server):
    """Calls functions once the server answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._calls = [ready]

    def then(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for call in self._calls:
            call()
