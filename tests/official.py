"""The reference release's networks, outputs and gradients (tests/fixtures/official) as this project's modules.

The reader knows only the few globals that the format needs; nothing in a file is executed.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pggan.config import DiscriminatorConfig, GeneratorConfig
from pggan.networks.discriminator import Discriminator
from pggan.networks.generator import Generator

FOLDER = Path(__file__).parent / "fixtures" / "official"
CASES = ["A", "C", "E"]


class Network:
    """Stands for the pickled class; keeps its state as data."""

    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class Reader(pickle.Unpickler):
    allowed = ("_reconstruct", "scalar", "ndarray", "dtype", "_frombuffer")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("tfutil", "Network"):
            return Network
        if module.partition(".")[0] == "numpy" and name in self.allowed:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def read(case: str) -> list[dict[str, np.ndarray]]:
    """The variables of G, D and Gs."""
    data = (FOLDER / f"official_{case}.pkl").read_bytes()
    return [dict(n.state["variables"]) for n in Reader(io.BytesIO(data)).load()]


def load(case: str) -> np.lib.npyio.NpzFile:
    return np.load(FOLDER / f"official_{case}.npz")


def names(variable: str, resolution: int) -> tuple[str, bool]:
    """The reference's variable name as ours, and whether it is an upscaling convolution's fused kernel."""
    path, _, kind = variable.rpartition("/")
    if match := re.fullmatch(r"(ToRGB|FromRGB)_lod(\d+)", path):
        side = resolution >> int(match[2])
        return f"{'to_rgb' if match[1] == 'ToRGB' else 'from_rgb'}.{side}x{side}.{kind}", False
    stage, _, layer = path.partition("/")
    if layer in ("Dense0", "Dense1"):
        return f"head.{layer.lower()}.{kind}", False
    plain = layer.removesuffix("_up").removesuffix("_down").lower()
    return f"blocks.{stage}.{plain}.{kind}", layer == "Conv0_up" and kind == "weight"


def ours(variables: dict[str, np.ndarray], resolution: int, discriminator: bool) -> dict[str, torch.Tensor]:
    """Variables (or their gradients) under our names and in our layouts."""
    out = {}
    for variable, value in variables.items():
        if variable == "lod":
            continue
        name, fused_up = names(variable, resolution)
        if discriminator:
            name = name.replace("blocks.4x4.conv", "head.conv")
        value = np.asarray(value)
        if value.ndim == 4:
            # [kh, kw, in, out]; the fused upscaling kernel is [kh, kw, out, in], flipped in both directions
            value = value[::-1, ::-1].transpose(2, 3, 0, 1) if fused_up else value.transpose(3, 2, 0, 1)
        elif value.ndim == 2:
            value = value.T
        out[name] = torch.from_numpy(np.ascontiguousarray(value))
    return out


def networks(case: str, dtype: torch.dtype = torch.float32) -> tuple[Generator, Discriminator, Generator]:
    """G, D and Gs."""
    fixture = load(case)
    g_args, d_args = json.loads(str(fixture["static_kwargs_G"])), json.loads(str(fixture["static_kwargs_D"]))

    def renamed(kwargs: dict[str, Any]) -> dict[str, Any]:
        mapping = {"num_channels": "channels", "mbstd_group_size": "stddev_group"}
        return {mapping.get(key, key): value for key, value in kwargs.items()}

    g_config, d_config = GeneratorConfig(**renamed(g_args)), DiscriminatorConfig(**renamed(d_args))
    modules = Generator(g_config), Discriminator(d_config), Generator(g_config)
    for module, variables in zip(modules, read(case)):
        state = ours(variables, g_config.resolution, isinstance(module, Discriminator))
        module.load_state_dict(state)
        module.to(dtype)
    return modules


def stage(lod: float, max_level: int) -> tuple[int, torch.Tensor]:
    """The reference's lod as our level and alpha."""
    lod = float(np.float32(lod))
    return max_level - int(np.floor(lod)), torch.tensor(1.0 - (lod - np.floor(lod)), dtype=torch.float64)
