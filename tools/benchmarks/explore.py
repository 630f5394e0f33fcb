"""Benchmark of the explorer: from a slider's move to the picture in the browser's hands, by a client that drags."""

from __future__ import annotations

import base64
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import click

from benchmarks.measuring import Numbers, as_json, machine, show

COLUMNS = {
    "model": "model", "resolution": "resolution", "moving": "moving at", "median_ms": "median ms", "p95_ms": "95 % ms",
    "still_ms": "at rest ms", "start_s": "start s", "import_s": "import torch s",
    "start_cpu_s": "start processor s", "import_cpu_s": "import torch processor s",
}  # fmt: skip
GOAL_MS, GOAL_95_MS, GOAL_START = 60, 120, 3.0


@click.command("explore")
@click.option("--model", help="A model instead of the one that ships.")
@click.option("--resolutions", type=Numbers(), default=[], help="Untrained networks of these sizes, too, as 1024.")
@click.option("--fmap-base", type=int, default=8192, show_default=True, help="Width of untrained networks.")
@click.option("--moves", type=click.IntRange(5), default=200, show_default=True, help="Moves of the slider.")
@as_json
def command(as_json: bool, model: str | None, resolutions: list[int], fmap_base: int, moves: int) -> None:
    """Measure the explorer's latency: every move waits for its picture, as the page does.

    Goals: median below 60 ms, 95 % below 120 ms, the server ready within 3 s after torch is imported: by the
    clock on a quiet machine, in processor time on any.
    """
    rows = [_measure(model, moves)]
    with tempfile.TemporaryDirectory() as folder:
        for side in resolutions:
            rows.append(_measure(str(_untrained(Path(folder), side, fmap_base)), moves))
    show({"machine": machine(), "goal": [GOAL_MS, GOAL_95_MS], "rows": rows}, "rows", COLUMNS, as_json)
    if not as_json:
        met = sum(row["median_ms"] < GOAL_MS and row["p95_ms"] < GOAL_95_MS for row in rows)
        click.echo(f"goal: median below {GOAL_MS} ms, 95 % below {GOAL_95_MS}: met by {met} of {len(rows)}")


def _untrained(folder: Path, side: int, width: int) -> Path:
    from pggan.config.train import DiscriminatorConfig, GeneratorConfig
    from pggan.networks.factory import build
    from pggan.networks.model_file import ModelFile, save_model

    common = {"resolution": side, "fmap_base": width}
    generator, _ = build(GeneratorConfig(**common), DiscriminatorConfig(**common), 0)
    path = folder / f"untrained-{side}.safetensors"
    save_model(path, ModelFile(generator, None, side.bit_length() - 1, 1.0))
    return path


def _measure(model: str | None, moves: int) -> dict[str, Any]:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "pggan", "explore", *([model] if model else [])]
    process = subprocess.Popen([*command, "--no-browser", "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        start_s, start_cpu_s = time.perf_counter() - begun, processor_seconds(process.pid)
        import_s, import_cpu_s = _import_seconds()
        start = {"start_s": start_s, "import_s": import_s, "start_cpu_s": start_cpu_s, "import_cpu_s": import_cpu_s}
        return {"model": Path(ready["model"]).stem, **start, **_drag(ready["url"], moves)}
    finally:
        process.terminate()
        process.wait(20)


def processor_seconds(process: int) -> float | None:
    """Returns the processor time of a process so far, which other programs beside it hardly change; None off Linux."""
    stat = Path(f"/proc/{process}/stat")
    if not stat.is_file():
        return None
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _import_seconds() -> tuple[float, float]:
    """Returns how long a process takes to start and to import torch, by the clock and in processor time."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, processor


def _drag(url: str, moves: int) -> dict[str, Any]:
    import numpy as np
    from websockets.sync.client import connect

    origin = url.partition("/?")[0]
    with urllib.request.urlopen(url) as page:
        cookie = page.headers["Set-Cookie"].partition(";")[0]
    address = origin.replace("http", "ws") + "/socket"
    with connect(address, origin=origin, additional_headers={"Cookie": cookie}, max_size=None) as socket:  # type: ignore[arg-type]
        socket.send(json.dumps({"type": "hello", "id": 1}))
        about = _text(socket)["model"]
        codes = sum(about["categorical"]) + about["continuous"] if about["space"] == "z" else 0
        width = about["latent_size"] + codes
        random = np.random.RandomState(0)
        a, b = random.randn(2, width)
        times: list[float] = []
        levels: list[int] = []
        _picture(socket, _point(a), "still")  # the network is warm, and its levels have been measured
        for move in range(moves):
            angle = 0.5 * move / moves
            row = np.cos(angle) * a + np.sin(angle) * b
            begun = time.perf_counter()
            levels.append(_picture(socket, _point(row), "moving")["level"])
            times.append(1e3 * (time.perf_counter() - begun))
        begun = time.perf_counter()
        _picture(socket, _point(b), "still")
        still = 1e3 * (time.perf_counter() - begun)
    return {
        "resolution": about["resolution"],
        "moving": 2 ** statistics.mode(levels),
        "median_ms": statistics.median(times),
        "p95_ms": sorted(times)[int(0.95 * len(times))],
        "still_ms": still,
    }


def _point(row: Any) -> dict[str, str]:
    return {"z": base64.b64encode(row.astype("<f4").tobytes()).decode()}


def _text(socket: Any) -> dict[str, Any]:
    while True:
        message = socket.recv()
        if isinstance(message, str) and (answer := json.loads(message))["type"] != "event":
            return dict(answer)


def _picture(socket: Any, point: dict[str, str], quality: str) -> dict[str, Any]:
    pictures = [{"slot": "stage", "point": point, "quality": quality}]
    socket.send(json.dumps({"type": "draw", "id": 2, "rank": 0, "pictures": pictures}))
    while True:
        message = socket.recv()
        if isinstance(message, bytes):
            length = int.from_bytes(message[:4], "big")
            return dict(json.loads(message[4 : 4 + length]))
        if json.loads(message)["type"] == "error":
            raise click.ClickException(json.loads(message)["error"])
