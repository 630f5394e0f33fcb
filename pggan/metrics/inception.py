"""The Inception-v3 network of published FIDs, with the weights that torch-fidelity downloads."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pggan.metrics.preprocessing import run_in_chunks
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.formatting import one_line

DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer from the network


class Inception:
    """Computes features (N, 2048) and unbiased logits (N, 1008) of images.

    `weights` is a file of weights, or None for torch-fidelity's own download. Raises `UsageError` where torch-fidelity
    is missing, `ModelError` where the weights cannot be downloaded or read.
    """

    def __init__(self, weights: Path | None, device: torch.device) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError:
            raise UsageError("fid, kid, is and pr need torch-fidelity: pip install 'pggan[metrics]'") from None
        path = weights if weights is not None else download_weights()
        check_weights_file(path)
        layers = ["2048", "logits_unbiased"]
        try:
            network = FeatureExtractorInceptionV3("inception", layers, feature_extractor_weights_path=str(path))
        except (RuntimeError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{path} holds other weights than torch-fidelity's Inception") from None
        self.identity = f"inception {file_digest(path)}"
        self._network, self._device = network.to(device), device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        return run_in_chunks(self._network, images, self._device)


def check_weights_file(path: Path) -> None:
    """Raises `ModelError` unless a file holds plain tensors: torch-fidelity itself would run any code in a pickle."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist; give torch-fidelity's Inception weights (.pth)")
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 (torch raises many kinds for damaged and foreign files)
        raise ModelError(f"{path} is not a file of weights that can be read safely; download it again") from None


def download_weights() -> Path:
    """Returns the weights in torch's download folder, downloads them first if need be.

    Raises `ModelError` without a network.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[1]
    if path.is_file():
        return path
    timeout_before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
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
        socket.setdefaulttimeout(timeout_before)
    return path


def file_digest(path: Path) -> str:
    """Returns the BLAKE2b digest of a file, 128 bits in hexadecimal."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
