"""What waits to be sent to a tab: replies in order, and of each slot the newest picture alone."""

from __future__ import annotations

import asyncio
import json
import struct
from collections import OrderedDict, deque
from typing import Any

from pggan.web.rendering.drawing import Encoded


def frame(head: dict[str, Any], data: bytes) -> bytes:
    """Returns a binary message: the length of its JSON head (4 bytes, big-endian), the head, the data."""
    text = json.dumps(head).encode()
    return struct.pack(">I", len(text)) + text + data


class Outbox:
    """A tab that reads slowly misses pictures that newer ones have replaced; memory stays bounded."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._messages: deque[str | bytes] = deque()
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._filled = asyncio.Event()

    def reply(self, message: dict[str, Any]) -> None:
        """Sends JSON. To be called in the event loop's thread."""
        self._messages.append(json.dumps(message))
        self._filled.set()

    def file(self, head: dict[str, Any], data: bytes) -> None:
        """Sends bytes that answer a request."""
        self._messages.append(frame(head, data))
        self._filled.set()

    def picture(self, slot: str, head: dict[str, Any], picture: Encoded) -> None:
        """Sends a picture of a slot."""
        head = {"slot": slot, "kind": picture.kind, "side": picture.side, **head}
        self._pictures.pop(slot, None)
        self._pictures[slot] = frame(head, picture.data)
        self._filled.set()

    def from_thread(self, call: Any, *arguments: Any) -> None:
        """Calls one of the methods above from another thread; after the loop's end it does nothing."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    async def take(self) -> str | bytes:
        """Waits for the next message; replies go first."""
        while not self._messages and not self._pictures:
            self._filled.clear()
            await self._filled.wait()
        return self._messages.popleft() if self._messages else self._pictures.popitem(last=False)[1]
