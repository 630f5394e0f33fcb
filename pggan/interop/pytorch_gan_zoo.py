"""pytorch_GAN_zoo's PGAN checkpoints: hub files in either serialization of torch, and those of its training script.

Its networks differ from the official ones: unfused scaling, gain sqrt(2) everywhere, He's constant on the biases, too,
one bias an output in the first layer, its own minibatch statistic, alpha as the coarse level's share. The numbers are
converted; what is another function is carried by the configuration.
"""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.interop.imported_model import ForeignModel, refusal, tensor
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.formatting import one_line

# How torch's files before version 1.6 begin: a pickled magic number.
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Run-time gain of every layer there, and of the layers that have another one here.
GAIN = math.sqrt(2.0)
_OUR_GAINS = {"blocks.4x4.dense": GAIN / 4, "to_rgb": 1.0, "head.dense1": 1.0}
_TANH_LOSSES = ("MSE", "DCGAN")


class _Config:
    """Stands for the checkpoint's configuration class: attributes, nothing else."""


_Config.__module__, _Config.__qualname__, _Config.__name__ = "models.utils.config", "BaseConfig", "BaseConfig"


class ZooImporter:
    @staticmethod
    def sniff(path: Path) -> bool:
        """Any file of torch.save."""
        with open(path, "rb") as file:
            if file.read(len(_LEGACY_START)) == _LEGACY_START:
                return True
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") or name == "data.pkl" for name in archive.namelist())

    @staticmethod
    def read(path: Path) -> ForeignModel:
        """Raises `ModelError` for anything but a whole PGAN checkpoint."""
        found = _load(path)
        config = found.get("config") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(config, _Config) or "netG" not in found:
            raise ModelError(f"{path} is {_guess(found)}; import reads PGAN checkpoints of pytorch_GAN_zoo")
        try:
            return _convert(vars(config), found)
        except (ModelError, UsageError) as error:
            raise ModelError(f"{path} cannot be imported: {error}") from None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise ModelError(f"{path} is not a whole PGAN checkpoint ({error!r}); copy it again") from None


def _load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([_Config]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if match := re.search(r"(?:GLOBAL|global|class|function) ([A-Za-z_][\w.]*\.[\w.]+)", str(error)):
            raise refusal(path, match[1]) from None
        raise _broken(path, error) from None
    except MemoryError:
        raise ModelError(f"{path} needs more memory than there is; it is damaged, or no model") from None
    except Exception as error:  # noqa: BLE001 (torch raises what its reader meets in a damaged file)
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} is not a whole torch checkpoint ({one_line(error)}); copy it again")


def _guess(found: Any) -> str:
    """What a torch file of another project seems to be."""
    if not isinstance(found, dict):
        return f"a torch file that holds a {type(found).__name__}, not a checkpoint"
    keys = set(map(str, found))
    if {"g_ema"} & keys:
        return "a checkpoint of a StyleGAN2 port"
    if {"meta", "state_dict"} <= keys:
        return "a checkpoint of OpenMMLab (mmgeneration)"
    if {"generator", "discriminator"} & keys or {"gen_state", "gen"} & keys:
        return "a checkpoint of pro_gan_pytorch or another port"
    if keys and all(isinstance(value, Tensor) for value in found.values()):
        return "a bare state dictionary, which does not say how its network is built"
    return "a torch checkpoint of another program"


def _convert(config: Mapping[str, Any], found: Mapping[str, Any]) -> ForeignModel:
    if config.get("depthScale0") is None:
        raise ModelError("it is not a progressive GAN (no depthScale0); pytorch_GAN_zoo's other networks are not read")
    if not config.get("perChannelNormalization", True):
        raise ModelError("perChannelNormalization is off, with which pytorch_GAN_zoo itself cannot run a generator")
    if config.get("lossCriterion", "WGANGP") not in ("WGANGP", "Logistic", *_TANH_LOSSES):
        raise ModelError(f"its loss {config['lossCriterion']!r} is not one of pytorch_GAN_zoo's")
    equalized = bool(config.get("equalizedlR", True))
    depths = [int(config["depthScale0"]), *(int(depth) for depth in config.get("depthOtherScales") or ())]
    level = 1 + len(depths)
    columns = _columns(config.get("attribKeysOrder"))
    label_size = sum(len(column["classes"]) for column in columns)
    common: dict[str, Any] = {
        "resolution": 2**level,
        "channels": int(config.get("dimOutput", 3)),
        "label_size": label_size,
        "fused_scale": False,
        "equalized": equalized,
        "leak": float(config.get("leakyReluLeak", 0.2)),
        **_widths(depths),
    }
    g = GeneratorConfig(
        **common,
        latent_size=int(config.get("noiseVectorDim") or config["latentVectorDim"] - label_size),
        dense_bias="output",
        output="tanh" if config.get("lossCriterion") in _TANH_LOSSES else "linear",
    )
    d = DiscriminatorConfig(
        **common, stddev_group=4 if config.get("miniBatchStdDev") else 1, stddev_form="zoo", fades_at_8=False
    )
    trained = _ours(found["netG"], equalized)
    return ForeignModel(
        generator=g,
        discriminator=d if "netD" in found else None,
        level=level,
        alpha=1.0 - float(config.get("alpha") or 0.0),  # theirs is the coarse level's share
        average=_ours(found["avgG"], equalized) if "avgG" in found else trained,
        trained=trained,
        critic=_ours(found["netD"], equalized) if "netD" in found else None,
        labels={"columns": columns} if len(columns) > 1 else columns[0] if columns else None,
        info={"imported_from": "pytorch_GAN_zoo PGAN checkpoint"},
    )


def _widths(depths: list[int]) -> dict[str, Any]:
    """Feature maps: by the usual rule where the depths follow it, so that growing on follows it, too; else listed."""
    widths = (depths[0], *depths)  # stage 0 is the dense layer behind the 4x4 stage
    base, most = widths[-1] << (len(widths) - 1), widths[0]
    if base <= 1 << 20 and widths == tuple(min(base >> stage, most) for stage in range(len(widths))):
        return {"fmap_base": base, "fmap_max": most}
    return {"widths": widths}


def _columns(attributes: Any) -> list[dict[str, Any]]:
    """Label columns in the order of the label vector."""
    if not attributes:
        return []
    ordered = sorted(attributes.items(), key=lambda item: int(item[1]["order"]))
    return [{"name": str(name), "classes": [str(v) for v in about["values"]]} for name, about in ordered]


def _ours(tensors: Mapping[str, Any], equalized: bool) -> dict[str, Tensor]:
    """A network's tensors under this program's names and at its run-time scales."""
    weights = {_our_name(str(name)): value for name, value in tensors.items()}
    out = {}
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise ModelError(f"{name} is no tensor")
        layer, _, kind = name.rpartition(".")
        number = value.detach().double()
        if equalized and kind == "bias":
            # He's constant multiplies the layer's output, its bias included
            number = number * (GAIN / math.sqrt(weights[f"{layer}.weight"][0].numel()))
        elif equalized:
            ours = next((gain for part, gain in _OUR_GAINS.items() if layer.startswith(part)), GAIN)
            number = number * (GAIN / ours)
        out[name] = tensor(number.numpy())
    return out


_LAYERS = [
    (r"formatLayer", lambda m: "blocks.4x4.dense"),
    (r"groupScale0\.0", lambda m: "blocks.4x4.conv"),
    (r"groupScaleZero\.0", lambda m: "head.conv"),
    (r"groupScaleZero\.1", lambda m: "head.dense0"),
    (r"decisionLayer", lambda m: "head.dense1"),
    (r"toRGBLayers\.(\d{1,2})", lambda m: f"to_rgb.{_side(m[1], 4)}"),
    (r"fromRGBLayers\.(\d{1,2})", lambda m: f"from_rgb.{_side(m[1], 4)}"),
    (r"scaleLayers\.(\d{1,2})\.([01])", lambda m: f"blocks.{_side(m[1], 8)}.conv{m[2]}"),
]


def _side(index: str, first: int) -> str:
    side = first << int(index)
    return f"{side}x{side}"


def _our_name(name: str) -> str:
    """Layers may be wrapped (`.module.`), or not, as in the oldest files; whole networks, too, by DataParallel."""
    plain = name.replace("module.", "")
    layer, _, kind = plain.rpartition(".")
    for pattern, ours in _LAYERS:
        match = re.fullmatch(pattern, layer)
        if match and kind in ("weight", "bias"):
            return f"{ours(match)}.{kind}"
    raise ModelError(f"the layer {name!r} is not one of a PGAN")
