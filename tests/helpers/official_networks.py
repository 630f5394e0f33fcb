"""The reference release's networks, outputs and gradients (tests/fixtures/official) as this project's modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.interop.official import our_layout, our_name
from pggan.interop.pickles import read_pickle
from pggan.networks.discriminator import Discriminator
from pggan.networks.factory import make_discriminator, make_generator
from pggan.networks.generator import Generator

FOLDER = Path(__file__).parents[1] / "fixtures" / "official"
CASES = ["A", "C", "E"]


def read(case: str) -> list[dict[str, np.ndarray]]:
    """The variables of G, D and Gs."""
    return [dict(n.state["variables"]) for n in read_pickle(FOLDER / f"official_{case}.pkl")]


def load(case: str) -> np.lib.npyio.NpzFile:
    return np.load(FOLDER / f"official_{case}.npz")


def ours(variables: dict[str, np.ndarray], resolution: int, discriminator: bool) -> dict[str, torch.Tensor]:
    """Variables (or their gradients) under our names and in our layouts."""
    out = {}
    for variable, value in variables.items():
        if variable != "lod":
            name, fused_up = our_name(variable, resolution, discriminator)
            out[name] = torch.from_numpy(np.ascontiguousarray(our_layout(np.asarray(value), fused_up)))
    return out


def networks(case: str, dtype: torch.dtype = torch.float32) -> tuple[Generator, Discriminator, Generator]:
    """G, D and Gs."""
    fixture = load(case)
    g_args, d_args = json.loads(str(fixture["static_kwargs_G"])), json.loads(str(fixture["static_kwargs_D"]))

    def renamed(kwargs: dict[str, Any]) -> dict[str, Any]:
        mapping = {"num_channels": "channels", "mbstd_group_size": "stddev_group"}
        return {mapping.get(key, key): value for key, value in kwargs.items()}

    g_config, d_config = GeneratorConfig(**renamed(g_args)), DiscriminatorConfig(**renamed(d_args))
    modules = make_generator(g_config), make_discriminator(d_config), make_generator(g_config)
    for module, variables in zip(modules, read(case)):
        state = ours(variables, g_config.resolution, isinstance(module, Discriminator))
        module.load_state_dict(state)
        module.to(dtype)
    return modules


def stage(lod: float, max_level: int) -> tuple[int, torch.Tensor]:
    """The reference's lod as our level and alpha."""
    lod = float(np.float32(lod))
    return max_level - int(np.floor(lod)), torch.tensor(1.0 - (lod - np.floor(lod)), dtype=torch.float64)
