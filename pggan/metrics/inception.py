"""The Inception network of published FIDs, as torch-fidelity ships it."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pggan.utils.errors import ModelError, UsageError
from pggan.utils.formatting import one_line

PATIENCE = 20.0  # seconds without an answer from the network


class Inception:
    """Features (N, 2048) and unbiased logits (N, 1008). `weights`: a file; None: torch-fidelity's own download.

    Raises `UsageError` where torch-fidelity is missing, `ModelError` where the weights cannot be had or read.
    """

    def __init__(self, weights: Path | None, device: torch.device) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError:
            raise UsageError("fid, kid, is and pr need torch-fidelity: pip install 'pggan[metrics]'") from None
        path = weights if weights is not None else downloaded()
        checked(path)
        layers = ["2048", "logits_unbiased"]
        try:
            network = FeatureExtractorInceptionV3("inception", layers, feature_extractor_weights_path=str(path))
        except (RuntimeError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{path} holds other weights than torch-fidelity's Inception") from None
        self.identity = f"inception {file_digest(path)}"
        self._network, self._device = network.to(device), device

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Mapping[str, Tensor]:
        features, logits = [], []
        for part in coloured(pictures.to(self._device)).split(piece(self._device)):
            found = self._network(part)
            features.append(found[0].cpu())
            logits.append(found[1].cpu())
        return {"features": torch.cat(features), "logits": torch.cat(logits)}


def piece(device: torch.device) -> int:
    """Pictures that a network looks at at once: on the CPU few, whose layers stay below what is asked of the system
    anew for every tensor (that costs more than the arithmetic).
    """
    return 4 if device.type == "cpu" else 64


def coloured(pictures: Tensor) -> Tensor:
    """Pictures (N, 1 or 3, R, R) with 3 channels."""
    return pictures.expand(-1, 3, -1, -1) if pictures.shape[1] == 1 else pictures


def checked(path: Path) -> None:
    """Raises `ModelError` unless a file holds plain tensors: torch-fidelity itself would run what a pickle says."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist; give torch-fidelity's Inception weights (.pth)")
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 (torch raises many kinds for damaged and foreign files)
        raise ModelError(f"{path} is not a file of weights that can be read safely; download it again") from None


def downloaded() -> Path:
    """The weights where torch keeps its downloads, fetched if need be. Raises `ModelError` without a network."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[1]
    if path.is_file():
        return path
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = path.stem.rsplit("-", 1)[1]
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=prefix, progress=False)
    except (OSError, RuntimeError, ValueError) as error:  # URLError is an OSError
        raise ModelError(
            f"the Inception weights cannot be downloaded ({one_line(error)}); fetch {URL_INCEPTION_V3} elsewhere and "
            "give it as --inception-weights FILE, or use fd with --embedding"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return path


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.blake2b(digest_size=16)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
