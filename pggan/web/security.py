"""Who may talk to the server: Host, Origin, token and cookie are checked before any route sees a request.

A page of another site can make a browser send requests to 127.0.0.1, and its name can be made to resolve there (DNS
rebinding). So the Host has to be this server's, the Origin of a WebSocket and of a POST the same, and everything but
the first page needs a cookie that only the token of this start gives.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Guardian:
    """The secrets of one start, and the checks of a request's headers."""

    def __init__(self, port: int, host: str = "127.0.0.1", token: str | None = None) -> None:
        self.port, self.host = port, host
        self.token = token or secrets.token_urlsafe(24)
        self.cookie_name, self._cookie = f"pggan-{port}", secrets.token_urlsafe(24)

    @property
    def is_local(self) -> bool:
        """Whether the server listens on this machine alone."""
        return self.host in ("127.0.0.1", "localhost", "::1")

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names this server: no other name that resolves here does."""
        name, _, port = host.rpartition(":") if host.count(":") == 1 or host.startswith("[") else (host, "", "")
        if not port.isdecimal() or int(port) != self.port:
            return False
        if name.lower() in LOOPBACK or name.lower() == self.host.lower():
            return True
        if self.is_local:
            return False
        try:  # numbers cannot be rebound
            return bool(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            return name.lower() == socket.gethostname().lower()

    def knows_origin(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes from a page of this server."""
        return headers.get("origin") == f"http://{headers.get('host')}"

    def knows_token(self, query: bytes) -> bool:
        given = parse_qs(query.decode("latin-1"), max_num_fields=20).get("token", [""])[0]
        return hmac.compare_digest(given.encode(), self.token.encode())

    def knows_cookie(self, headers: Mapping[str, str]) -> bool:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie_name)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self._cookie.encode())

    def cookie(self) -> str:
        """The Set-Cookie header for a browser that showed the token."""
        return f"{self.cookie_name}={self._cookie}; Path=/; HttpOnly; SameSite=Strict"

    def refusal(self, scope: Scope) -> str | None:
        """Returns why a request is refused, None where it is welcome."""
        headers = Headers(scope=scope)
        if not self.knows_host(headers.get("host", "")):
            return "this address is not the server's own"
        is_socket = scope["type"] == "websocket"
        if (is_socket or scope["method"] not in ("GET", "HEAD")) and not self.knows_origin(headers):
            return "the request comes from another page"
        if self.knows_cookie(headers):
            return None
        try:
            welcome = not is_socket and scope["path"] == "/" and self.knows_token(scope.get("query_string", b""))
        except ValueError:
            welcome = False
        return None if welcome else "open the address that `pggan explore` printed; it has the token of this start"


class Gate:
    """ASGI middleware: refuses whom the guardian does not know, and adds the headers of every answer."""

    def __init__(self, app: ASGIApp, guardian: Guardian) -> None:
        self.app, self.guardian = app, guardian

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        reason = self.guardian.refusal(scope)
        if reason is not None and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope["path"] == "/" and reason is None and _is_success(message):
                    headers["Set-Cookie"] = self.guardian.cookie()
            await send(message)

        app: Any = self.app if reason is None else PlainTextResponse(f"pggan explore: {reason}\n", 403)
        await app(scope, receive, send_with_headers)


def _is_success(message: Message) -> bool:
    return 200 <= message["status"] < 300
