"""Feature networks chosen by `--embedding`: an ONNX file of the user's, or EfficientNet-Lite0 by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pggan.config.metrics import METRICS, READY
from pggan.metrics.base import Embedding
from pggan.metrics.efficientnet import EfficientNetLite0
from pggan.metrics.inception import Inception, file_digest
from pggan.metrics.preprocessing import resize_images, to_rgb
from pggan.utils.devices import metrics_device
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.formatting import one_line

ONNX_BATCH = 16
# How values 0 to 255 become a network's input: mean and deviation, of each channel or of all.
RANGES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": ((0.0,), (255.0,)),
    "signed": ((127.5,), (127.5,)),
    "bytes": ((0.0,), (1.0,)),
}


def open_embedding(name: str, device: torch.device, input_range: str | None = None) -> Embedding:
    """Opens the network behind `--embedding`.

    Args:
        name: Path of an ONNX file, or "efficientnet-lite0".
        device: Where it runs.
        input_range: Input scaling of an ONNX file, see `OnnxEmbedding`.

    Raises:
        UsageError: A package is missing.
        ModelError: The file cannot be used.
    """
    if name == READY:
        return EfficientNetLite0(device)
    return OnnxEmbedding(Path(name), device, input_range)


def embeddings_for(
    names: Sequence[str],
    weights: Path | None,
    embedding: str | None,
    device: torch.device,
    input_range: str | None = None,
) -> dict[str, Embedding]:
    """Opens the feature networks that metrics need.

    Args:
        names: Names of the metrics.
        weights: File of Inception weights; None: torch-fidelity's download.
        embedding: Value of `--embedding`.
        device: Where the networks run.
        input_range: Input scaling of an ONNX file, see `OnnxEmbedding`.

    Returns:
        The networks by role, "inception" or "embedding".

    Raises:
        UsageError: A metric needs an embedding and none is named, or a package is missing.
        ModelError: Weights or file cannot be used.
    """
    roles = {name: METRICS[name].needs for name in names}
    if embedding is None and "embedding" in roles.values():
        metrics = ", ".join(name for name, role in roles.items() if role == "embedding")
        raise UsageError(f"{metrics}: give the network with --embedding FILE, or --embedding {READY}")
    networks: dict[str, Embedding] = {}
    device = metrics_device(device)
    if "inception" in roles.values():
        networks["inception"] = Inception(weights, device)
    if "embedding" in roles.values() and embedding is not None:
        networks["embedding"] = open_embedding(embedding, device, input_range)
    return networks


class OnnxEmbedding:
    """An ONNX file with one float input (N, C, H, W), whose first output, (N, D) or (N, D, h, w), is the features.

    Images are resized to the input's size where that is fixed, then scaled. `input_range`, or else the file's metadata
    entry `pggan.input`, or else "imagenet" says how: a name of `RANGES`, or JSON {"mean": [...], "std": [...]} for
    values 0 to 255. Raises `ModelError` where the file cannot be used so.
    """

    def __init__(self, path: Path, device: torch.device, input_range: str | None = None) -> None:
        self._session = _open_session(path, device)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or len(shape) != 4 or inputs[0].type not in ("tensor(float)", "tensor(float16)"):
            raise ModelError(f"{path}: the network has to take one float input of shape (N, C, H, W)")
        self.path, self._input = path, inputs[0].name
        self._dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        self._batch, self._channels, self._side = (n if isinstance(n, int) else None for n in shape[:3])
        metadata = self._session.get_modelmeta().custom_metadata_map
        name = input_range or metadata.get("pggan.input", "imagenet")
        self._mean, self._std = _mean_and_std(name, path)
        self.identity = f"onnx {file_digest(path)} {name}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        features = [self._run(chunk) for chunk in images.cpu().split(self._batch or ONNX_BATCH)]
        return {"features": torch.cat(features)}

    def _run(self, images: Tensor) -> Tensor:
        x = to_rgb(images) if self._channels in (3, None) else images
        if self._channels == 1 and x.shape[1] == 3:
            raise ModelError(f"{self.path} takes grey pictures, these are in colour")
        x = (resize_images(x.float(), self._side or x.shape[-1]) - self._mean) / self._std
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


def _open_session(path: Path, device: torch.device) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UsageError("--embedding FILE needs onnxruntime: pip install 'pggan[metrics]'") from None
    if not path.is_file():
        raise ModelError(f"{path} does not exist; give an ONNX file, or {READY}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # noqa: BLE001 (onnxruntime's own kinds)
        raise ModelError(f"{path} is no ONNX file that can be run ({one_line(error)})") from None


def _mean_and_std(name: str, path: Path) -> tuple[Tensor, Tensor]:
    if name in RANGES:
        mean, std = RANGES[name]
    else:
        try:
            scaling: dict[str, Any] = json.loads(name)
            mean, std = tuple(map(float, scaling["mean"])), tuple(map(float, scaling["std"]))
        except (ValueError, KeyError, TypeError):
            known = ", ".join(RANGES)
            raise ModelError(f"{path}: its input is {name[:40]!r}; give --embedding-input, one of {known}") from None
    return torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
