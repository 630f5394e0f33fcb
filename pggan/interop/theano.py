"""Converts networks of the official Theano release to states of the TensorFlow release.

A Theano network holds its weights as a flat list, in the order in which the layers were created. Its run-time scale,
where weights are equalized, and its bias follow each weight. Theano convolves with flipped kernels, hence the flips.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.utils.errors import ModelError

_FUNCTIONS = {"G_paper": "G_paper", "G_progressive_8": "G_paper", "D_paper": "D_paper", "D_progressive_8": "D_paper"}
# Options that the TensorFlow release lacks, with the only value that it can express (None: any, it has no effect).
_REMOVED: dict[str, Any] = {
    "label_size": 0, "use_batchnorm": False, "tanh_at_end": None, "mbstat_func": "Tstdeps", "mbstat_avg": "all",
    "mbdisc_kernels": None, "use_layernorm": False,
}  # fmt: skip
# Defaults that differ from the TensorFlow release.
_DEFAULTS = {"fmap_base": 4096, "fmap_max": 256}
# Gains of He's initialisation, before a (leaky) ReLU and before no activation.
RELU, LINEAR = float(np.sqrt(2.0)), 1.0

# Names and values of a layer's weight and bias.
Layer = list[tuple[str, NDArray[Any]]]


def from_theano(state: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a Theano network's state. Raises `ModelError` for options that the TensorFlow release lacks."""
    options = dict(state["build_func_spec"])
    function = options.pop("func", None)
    if function not in _FUNCTIONS:
        raise ModelError(f"it is built by {function!r}, where {', '.join(_FUNCTIONS)} are known")
    for option, value in _REMOVED.items():
        if options.pop(option, value) not in (value, float(value) if isinstance(value, int) else value):
            raise ModelError(f"{function}'s {option} is not {value!r}: no later release has such networks")
    options.pop("use_gdrop", None)  # noise in training only
    options = {**_DEFAULTS, **options, "fused_scale": False, "mbstd_group_size": 16}
    last = int(options.get("resolution", 32)).bit_length() - 1
    source = _Parameters(state["param_values"], bool(options.get("use_wscale", True)))
    layers = _generator(source, last) if function.startswith("G") else _discriminator(source, last)
    variables = [("lod", np.float32(state.get("toplevel_params", {}).get("cur_lod", 0.0)))]
    variables += [pair for layer in layers for pair in layer]
    source.check_exhausted()
    return {
        "version": 2,
        "name": str(function),
        "static_kwargs": options,
        "build_func_name": _FUNCTIONS[function],
        "variables": variables,
    }


class _Parameters:
    """The flat list of weights, consumed layer by layer."""

    def __init__(self, values: Any, scaled: bool) -> None:
        self._values, self._scaled = iter(values), scaled

    def take(self) -> NDArray[Any]:
        """Returns the next entry. Raises `ModelError` at the end of the list."""
        try:
            return np.asarray(next(self._values))
        except StopIteration:
            raise ModelError("the network has fewer weights than its description says") from None

    def layer(self, name: str, gain: float, weight: NDArray[Any]) -> Layer:
        """Returns a layer's weight and bias, and takes scale and bias from the list.

        Args:
            name: of the layer in the TensorFlow release.
            gain: of He's initialisation.
            weight: already taken, in the TensorFlow order of axes. Its run-time scale becomes `gain / sqrt(fan_in)`,
                which the TensorFlow release applies.
        """
        if self._scaled:
            weight = weight * self.take() / (gain / np.sqrt(np.prod(weight.shape[:-1])))
        return [(f"{name}/weight", weight), (f"{name}/bias", self.take())]

    def conv(self, name: str) -> Layer:
        """Takes a 3x3 convolution, whose kernel [out, in, kh, kw] is flipped in both directions."""
        return self.layer(name, RELU, self.take().transpose(2, 3, 1, 0)[::-1, ::-1])

    def rgb(self, name: str, gain: float) -> Layer:
        """Takes a 1x1 convolution to or from RGB, whose kernel is [in, out]."""
        return self.layer(name, gain, self.take()[np.newaxis, np.newaxis])

    def check_exhausted(self) -> None:
        """Raises `ModelError` where entries are left."""
        if next(self._values, None) is not None:
            raise ModelError("the network has more weights than its description says")


def _flat(weight: NDArray[Any]) -> NDArray[Any]:
    return weight.reshape(weight.shape[0], -1)


def _generator(source: _Parameters, last: int) -> Iterator[Layer]:
    yield source.layer("4x4/Dense", RELU / 4, _flat(source.take().transpose(1, 0, 2, 3)))
    yield source.conv("4x4/Conv")
    for level in range(3, last + 1):
        yield source.conv(f"{2**level}x{2**level}/Conv0")
        yield source.conv(f"{2**level}x{2**level}/Conv1")
    for lod in range(last - 1):
        yield source.rgb(f"ToRGB_lod{lod}", LINEAR)


def _discriminator(source: _Parameters, last: int) -> Iterator[Layer]:
    yield source.rgb("FromRGB_lod0", RELU)
    for level in range(last, 2, -1):
        yield source.conv(f"{2**level}x{2**level}/Conv0")
        yield source.conv(f"{2**level}x{2**level}/Conv1")
        yield source.rgb(f"FromRGB_lod{last - level + 1}", RELU)
    yield source.conv("4x4/Conv")
    yield source.layer("4x4/Dense0", RELU, _flat(source.take()[:, :, ::-1, ::-1]).transpose())
    yield source.layer("4x4/Dense1", LINEAR, source.take())
