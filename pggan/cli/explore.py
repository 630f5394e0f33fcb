"""`pggan explore`: a local page on which people play with a model."""

from __future__ import annotations

from pathlib import Path

import click
import cloup

from pggan.cli.options import (
    FilePath,
    ModelChoice,
    Output,
    model_options,
    no_mark_option,
    output_options,
    truncation_option,
)
from pggan.utils.errors import UsageError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 7860
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
SHORTEST_TOKEN = 16


@cloup.command("explore")
@model_options
@cloup.option_group("Pictures", truncation_option, no_mark_option)
@cloup.option_group(
    "Data",
    cloup.option(
        "--data",
        type=FilePath(),
        show_default="the run's own, where they are",
        help="Data store with the training pictures, for the nearest ones of a picture.",
    ),
    cloup.option(
        "--directions",
        type=FilePath(path_type=Path),
        show_default="none",
        help="Directions file for the rack, as the page saves one.",
    ),
)
@cloup.option_group(
    "Server",
    cloup.option(
        "--port", type=click.IntRange(0, 65535), metavar="N", show_default=f"{DEFAULT_PORT}, or the next free one",
        help="Port to listen on; 0 takes a free one.",
    ),
    cloup.option(
        "--host", default=DEFAULT_HOST, metavar="ADDRESS",
        help="Address to listen on. Any other than this machine's own needs --token.",
    ),
    cloup.option(
        "--token", show_default="a new one each time",
        help="Secret that the page's address has to hold.",
    ),
    cloup.option("--no-browser", is_flag=True, help="Print the address alone; open no browser."),
)  # fmt: skip
@output_options
def command(
    model: ModelChoice, output: Output, truncation: float, data: str | None, directions: Path | None, port: int | None,
    host: str, token: str | None, no_browser: bool,
) -> None:  # fmt: skip
    """Play with a model in the browser.

    MODEL is a file, a run directory, hf://user/name or a shipped model's name.
    The page shows an endless grid of seeds, directions to move along, how the network grew, mixtures of two pictures, a
    timeline for videos and more. It is served to this machine alone, loads nothing from outside, and runs until Ctrl-C.
    """
    _check_host(host, token)
    from pggan.data.store.store import Store
    from pggan.utils.paths import find_model

    if data is not None:
        Store(data).close()  # a wrong one is an error at once

    find_model(model.name, model.best)  # a wrong name is an error at once
    loaded = model.load(truncation=truncation)
    from pggan.web.explorer import Explorer
    from pggan.web.security import Guardian
    from pggan.web.serve import address, listening_socket, serve

    run = Path(model.name) if model.name is not None and Path(model.name).is_dir() else None
    listener = listening_socket(host, DEFAULT_PORT if port is None else port, port is None)
    guardian = Guardian(listener.getsockname()[1], host, token)
    if not guardian.is_local:
        output.note(f"warning: whoever reaches {host} and has the token can use this page; nothing is encrypted")
    url = address(guardian)
    result = {"url": url, "port": guardian.port, "model": str(loaded.path)}
    explorer = Explorer(loaded, run, data)
    if directions is not None:
        explorer.rack.load(directions)
    serve(
        explorer, guardian, listener, not no_browser,
        lambda: output.result(result, url, "Ctrl-C ends it"),
    )  # fmt: skip


def _check_host(host: str, token: str | None) -> None:
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise UsageError(f"--token has to have {SHORTEST_TOKEN} characters at least, as a password")
    if host not in LOCAL_HOSTS and token is None:
        raise UsageError(f"--host {host} opens the page to other machines; give a --token of your own with it")
