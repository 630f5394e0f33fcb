"""Imports the official network pickles `(G, D, Gs)`, of the TensorFlow release and the older Theano one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.interop.imported_model import ImportedModel, level_and_alpha, tensor, unknown_global_error
from pggan.interop.pickles import Network, UnknownGlobal, is_pickle, read_pickle
from pggan.interop.theano import from_theano
from pggan.utils.errors import ModelError, UsageError

Variables = dict[str, NDArray[Any]]

# Official defaults of G_paper and D_paper: a pickle holds only the arguments that were passed.
_COMMON: dict[str, Any] = {
    "num_channels": 1, "resolution": 32, "label_size": 0, "fmap_base": 8192, "fmap_decay": 1.0, "fmap_max": 512,
    "use_wscale": True, "dtype": "float32", "fused_scale": True, "structure": None,
}  # fmt: skip
_G_ONLY: dict[str, Any] = {
    "latent_size": None, "normalize_latents": True, "use_pixelnorm": True, "pixelnorm_epsilon": 1e-8,
    "use_leakyrelu": True,
}  # fmt: skip
_D_ONLY: dict[str, Any] = {"mbstd_group_size": 4}
_FUNCTIONS = {"G_paper": _COMMON | _G_ONLY, "D_paper": _COMMON | _D_ONLY}
# Arguments that either function takes, and ignores where they concern the other one.
_IGNORED = set(_G_ONLY) | set(_D_ONLY)


class OfficialImporter:
    """The importer of the official release."""

    sniff = staticmethod(is_pickle)

    @staticmethod
    def read(path: Path) -> ImportedModel:
        """Converts the three networks. Raises `ModelError` for anything but an intact pickle of official networks."""
        try:
            content = read_pickle(path)
        except UnknownGlobal as error:
            raise unknown_global_error(path, error.name) from None
        networks = content if isinstance(content, (list, tuple)) else ()
        if len(networks) != 3 or not all(isinstance(network, Network) for network in networks):
            raise ModelError(f"{path} does not hold the three networks (G, D, Gs) of the official release")
        try:
            return _convert(*(_state(network) for network in networks))
        except (ModelError, UsageError) as error:
            raise ModelError(f"{path} cannot be imported: {error}") from None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise ModelError(f"{path} is not a whole network pickle ({error!r}); copy it again") from None


def _state(network: Network) -> dict[str, Any]:
    """A network's state as the TensorFlow release has it, version 2."""
    state = network.state
    if not isinstance(state, dict):
        raise ModelError("a network without a state")
    if "version" not in state and "build_func_spec" in state:
        return from_theano(state)
    if state.get("version") != 2:
        raise ModelError(f"network version {state.get('version')!r}, where version 2 is known")
    return state


def _convert(g: dict[str, Any], d: dict[str, Any], gs: dict[str, Any]) -> ImportedModel:
    g_options, gs_options, d_options = _options(g, "G_paper"), _options(gs, "G_paper"), _options(d, "D_paper")
    if g_options != gs_options:
        raise ModelError("G and Gs are built differently")
    g_config, d_config = _generator(g_options), _discriminator(d_options)
    variables = {name: _variables(state) for name, state in (("G", g), ("D", d), ("Gs", gs))}
    level, alpha = level_and_alpha(float(variables["Gs"].pop("lod", np.float32(0))), g_config.resolution)
    if (g_config.resolution, g_config.channels) != (d_config.resolution, d_config.channels):
        raise ModelError("G makes other pictures than D takes")
    return ImportedModel(
        generator=g_config,
        discriminator=d_config,
        level=level,
        alpha=alpha,
        average=_to_tensors(variables["Gs"], g_config.resolution, False),
        trained=_to_tensors(variables["G"], g_config.resolution, False),
        critic=_to_tensors(variables["D"], d_config.resolution, True),
        info={"imported_from": "official PG-GAN pickle", "networks": f"{g.get('name')}, {d.get('name')}"},
    )


def _options(state: Mapping[str, Any], function: str) -> dict[str, Any]:
    """The network function's arguments with defaults. Raises `ModelError` for unknown ones."""
    if state["build_func_name"] != function:
        raise ModelError(f"it is built by {state['build_func_name']!r}, where {function} is known")
    passed = {key: _number(value) for key, value in state["static_kwargs"].items() if key != "is_template_graph"}
    known = _FUNCTIONS[function]
    unknown = sorted(set(map(str, passed)) - set(known) - _IGNORED)
    if unknown:
        raise ModelError(f"{function} is given {', '.join(unknown)}, which is not known here")
    options = known | {key: value for key, value in passed.items() if key in known}
    if options["dtype"] not in ("float32", "float16", "float64"):
        raise ModelError(f"{function}'s dtype {options['dtype']!r} is not known here")
    if options["structure"] not in (None, "linear", "recursive"):
        raise ModelError(f"{function}'s structure {options['structure']!r} is not known here")
    return options


def _number(value: Any) -> Any:
    """Converts a NumPy number to a Python one."""
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 else value


def _common(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that both configurations share."""
    base, most, decay = float(options["fmap_base"]), float(options["fmap_max"]), float(options["fmap_decay"])
    resolution = int(options["resolution"])
    stages = resolution.bit_length()
    widths = tuple(int(min(int(base / 2.0 ** (s * decay)), most)) for s in range(stages))
    common: dict[str, Any] = {
        "resolution": resolution,
        "channels": int(options["num_channels"]),
        "label_size": int(options["label_size"] or 0),
        "fused_scale": bool(options["fused_scale"]),
        "equalized": bool(options["use_wscale"]),
    }
    if base == int(base) and most == int(most) and 0 <= decay <= 4:
        # by the rule, not by a list, so that a run which grows the model further can follow it
        return {**common, "fmap_base": int(base), "fmap_max": int(min(base, most)), "fmap_decay": decay}
    return {**common, "widths": widths}


def _generator(options: Mapping[str, Any]) -> GeneratorConfig:
    latent = options["latent_size"]
    if latent is None:
        latent = min(int(options["fmap_base"]), int(options["fmap_max"]))
    return GeneratorConfig(
        **_common(options),
        latent_size=int(latent),
        pixelnorm_epsilon=float(options["pixelnorm_epsilon"]),
        norm="pixel" if options["use_pixelnorm"] else "none",
        normalize_latents=bool(options["normalize_latents"]),
        leak=0.2 if options["use_leakyrelu"] else 0.0,
    )


def _discriminator(options: Mapping[str, Any]) -> DiscriminatorConfig:
    return DiscriminatorConfig(**_common(options), stddev_group=max(1, int(options["mbstd_group_size"] or 0)))


def _variables(state: Mapping[str, Any]) -> Variables:
    variables: Variables = {}
    for name, value in state["variables"]:
        if not isinstance(name, str) or name in variables:
            raise ModelError(f"a variable {name!r} twice or without a name")
        variables[name.removesuffix(":0")] = np.asarray(value)
    return variables


def _to_tensors(variables: Variables, resolution: int, discriminator: bool) -> dict[str, Tensor]:
    """Converts variables to a state dictionary of this program."""
    tensors = {}
    for variable, value in variables.items():
        if variable == "lod":
            continue
        name, fused_up = our_name(variable, resolution, discriminator)
        tensors[name] = tensor(our_layout(value, fused_up))
    return tensors


def our_name(variable: str, resolution: int, discriminator: bool) -> tuple[str, bool]:
    """Translates an official variable's name.

    Args:
        variable: as "8x8/Conv0_up/weight".
        resolution: of the network's last level.
        discriminator: whether the variable is D's.

    Returns:
        The name in this program's state dictionaries, and whether it is the kernel of a fused upscaling convolution.

    Raises:
        ModelError: it is not a variable of a progressive GAN.
    """
    path, _, kind = variable.rpartition("/")
    stage_name, _, layer = path.partition("/")
    if kind in ("weight", "bias"):
        if match := re.fullmatch(r"(ToRGB|FromRGB)_lod(\d{1,2})", path):
            side = resolution >> int(match[2])
            return f"{'to_rgb' if match[1] == 'ToRGB' else 'from_rgb'}.{side}x{side}.{kind}", False
        if discriminator and path in ("4x4/Conv", "4x4/Dense0", "4x4/Dense1"):
            return f"head.{layer.lower()}.{kind}", False
        if re.fullmatch(r"(\d+)x\1", stage_name) and layer in _LAYERS:
            return f"blocks.{stage_name}.{_LAYERS[layer]}.{kind}", layer == "Conv0_up" and kind == "weight"
    raise ModelError(f"the variable {variable!r} is not one of a progressive GAN")


_LAYERS = {
    "Dense": "dense", "Conv": "conv", "Conv0": "conv0", "Conv0_up": "conv0", "Conv1": "conv1", "Conv1_down": "conv1",
}  # fmt: skip


def our_layout(value: NDArray[Any], fused_up: bool) -> NDArray[Any]:
    """Reorders the axes of an official weight or bias for PyTorch.

    Convolutions are [kh, kw, in, out] and dense weights [in, out] in the file. The kernel of a fused upscaling
    convolution (`fused_up`) is [kh, kw, out, in], flipped in both directions because a transposed convolution scatters.
    """
    if value.ndim == 4:
        return value[::-1, ::-1].transpose(2, 3, 0, 1) if fused_up else value.transpose(3, 2, 0, 1)
    return value.T if value.ndim == 2 else value
