"""Explorers for tests, and the browser's side of their protocol."""

from __future__ import annotations

import json
import struct
from contextlib import contextmanager

import torch
from starlette.testclient import TestClient

from pggan.generation.model import Model, load
from pggan.web.explorer import Explorer
from pggan.web.security import Guardian
from pggan.web.server import application
from tests.helpers.model_files import model_file

PORT = 7860
HOST = f"127.0.0.1:{PORT}"
ORIGIN, SOCKET = f"http://{HOST}", f"ws://{HOST}/socket"


def explorer_of(path=None, run=None, **options):
    """An explorer of a model file, else of a small untrained model; `options` are those of `model_file`."""
    model = load(path, "cpu") if path else Model(model_file(**options), torch.device("cpu"))
    return Explorer(model, run)


@contextmanager
def client_of(explorer, guardian=None):
    """A browser that has opened the page with its token: the cookie is set."""
    guardian = guardian or Guardian(PORT)
    with TestClient(application(explorer, guardian), base_url=ORIGIN) as client:
        assert client.get("/", params={"token": guardian.token}).status_code == 200
        yield client


class Page:
    """A page's WebSocket: asks, and waits for answers and pictures."""

    def __init__(self, socket):
        self.socket = socket
        self.number = 10**9  # apart from the numbers that tests make up
        self.events = []
        self.pictures = {}
        self.progress = []

    def tell(self, kind, **fields):
        self.number += 1
        self.socket.send_text(json.dumps({"type": kind, "id": self.number, **fields}))
        return self.number

    def receive(self):
        """The next message: a dictionary, with `data` where it is binary. What the server tells all is in `events`."""
        event = self.socket.receive()
        assert event["type"] == "websocket.send", event
        if event.get("text") is not None:
            message = json.loads(event["text"])
            if message["type"] != "event":
                return message
            self.events.append(message)
            return self.receive()
        raw = event["bytes"]
        (length,) = struct.unpack(">I", raw[:4])
        return {**json.loads(raw[4 : 4 + length]), "data": raw[4 + length :]}

    def ask(self, kind, **fields):
        """Asks and returns the answer or the error; pictures that come before it are in `pictures`."""
        number = self.tell(kind, **fields)
        while True:
            message = self.receive()
            if message.get("type") == "progress":
                self.progress.append(message)
            elif "slot" in message:
                self.pictures[message["slot"]] = message
            elif message.get("id") == number:
                return message

    def picture(self, point, slot="stage", **fields):
        """Draws a picture and returns its message."""
        self.tell("draw", rank=0, pictures=[{"slot": slot, "point": point, **fields}])
        while slot not in self.pictures:
            message = self.receive()
            if "slot" in message:
                self.pictures[message["slot"]] = message
        return self.pictures.pop(slot)


@contextmanager
def page_of(client):
    """A page whose WebSocket is open."""
    with client.websocket_connect(SOCKET, headers={"origin": ORIGIN}) as socket:
        yield Page(socket)


@contextmanager
def opened(**options):
    """A page of a new explorer of a small untrained model, and that explorer."""
    explorer = explorer_of(**options)
    with client_of(explorer) as client, page_of(client) as page:
        yield page, explorer
