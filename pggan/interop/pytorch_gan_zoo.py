"""Imports PGAN checkpoints of pytorch_GAN_zoo: files of its hub, in either format of torch.save, and of its script.

Its networks differ from the official ones: scaling is not fused, every gain is sqrt(2), He's constant multiplies biases
too, the first layer has one bias per output, the minibatch statistic is its own, and alpha is the coarse level's share.
Differences in numbers are converted; differences in functions become fields of the configuration.
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
from pggan.interop.imported_model import ImportedModel, tensor, unknown_global_error
from pggan.interop.pickles import UnknownGlobal
from pggan.interop.torch_files import check_tensors, check_torch_file
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.formatting import one_line

# First bytes of torch files before version 1.6: a pickled magic number.
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Run-time gain of every layer in the file, and of those layers that have another one in this program.
GAIN = math.sqrt(2.0)
_OUR_GAINS = {"blocks.4x4.dense": GAIN / 4, "to_rgb": 1.0, "head.dense1": 1.0}
_TANH_LOSSES = ("MSE", "DCGAN")


class _Config:
    """Stands for the checkpoint's configuration class; it has attributes only."""


_Config.__module__, _Config.__qualname__, _Config.__name__ = "models.utils.config", "BaseConfig", "BaseConfig"


class ZooImporter:
    """The importer of pytorch_GAN_zoo's checkpoints."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether torch.save wrote the file."""
        with open(path, "rb") as file:
            if file.read(len(_LEGACY_START)) == _LEGACY_START:
                return True
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") or name == "data.pkl" for name in archive.namelist())

    @staticmethod
    def read(path: Path) -> ImportedModel:
        """Converts the checkpoint. Raises `ModelError` for anything but an intact PGAN checkpoint."""
        content = _load(path)
        config = content.get("config") if isinstance(content, dict) else None
        if not isinstance(content, dict) or not isinstance(config, _Config) or "netG" not in content:
            raise ModelError(f"{path} is {_guess(content)}; import reads PGAN checkpoints of pytorch_GAN_zoo")
        try:
            return _convert(vars(config), content)
        except (ModelError, UsageError) as error:
            raise ModelError(f"{path} cannot be imported: {error}") from None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise ModelError(f"{path} is not a whole PGAN checkpoint ({error!r}); copy it again") from None


def _load(path: Path) -> Any:
    """Reads the file without running anything in it: of classes, torch admits tensors and `_Config` only."""
    try:
        check_torch_file(path)
        with torch.serialization.safe_globals([_Config]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        check_tensors(content, path.stat().st_size)
        return content
    except UnknownGlobal as error:
        raise unknown_global_error(path, error.name) from None
    except pickle.UnpicklingError as error:
        if match := re.search(r"(?:GLOBAL|global|class|function) ([A-Za-z_][\w.]*\.[\w.]+)", str(error)):
            raise unknown_global_error(path, match[1]) from None
        raise _damaged(path, error) from None
    except MemoryError:
        raise ModelError(f"{path} needs more memory than there is; it is damaged, or no model") from None
    except Exception as error:  # noqa: BLE001 (torch raises many kinds for damaged files)
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} is not a whole torch checkpoint ({one_line(error)}); copy it again")


def _guess(content: Any) -> str:
    """What a torch file of another project seems to be, for the error message."""
    if not isinstance(content, dict):
        return f"a torch file that holds a {type(content).__name__}, not a checkpoint"
    keys = set(map(str, content))
    if {"g_ema"} & keys:
        return "a checkpoint of a StyleGAN2 port"
    if {"meta", "state_dict"} <= keys:
        return "a checkpoint of OpenMMLab (mmgeneration)"
    if {"generator", "discriminator"} & keys or {"gen_state", "gen"} & keys:
        return "a checkpoint of pro_gan_pytorch or another port"
    if keys and all(isinstance(value, Tensor) for value in content.values()):
        return "a bare state dictionary, which does not say how its network is built"
    return "a torch checkpoint of another program"


def _convert(config: Mapping[str, Any], content: Mapping[str, Any]) -> ImportedModel:
    _check_supported(config)
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
    trained = _to_tensors(content["netG"], equalized)
    return ImportedModel(
        generator=g,
        discriminator=d if "netD" in content else None,
        level=level,
        alpha=1.0 - float(config.get("alpha") or 0.0),  # the file has the coarse level's share
        average=_to_tensors(content["avgG"], equalized) if "avgG" in content else trained,
        trained=trained,
        critic=_to_tensors(content["netD"], equalized) if "netD" in content else None,
        labels={"columns": columns} if len(columns) > 1 else columns[0] if columns else None,
        info={"imported_from": "pytorch_GAN_zoo PGAN checkpoint"},
    )


def _check_supported(config: Mapping[str, Any]) -> None:
    """Raises `ModelError` for networks that no configuration of this program describes."""
    if config.get("depthScale0") is None:
        raise ModelError("it is not a progressive GAN (no depthScale0); pytorch_GAN_zoo's other networks are not read")
    if not config.get("perChannelNormalization", True):
        raise ModelError("perChannelNormalization is off, with which pytorch_GAN_zoo itself cannot run a generator")
    if config.get("lossCriterion", "WGANGP") not in ("WGANGP", "Logistic", *_TANH_LOSSES):
        raise ModelError(f"its loss {config['lossCriterion']!r} is not one of pytorch_GAN_zoo's")


def _widths(depths: list[int]) -> dict[str, Any]:
    """Feature maps: the rule min(base / 2^stage, max) if it gives `depths`, so that the model can grow; else a list."""
    widths = (depths[0], *depths)  # stage 0 is the dense layer behind the 4x4 stage
    base, most = widths[-1] << (len(widths) - 1), widths[0]
    if base <= 1 << 20 and widths == tuple(min(base >> stage, most) for stage in range(len(widths))):
        return {"fmap_base": base, "fmap_max": most}
    return {"widths": widths}


def _columns(attributes: Any) -> list[dict[str, Any]]:
    """Returns the label columns, in the order of the label vector."""
    if not attributes:
        return []
    ordered = sorted(attributes.items(), key=lambda item: int(item[1]["order"]))
    return [{"name": str(name), "classes": [str(v) for v in about["values"]]} for name, about in ordered]


def _to_tensors(tensors: Mapping[str, Any], equalized: bool) -> dict[str, Tensor]:
    """Converts a network's tensors to a state dictionary of this program: its names, its run-time scales."""
    weights = {_our_name(str(name)): value for name, value in tensors.items()}
    converted = {}
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise ModelError(f"{name} is no tensor")
        layer, _, kind = name.rpartition(".")
        values = value.detach().double()
        if equalized and kind == "bias":
            # He's constant multiplies the layer's output, its bias included
            values = values * (GAIN / math.sqrt(weights[f"{layer}.weight"][0].numel()))
        elif equalized:
            our_gain = next((gain for part, gain in _OUR_GAINS.items() if layer.startswith(part)), GAIN)
            values = values * (GAIN / our_gain)
        converted[name] = tensor(values.numpy())
    return converted


# Pattern of a layer's name in the file -> its name in this program.
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
    """The resolution of a layer, as "16x16"; `first` is that of index 0."""
    side = first << int(index)
    return f"{side}x{side}"


def _our_name(name: str) -> str:
    """Translates a tensor's name, with or without wrappers ("module.") of layers and of the network (DataParallel)."""
    plain = name.replace("module.", "")
    layer, _, kind = plain.rpartition(".")
    for pattern, ours in _LAYERS:
        match = re.fullmatch(pattern, layer)
        if match and kind in ("weight", "bias"):
            return f"{ours(match)}.{kind}"
    raise ModelError(f"the layer {name!r} is not one of a PGAN")
