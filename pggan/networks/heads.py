"""The discriminator's last layers: minibatch statistic or discrimination, then score, class logits and codes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pggan.config.train import DiscriminatorConfig
from pggan.networks.layers import (
    GAIN,
    EqualizedConv2d,
    EqualizedLinear,
    at_least_float32,
    consecutive_stddev,
    leaky_relu,
    minibatch_stddev,
)
from pggan.networks.minibatch_discrimination import MinibatchDiscrimination
from pggan.networks.normalization import discriminator_norm


class DiscriminatorOutput(NamedTuple):
    """The outputs of a discriminator; None where it has no such head."""

    # (N,), raw: without a sigmoid. Of an auto-encoder -mean |v - D(v)|, minus its reconstruction error.
    score: Tensor
    # (N, F), the input of the last layers; of an auto-encoder the bottleneck between encoder and decoder.
    features: Tensor
    # (N, K)
    class_logits: Tensor | None = None
    # (N, config.code_outputs): logits of the categorical codes, means of the continuous ones, then their log-variances.
    codes: Tensor | None = None
    # (N, C, R, R), about [-1, 1]
    reconstruction: Tensor | None = None


class OutputHead(nn.Module):
    """The last layers, from features (N, F) to a `DiscriminatorOutput`.

    They compute in float32 or better: the gradient of the last bias is a small difference of large sums.
    """

    discrimination: MinibatchDiscrimination | None
    dense1: EqualizedLinear | None
    codes: EqualizedLinear | None

    def make_output_layers(self, inputs: int, config: DiscriminatorConfig) -> None:
        """Makes the last layers for `inputs` features."""
        discriminates = config.diversity == "discrimination"
        extra = config.discrimination_kernels if discriminates else 0
        self.scores = 0 if config.decodes else 1
        outputs = self.scores + config.label_size
        self.dense1 = EqualizedLinear(inputs + extra, outputs, 1.0, config.equalized) if outputs else None
        self.discrimination = MinibatchDiscrimination(inputs, config) if discriminates else None
        self.codes = EqualizedLinear(inputs, config.code_outputs, 1.0, config.equalized) if config.code_size else None

    def outputs(self, features: Tensor) -> DiscriminatorOutput:
        """Computes the heads. The score of an auto-encoder is 0 here: its error is not known yet."""
        inputs = features
        if self.discrimination is not None:
            inputs = torch.cat([features, self.discrimination(features)], dim=1)
        out = features.new_zeros(len(features), 0) if self.dense1 is None else self.dense1(inputs)
        score = out[:, 0] if self.scores else features.new_zeros(len(features))
        logits = out[:, self.scores :] if out.shape[1] > self.scores else None
        return DiscriminatorOutput(score, features, logits, None if self.codes is None else self.codes(features))


class ScoreHead(OutputHead):
    """The progressive head: minibatch stddev, 3x3 convolution, dense layers, from features (N, width, 4, 4)."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.group, self.leak, equalized = config.stddev_group, config.leak, config.equalized
        self.has_statistic = config.diversity == "stddev" and self.group > 1
        self.statistic = minibatch_stddev if config.stddev_form == "official" else consecutive_stddev
        width, hidden = config.fmaps(1), config.hidden_size if config.decodes else config.fmaps(0)
        self.conv = EqualizedConv2d(width + self.has_statistic, width, 3, equalized=equalized)
        self.norm = discriminator_norm(config, width)
        self.linear = config.decodes
        self.dense0 = EqualizedLinear(width * 16, hidden, 1.0 if config.decodes else GAIN, equalized)
        self.make_output_layers(hidden, config)

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        if self.has_statistic:
            x = self.statistic(x, self.group)
        x = at_least_float32(leaky_relu(self.norm(self.conv(x)), self.leak))
        features = self.dense0(x.flatten(1))
        return self.outputs(features if self.linear else leaky_relu(features, self.leak))


class FlatHead(OutputHead):
    """The baselines' head, from features (N, inputs); the minibatch statistic is one more feature."""

    def __init__(self, inputs: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.group = config.stddev_group if config.diversity == "stddev" else 1
        inputs += self.group > 1
        self.hidden = EqualizedLinear(inputs, config.hidden_size, 1.0, config.equalized) if config.decodes else None
        self.make_output_layers(config.hidden_size if config.decodes else inputs, config)

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        x = at_least_float32(x)
        if self.group > 1:
            x = minibatch_stddev(x[:, :, None, None], self.group).flatten(1)
        return self.outputs(x if self.hidden is None else self.hidden(x))
