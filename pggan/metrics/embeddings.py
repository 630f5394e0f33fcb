"""Networks of the user's to look at pictures through: an ONNX file, or one that is ready by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.config.metrics import METRICS, READY
from pggan.metrics.base import Embedding
from pggan.metrics.inception import coloured, file_digest
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.formatting import one_line

PIECE = 16
# How 8-bit values become a network's input: (mean, deviation) of each channel, of values 0 to 255.
RANGES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": ((0.0,), (255.0,)),
    "signed": ((127.5,), (127.5,)),
    "bytes": ((0.0,), (1.0,)),
}


def open_embedding(what: str, device: torch.device, values: str | None = None) -> Embedding:
    """The network behind `--embedding`: a path, or "efficientnet-lite0". `values`: see `RANGES`, of an ONNX file.

    Raises `UsageError` for a missing package, `ModelError` for a file that cannot be used.
    """
    if what == READY:
        from pggan.metrics.efficientnet import EfficientNetLite0

        return EfficientNetLite0(device)
    return OnnxEmbedding(Path(what), device, values)


def embeddings_for(
    names: Sequence[str], weights: Path | None, what: str | None, device: torch.device, values: str | None = None
) -> dict[str, Embedding]:
    """The networks that metrics look through, by role. `weights`: Inception's file, `what`: that of `--embedding`.

    Raises `UsageError` where a metric wants an embedding and none is named, and what making one raises.
    """
    roles = {name: METRICS[name].needs for name in names}
    if what is None and "embedding" in roles.values():
        which = ", ".join(name for name, role in roles.items() if role == "embedding")
        raise UsageError(f"{which}: give the network with --embedding FILE, or --embedding {READY}")
    found: dict[str, Embedding] = {}
    if "inception" in roles.values():
        from pggan.metrics.inception import Inception

        found["inception"] = Inception(weights, device)
    if "embedding" in roles.values() and what is not None:
        found["embedding"] = open_embedding(what, device, values)
    return found


def resized(pictures: Tensor, side: int) -> Tensor:
    """Float pictures (N, C, R, R) at another size, bilinear, smoothed where they shrink."""
    if pictures.shape[-1] == side:
        return pictures
    smaller = side < pictures.shape[-1]
    return F.interpolate(pictures, (side, side), mode="bilinear", align_corners=False, antialias=smaller)


class OnnxEmbedding:
    """An ONNX file with one float input (N, C, H, W); its first output, (N, D) or (N, D, h, w), is the features.

    Pictures are resized to the input's size where it is fixed, and scaled as `values` says, else the file's metadata
    entry `pggan.input`: a name of `RANGES` or JSON {"mean": [...], "std": [...]} of values 0 to 255, else "imagenet".
    Raises `ModelError` where the file cannot be used so.
    """

    def __init__(self, path: Path, device: torch.device, values: str | None = None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UsageError("--embedding FILE needs onnxruntime: pip install 'pggan[metrics]'") from None
        if not path.is_file():
            raise ModelError(f"{path} does not exist; give an ONNX file, or {READY}")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        available = onnxruntime.get_available_providers()
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda" and "CUDAExecutionProvider" in available:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # noqa: BLE001 (onnxruntime's own kinds)
            raise ModelError(f"{path} is no ONNX file that can be run ({one_line(error)})") from None
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or len(shape) != 4 or inputs[0].type not in ("tensor(float)", "tensor(float16)"):
            raise ModelError(f"{path}: the network has to take one float input of shape (N, C, H, W)")
        self.path, self._input = path, inputs[0].name
        self._dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        self._batch, self._channels, self._side = (n if isinstance(n, int) else None for n in shape[:3])
        metadata = self._session.get_modelmeta().custom_metadata_map
        name = values or metadata.get("pggan.input", "imagenet")
        self._mean, self._std = _scaling(name, path)
        self.identity = f"onnx {file_digest(path)} {name}"

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Mapping[str, Tensor]:
        found = [self._run(part) for part in pictures.cpu().split(self._batch or PIECE)]
        return {"features": torch.cat(found)}

    def _run(self, pictures: Tensor) -> Tensor:
        x = coloured(pictures) if self._channels in (3, None) else pictures
        if self._channels == 1 and x.shape[1] == 3:
            raise ModelError(f"{self.path} takes grey pictures, these are in colour")
        x = (resized(x.float(), self._side or x.shape[-1]) - self._mean) / self._std
        count = len(x)
        if self._batch and count < self._batch:
            x = torch.cat((x, x[-1:].expand(self._batch - count, -1, -1, -1)))
        try:
            (out, *_) = self._session.run(None, {self._input: x.numpy().astype(self._dtype)})
        except Exception as error:  # noqa: BLE001 (onnxruntime's own kinds)
            raise ModelError(f"{self.path} cannot be run on {tuple(x.shape)} ({one_line(error)})") from None
        features = torch.from_numpy(np.asarray(out, np.float32))[:count]
        if features.ndim > 2:
            features = features.flatten(2).mean(2)
        if features.ndim != 2 or len(features) != count:
            raise ModelError(f"{self.path}: the first output is not one row of features a picture")
        return features


def _scaling(name: str, path: Path) -> tuple[Tensor, Tensor]:
    if name in RANGES:
        mean, std = RANGES[name]
    else:
        try:
            given: dict[str, Any] = json.loads(name)
            mean, std = tuple(map(float, given["mean"])), tuple(map(float, given["std"]))
        except (ValueError, KeyError, TypeError):
            known = ", ".join(RANGES)
            raise ModelError(f"{path}: its input is {name[:40]!r}; give --embedding-input, one of {known}") from None
    return torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
