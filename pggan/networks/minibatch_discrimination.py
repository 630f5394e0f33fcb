"""Minibatch discrimination: features of a sample's closeness to others (Salimans et al. 2016, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.config.train import DiscriminatorConfig
from pggan.networks.layers import EqualizedWeight, at_least_float32


def closeness(m: Tensor, group: int) -> Tensor:
    """Computes `o(i)_b = sum over j != i of exp(-||M_ib - M_jb||_1)`: M (N, B, C) to (N, B), values in [0, N - 1].

    j runs over the other samples of i's group. Groups are those of `minibatch_stddev`: `min(group, N)` members, N /
    group apart. Raises `ValueError` where N cannot be divided into groups.
    """
    n, kernels, dim = m.shape
    size = min(group, n)
    if n % size:
        raise ValueError(f"a minibatch of {n} is not divisible by its discrimination group of {size}")
    y = m.reshape(size, n // size, kernels, dim)
    similarity = torch.exp(-(y[:, None] - y[None, :]).abs().sum(dim=-1))
    others = 1 - torch.eye(size, device=m.device, dtype=m.dtype)
    return (similarity * others[:, :, None, None]).sum(dim=1).reshape(n, kernels)


class MinibatchDiscrimination(EqualizedWeight):
    """Features (N, inputs) to the closeness (N, B) of `M = features T`, T (inputs, B, C) learned; float32 or better."""

    def __init__(self, inputs: int, config: DiscriminatorConfig) -> None:
        kernels, dim = config.discrimination_kernels, config.discrimination_dim
        super().__init__((kernels * dim, inputs), inputs, 1.0, config.equalized)
        self.kernels, self.dim, self.group = kernels, dim, config.discrimination_group

    def forward(self, features: Tensor) -> Tensor:
        x = at_least_float32(features)
        m = x @ self.weight_operand(x.dtype).t()
        return closeness(m.reshape(len(x), self.kernels, self.dim), self.group)
