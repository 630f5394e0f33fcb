"""Model files as other programs write them, and a second, plainer implementation of their networks."""

from __future__ import annotations

import io
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

ROOT2 = np.sqrt(2.0)


def official_variables(function: str, options: dict[str, Any], seed: int) -> list[tuple[str, Any]]:
    """Random variables of an official network, biases not zero, in its own layouts and order."""
    random = np.random.default_rng(seed)
    o = {"resolution": 32, "num_channels": 1, "label_size": 0, "fmap_base": 8192, "fmap_decay": 1.0, "fmap_max": 512}
    o |= {"fused_scale": True, "use_wscale": True, "latent_size": None, "mbstd_group_size": 4, **options}
    last = int(np.log2(o["resolution"]))
    out: list[tuple[str, Any]] = [("lod", np.float32(options.get("lod", 0.0)))]

    def nf(stage: int) -> int:
        return min(int(o["fmap_base"] / 2.0 ** (stage * o["fmap_decay"])), o["fmap_max"])

    def layer(name: str, shape: tuple[int, ...], fan_in: int, biases: int, gain: float = ROOT2) -> None:
        scale = 1.0 if o["use_wscale"] else gain / np.sqrt(fan_in)
        out.append((f"{name}/weight", (random.standard_normal(shape) * scale).astype(np.float32)))
        out.append((f"{name}/bias", (random.standard_normal(biases) * 0.3).astype(np.float32)))

    def conv(name: str, kernel: int, inputs: int, outputs: int, gain: float = ROOT2, flipped: bool = False) -> None:
        axes = (outputs, inputs) if flipped else (inputs, outputs)
        layer(name, (kernel, kernel, *axes), kernel * kernel * inputs, outputs, gain)

    if function == "G_paper":
        inputs = (o["latent_size"] or nf(0)) + o["label_size"]
        layer("4x4/Dense", (inputs, nf(1) * 16), inputs, nf(1), ROOT2 / 4)
        conv("4x4/Conv", 3, nf(1), nf(1))
        conv(f"ToRGB_lod{last - 2}", 1, nf(1), o["num_channels"], 1.0)
        for level in range(3, last + 1):
            place, first = f"{2**level}x{2**level}", "Conv0_up" if o["fused_scale"] else "Conv0"
            conv(f"{place}/{first}", 3, nf(level - 2), nf(level - 1), flipped=o["fused_scale"])
            conv(f"{place}/Conv1", 3, nf(level - 1), nf(level - 1))
            conv(f"ToRGB_lod{last - level}", 1, nf(level - 1), o["num_channels"], 1.0)
        return out
    for level in range(last, 1, -1):
        conv(f"FromRGB_lod{last - level}", 1, o["num_channels"], nf(level - 1))
        if level > 2:
            place, second = f"{2**level}x{2**level}", "Conv1_down" if o["fused_scale"] else "Conv1"
            conv(f"{place}/Conv0", 3, nf(level - 1), nf(level - 1))
            conv(f"{place}/{second}", 3, nf(level - 1), nf(level - 2))
    conv("4x4/Conv", 3, nf(1) + (o["mbstd_group_size"] > 1), nf(1))
    layer("4x4/Dense0", (nf(1) * 16, nf(0)), nf(1) * 16, nf(0))
    layer("4x4/Dense1", (nf(0), 1 + o["label_size"]), nf(0), 1 + o["label_size"], 1.0)
    return out


class _Weights:
    """Run-time weights and biases of an official network as torch takes them, in float64."""

    def __init__(self, variables: list[tuple[str, Any]], scaled: bool) -> None:
        self.values, self.scaled = dict(variables), scaled

    def __call__(self, name: str, gain: float = ROOT2, flipped: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        weight = torch.from_numpy(np.asarray(self.values[f"{name}/weight"], np.float64))
        fan_in = weight[..., 0].numel() if not flipped else weight[..., 0, :].numel()
        if self.scaled:
            weight = weight * (gain / np.sqrt(fan_in))
        if flipped:
            weight = weight.flip(0, 1).permute(2, 3, 0, 1)
        elif weight.ndim == 4:
            weight = weight.permute(3, 2, 0, 1)
        return weight, torch.from_numpy(np.asarray(self.values[f"{name}/bias"], np.float64))


def official_images(variables: list[tuple[str, Any]], o: dict[str, Any], x: torch.Tensor, lod: float) -> torch.Tensor:
    """G's images at full resolution, by the official "linear" structure; `x`: latents and labels, float64."""
    weights, last = _Weights(variables, o.get("use_wscale", True)), int(np.log2(o.get("resolution", 32)))
    fused = o.get("fused_scale", True)

    def norm(y: torch.Tensor) -> torch.Tensor:
        return y / (y.square().mean(1, keepdim=True) + o.get("pixelnorm_epsilon", 1e-8)).sqrt()

    def active(y: torch.Tensor) -> torch.Tensor:
        y = F.leaky_relu(y, 0.2) if o.get("use_leakyrelu", True) else F.relu(y)
        return norm(y) if o.get("use_pixelnorm", True) else y

    def rgb(y: torch.Tensor, lod_at: int) -> torch.Tensor:
        weight, bias = weights(f"ToRGB_lod{lod_at}", 1.0)
        return F.conv2d(y, weight, bias)

    if o.get("normalize_latents", True):
        x = norm(x)
    weight, bias = weights("4x4/Dense", ROOT2 / 4)
    x = active((x @ weight).reshape(len(x), -1, 4, 4) + bias[:, None, None])
    x = active(F.conv2d(x, *weights("4x4/Conv"), padding=1))
    images = rgb(x, last - 2)
    for level in range(3, last + 1):
        place = f"{2**level}x{2**level}"
        x = F.interpolate(x, scale_factor=2)
        x = active(F.conv2d(x, *weights(f"{place}/{'Conv0_up' if fused else 'Conv0'}", flipped=fused), padding=1))
        x = active(F.conv2d(x, *weights(f"{place}/Conv1"), padding=1))
        share = min(max(lod - (last - level), 0.0), 1.0)
        images = rgb(x, last - level) * (1 - share) + F.interpolate(images, scale_factor=2) * share
    return images


def official_scores(variables: list[tuple[str, Any]], o: dict[str, Any], x: torch.Tensor, lod: float) -> torch.Tensor:
    """D's outputs (N, 1 + labels) on full-size images, float64."""
    weights, last = _Weights(variables, o.get("use_wscale", True)), int(np.log2(o.get("resolution", 32)))
    fused, group = o.get("fused_scale", True), o.get("mbstd_group_size", 4)
    image, x = x, F.leaky_relu(F.conv2d(x, *weights("FromRGB_lod0")), 0.2)
    for level in range(last, 2, -1):
        place = f"{2**level}x{2**level}"
        x = F.leaky_relu(F.conv2d(x, *weights(f"{place}/Conv0"), padding=1), 0.2)
        weight, bias = weights(f"{place}/{'Conv1_down' if fused else 'Conv1'}")
        x = F.conv2d(x, weight, padding=1)
        if fused:
            x = F.leaky_relu(F.avg_pool2d(x, 2) + bias[:, None, None], 0.2)
        else:
            x = F.avg_pool2d(F.leaky_relu(x + bias[:, None, None], 0.2), 2)
        image = F.avg_pool2d(image, 2)
        share = min(max(lod - (last - level), 0.0), 1.0)
        other = F.leaky_relu(F.conv2d(image, *weights(f"FromRGB_lod{last - level + 1}")), 0.2)
        x = x * (1 - share) + other * share
    if group > 1:
        size = min(group, len(x))
        y = x.reshape(size, len(x) // size, *x.shape[1:])
        y = (y.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3)).repeat(size)
        x = torch.cat([x, y[:, None, None, None].expand(-1, 1, 4, 4)], 1)
    x = F.leaky_relu(F.conv2d(x, *weights("4x4/Conv"), padding=1), 0.2)
    weight, bias = weights("4x4/Dense0")
    x = F.leaky_relu(x.flatten(1) @ weight + bias, 0.2)
    weight, bias = weights("4x4/Dense1", 1.0)
    return x @ weight + bias


def network_pickle(states: list[dict[str, Any]], protocol: int = 4, module: str = "tfutil") -> bytes:
    """A tuple of networks as the official code pickles them."""
    stand_in = types.ModuleType(module)
    stand_in.Network = type("Network", (), {"__module__": module})  # type: ignore[attr-defined]
    before = sys.modules.get(module)
    sys.modules[module] = stand_in
    try:
        networks = []
        for state in states:
            network = stand_in.Network()
            network.__dict__.update(state)
            networks.append(network)
        return pickle.dumps(tuple(networks), protocol)
    finally:
        del sys.modules[module]
        if before is not None:
            sys.modules[module] = before


def official_state(function: str, options: dict[str, Any], seed: int) -> dict[str, Any]:
    kwargs = {key: value for key, value in options.items() if key != "lod"}
    return {
        "version": 2,
        "name": function[0],
        "static_kwargs": kwargs,
        "build_module_src": "raise SystemExit('executed')",
        "build_func_name": function,
        "variables": official_variables(function, options, seed),
    }


def write_official(path: Path, g: dict[str, Any], d: dict[str, Any], protocol: int = 4) -> list[dict[str, Any]]:
    """Writes a pickle of random networks; returns the states of G, D and Gs."""
    states = [official_state("G_paper", g, 1), official_state("D_paper", d, 2), official_state("G_paper", g, 3)]
    path.write_bytes(network_pickle(states, protocol))
    return states


class BaseConfig:
    """pytorch_GAN_zoo's configuration class."""


def zoo_state(depths: list[int], seed: int = 0, **options: Any) -> dict[str, Any]:
    """A checkpoint of pytorch_GAN_zoo with random weights."""
    torch.manual_seed(seed)
    config: dict[str, Any] = {
        "depthScale0": depths[0], "depthOtherScales": depths[1:], "leakyReluLeak": 0.2, "perChannelNormalization": True,
        "alpha": 0.0, "miniBatchStdDev": True, "equalizedlR": True, "noiseVectorDim": 12, "dimOutput": 3,
        "attribKeysOrder": None, "categoryVectorDim": 0, "lossCriterion": "WGANGP", **options,
    }  # fmt: skip
    latent = config["noiseVectorDim"] + config["categoryVectorDim"]
    config["latentVectorDim"] = latent

    def layer(into: dict[str, torch.Tensor], name: str, *shape: int) -> None:
        scale = 1.0 if config["equalizedlR"] else 0.3
        into[f"{name}.module.weight"] = torch.randn(*shape) * scale
        into[f"{name}.module.bias"] = torch.randn(shape[0]) * 0.3

    def generator() -> dict[str, torch.Tensor]:
        g: dict[str, torch.Tensor] = {}
        layer(g, "formatLayer", depths[0] * 16, latent)
        layer(g, "groupScale0.0", depths[0], depths[0], 3, 3)
        for i, depth in enumerate(depths):
            layer(g, f"toRGBLayers.{i}", config["dimOutput"], depth, 1, 1)
            if i:
                layer(g, f"scaleLayers.{i - 1}.0", depth, depths[i - 1], 3, 3)
                layer(g, f"scaleLayers.{i - 1}.1", depth, depth, 3, 3)
        return g

    d: dict[str, torch.Tensor] = {}
    for i, depth in enumerate(depths):
        layer(d, f"fromRGBLayers.{i}", depth, config["dimOutput"], 1, 1)
        if i:
            layer(d, f"scaleLayers.{i - 1}.0", depth, depth, 3, 3)
            layer(d, f"scaleLayers.{i - 1}.1", depths[i - 1], depth, 3, 3)
    layer(d, "groupScaleZero.0", depths[0], depths[0] + bool(config["miniBatchStdDev"]), 3, 3)
    layer(d, "groupScaleZero.1", depths[0], depths[0] * 16)
    layer(d, "decisionLayer", 1 + config["categoryVectorDim"], depths[0])
    config_object = BaseConfig()
    config_object.__dict__.update(config)
    return {"config": config_object, "netG": generator(), "netD": d, "avgG": generator()}


def write_zoo(path: Path, state: dict[str, Any], legacy: bool = False) -> Path:
    names = ["models", "models.utils", "models.utils.config"]
    sys.modules.update({name: types.ModuleType(name) for name in names})
    sys.modules[names[-1]].BaseConfig = BaseConfig  # type: ignore[attr-defined]
    original, BaseConfig.__module__ = BaseConfig.__module__, names[-1]
    try:
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    finally:
        BaseConfig.__module__ = original
        for name in names:
            del sys.modules[name]
    return path


def _zoo_layer(net: dict[str, torch.Tensor], config: Any, name: str, x: torch.Tensor) -> torch.Tensor:
    """The layer's output, bias included, times He's constant."""
    weight, bias = net[f"{name}.module.weight"].double(), net[f"{name}.module.bias"].double()
    y = F.linear(x, weight, bias) if weight.ndim == 2 else F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    return y * np.sqrt(2 / weight[0].numel()) if config.equalizedlR else y


def zoo_images(state: dict[str, Any], x: torch.Tensor, alpha: float, net: str = "avgG") -> torch.Tensor:
    """G's images by the zoo's rules, float64; `alpha` is the coarse share."""
    c, g = state["config"], state[net]
    scales = len(c.depthOtherScales)

    def norm(y: torch.Tensor) -> torch.Tensor:
        return y * (y.square().mean(1, keepdim=True) + 1e-8).rsqrt()

    def active(name: str, y: torch.Tensor) -> torch.Tensor:
        return norm(F.leaky_relu(_zoo_layer(g, c, name, y), c.leakyReluLeak))

    x = F.leaky_relu(_zoo_layer(g, c, "formatLayer", norm(x)), c.leakyReluLeak)
    x = active("groupScale0.0", norm(x.reshape(len(x), -1, 4, 4)))
    coarse = x
    for i in range(scales):
        coarse, x = x, active(f"scaleLayers.{i}.1", active(f"scaleLayers.{i}.0", F.interpolate(x, scale_factor=2)))
    images = _zoo_layer(g, c, f"toRGBLayers.{scales}", x)
    if alpha > 0 and scales:
        below = F.interpolate(_zoo_layer(g, c, f"toRGBLayers.{scales - 1}", coarse), scale_factor=2)
        images = alpha * below + (1 - alpha) * images
    return images.tanh() if c.lossCriterion in ("MSE", "DCGAN") else images


def zoo_scores(state: dict[str, Any], x: torch.Tensor, alpha: float) -> torch.Tensor:
    """D's outputs by the zoo's rules, float64."""
    c, d = state["config"], state["netD"]
    scales = len(c.depthOtherScales)

    def active(name: str, y: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(_zoo_layer(d, c, name, y), c.leakyReluLeak)

    image, x = x, active(f"fromRGBLayers.{scales}", x)
    for i in range(scales - 1, -1, -1):
        x = F.avg_pool2d(active(f"scaleLayers.{i}.1", active(f"scaleLayers.{i}.0", x)), 2)
        if i == scales - 1 and scales > 1:
            x = (1 - alpha) * x + alpha * active(f"fromRGBLayers.{i}", F.avg_pool2d(image, 2))
    if c.miniBatchStdDev:
        size = min(4, len(x))
        size = len(x) if len(x) % size else size
        groups = [x[at : at + size] for at in range(0, len(x), size)]
        statistic = [(g.var(0) + 1e-8).sqrt().mean() if size > 1 else torch.zeros((), dtype=x.dtype) for g in groups]
        maps = torch.stack(statistic).repeat_interleave(size)
        x = torch.cat([x, maps[:, None, None, None].expand(-1, 1, 4, 4)], 1)
    x = active("groupScaleZero.1", active("groupScaleZero.0", x).flatten(1))
    return _zoo_layer(d, c, "decisionLayer", x)


class Malicious:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def dumped(value: Any, protocol: int = 4) -> bytes:
    out = io.BytesIO()
    pickle.dump(value, out, protocol)
    return out.getvalue()
