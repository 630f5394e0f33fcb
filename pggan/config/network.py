"""Configurations of the generator and the discriminator: frozen, validated, torch-free."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeVar

from pggan.config.content.channels import LISTED
from pggan.config.option import Group, check_ranges, option
from pggan.config.resolution import level_of
from pggan.utils.errors import UsageError

ARCHS = ("pggan", "fc", "dcgan")
G_NORMS = ("pixel", "virtual-batch", "none")
RESAMPLES = ("nearest", "bilinear")
GAINS = ("published", "he")
D_NORMS = ("none", "layer", "instance", "weight")
DIVERSITIES = ("stddev", "discrimination", "none")
# Resolutions of the baseline networks, fc and dcgan.
BASELINE_RESOLUTIONS = (8, 64)

T = TypeVar("T")


def require(condition: bool, message: str) -> None:
    """Raises `UsageError` with the message unless the condition holds."""
    if not condition:
        raise UsageError(message)


def setting(default: T, help: str, low: float = -math.inf, high: float = math.inf, **details: Any) -> T:
    """Declares a field of a network configuration. See `option` for the arguments."""
    return option(Group.NETWORKS, default, help, low, high, on_command_line=False, **details)


@dataclass(frozen=True)
class NetworkConfig:
    """What the generator and the discriminator have in common (Karras et al. 2018, appendix A).

    Stage s has `min(fmap_base / 2**(s * fmap_decay), fmap_max)` feature maps, unless `widths` lists them.
    The baseline architectures use `fmaps(0)` for their widest layer and ignore `fused_scale`, `resample`,
    `stddev_form` and `dense_bias`.
    """

    # fmt: off
    resolution: int = setting(1024, "Side of the largest images, a power of two.")
    channels: int = setting(3, f"Channels of an image: {LISTED}.", 1, 64)
    label_size: int = setting(0, "Length of the label vector: one-hot classes, and numbers; 0: none.", 0, 100_000)
    fmap_base: int = setting(8192, "Feature maps: stage s has min(base / 2^s, max).", 1, 1 << 20)
    fmap_max: int = setting(512, "Most feature maps of a layer.", 1, 8192)
    fmap_decay: float = setting(1.0, "Halvings of the feature maps from a stage to the next.", 0, 4)
    widths: tuple[int, ...] = setting((), "Feature maps from stage 0 on, instead; unlisted stages halve the last one.")
    fused_scale: bool = setting(True,
        "Compute upscale + convolution and convolution + downscale as one strided 4x4 convolution. In the "
        "discriminator, bias and activation then follow the average instead of preceding it.")
    resample: str = setting("nearest",
        "How features change their size: nearest (repeated, averaged over 2x2) or bilinear (a [1 2 1] filter follows "
        "each upscale and precedes each downscale, as in StyleGAN).", choices=RESAMPLES, label="resampling")
    equalized: bool = setting(True, "Equalized learning rate: weights drawn from N(0, 1), scaled at run time.")
    leak: float = setting(0.2, "Slope of the leaky ReLU below 0; 0: ReLU.", 0, 1)
    arch: str = setting("pggan",
        "Architecture: pggan grows; fc (three fully connected layers) and dcgan (four layers, three of them strided "
        "4x4 convolutions) are baselines of one resolution, 8x8 to 64x64.", choices=ARCHS, label="architecture")
    categorical: tuple[int, ...] = setting((), "InfoGAN: number of values of each categorical code, e.g. 10 or 10,4.")
    continuous: int = setting(0, "InfoGAN: number of continuous codes in -1 to 1.", 0, 1000)
    # fmt: on

    def __post_init__(self) -> None:
        for name in ("widths", "categorical"):  # JSON has lists, no tuples
            object.__setattr__(self, name, tuple(getattr(self, name)))
        level_of(self.resolution)
        check_ranges(self)
        for width in self.widths:
            require(isinstance(width, int) and 1 <= width <= 8192, f"a width of {width} is not from 1 to 8192")
        for count in self.categorical:
            fits = isinstance(count, int) and 2 <= count <= 1000
            require(fits, f"a categorical code of {count} values is not from 2 to 1000")
        require(self.code_size <= 8192, f"codes of {self.code_size} numbers in all are more than 8192")
        self._check_arch()

    def _check_arch(self) -> None:
        if self.arch != "pggan":
            low, high = BASELINE_RESOLUTIONS
            require(
                low <= self.resolution <= high,
                f"the baseline architecture {self.arch} makes pictures of {low}x{low} to {high}x{high}, "
                f"not {self.resolution}x{self.resolution}",
            )
            return
        last = self.max_level - 1
        enough = math.ceil(2 ** (last * self.fmap_decay))
        require(
            self.fmaps(last) >= 1,
            f"fmap base {self.fmap_base} leaves no map at {self.resolution}x{self.resolution}; give {enough} or more",
        )

    @property
    def max_level(self) -> int:
        """log2 of the resolution."""
        return level_of(self.resolution)

    @property
    def min_level(self) -> int:
        """Lowest level; a baseline has one level only."""
        return 2 if self.arch == "pggan" else self.max_level

    @property
    def code_size(self) -> int:
        """Length of the codes as the generator's input: categorical ones one-hot, then the continuous ones."""
        return sum(self.categorical) + self.continuous

    @property
    def baseline_widths(self) -> tuple[int, int, int]:
        """Feature maps of a dcgan baseline at an eighth, a quarter and half of its resolution."""
        widest = self.fmaps(0)
        return widest, max(1, widest // 2), max(1, widest // 4)

    def fmaps(self, stage: int) -> int:
        """Returns the feature maps of a stage; the block of level l (resolution 2**l) has `fmaps(l - 1)`."""
        if self.widths:
            last = len(self.widths) - 1
            return self.widths[stage] if stage <= last else max(1, self.widths[last] >> (stage - last))
        return min(int(self.fmap_base / 2.0 ** (stage * self.fmap_decay)), self.fmap_max)


@dataclass(frozen=True)
class GeneratorConfig(NetworkConfig):
    """The generator: from a latent, the label and the structured codes to an image."""

    # fmt: off
    latent_size: int = setting(512, "Dimensions of the latent.", 1, 8192)
    pixelnorm_epsilon: float = setting(1e-8,
        "Epsilon of pixelwise normalisation; 1e-4 at least in half precision (reference release).", 0, above_low=True)
    norm: str = setting("pixel",
        "Normalisation in the generator: pixel, after every activation; virtual-batch, before it, with the statistics "
        "of fixed latents and the sample itself (Salimans et al. 2016); or none.",
        choices=G_NORMS, label="generator normalisation")
    normalize_latents: bool = setting(True, "Normalise noise and labels together before the first layer; codes stay.")
    dense_bias: str = setting("map", "Bias of the first layer: one per map, or one per output (pytorch_GAN_zoo).",
        choices=("map", "output"))
    output: str = setting("linear", "Activation of the image.", choices=("linear", "tanh"))
    mapping_layers: int = setting(0,
        "Fully connected layers between the latent and the first layer, which learn at a hundredth of the rate "
        "(StyleGAN's mapping network); 0: none.", 0, 16, label="mapping layers")
    gains: str = setting("published",
        "Gains of the generator's weights: published (sqrt(2), but sqrt(2)/4 in the first layer and 1 in toRGB), or "
        "he: sqrt(2) in all of them, as in pytorch_GAN_zoo.", choices=GAINS, label="gains")
    reference_size: int = setting(16, "Fixed latents of virtual batch normalisation.", 2, 1024,
        label="a reference batch of")
    # fmt: on

    @property
    def inputs(self) -> int:
        """Inputs of the network: noise, labels, codes."""
        return self.latent_size + self.label_size + self.code_size

    @property
    def first_inputs(self) -> int:
        """Inputs of the first layer behind the mapping network, if there is one."""
        return self.latent_size if self.mapping_layers else self.inputs

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.mapping_layers or (self.arch == "pggan" and self.equalized),
            "the mapping network belongs to the growing architecture with the equalized learning rate; leave it out",
        )


@dataclass(frozen=True)
class DiscriminatorConfig(NetworkConfig):
    """The discriminator: from an image to a score, class logits and structured codes.

    It has no batch normalisation: the gradient of a sample's score, which penalties use, would depend on the other
    samples.
    """

    # fmt: off
    stddev_group: int = setting(4, "Largest group of the minibatch stddev statistic; 1: none.", 1, 1024,
        label="minibatch-stddev group")
    stddev_form: str = setting("official", "Minibatch stddev as in the reference release, or as in pytorch_GAN_zoo.",
        choices=("official", "zoo"), label="minibatch-stddev form")
    fades_at_8: bool = setting(True,
        "Whether 8x8 images fade in from 4x4. False: they are read at 8x8 only, whatever alpha (pytorch_GAN_zoo).")
    norm: str = setting("none",
        "Normalisation of the discriminator's hidden layers, before the activation (weight: of every layer).",
        choices=D_NORMS, label="discriminator normalisation")
    diversity: str = setting("stddev",
        "How the discriminator compares the samples of a minibatch: minibatch stddev, minibatch discrimination "
        "(Salimans et al. 2016), or not at all.", choices=DIVERSITIES)
    discrimination_kernels: int = setting(100, "Kernels B of --diversity discrimination.", 1, 4096)
    discrimination_dim: int = setting(5, "Dimensions C of each of these kernels.", 1, 1024)
    discrimination_group: int = setting(16,
        "Most samples that it compares with each other; as published: the whole minibatch.", 2, 1024)
    decodes: bool = setting(False, "An auto-encoder (BEGAN): its score is the error of the reconstructed image.")
    hidden_size: int = setting(64, "Numbers to which the auto-encoder encodes an image.", 1, 8192)
    # fmt: on

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm == "instance":
            require(
                self.arch != "fc",
                "instance normalisation works over height and width, which fully connected layers do not have; "
                "give the normalisation layer, weight or none",
            )
            require(
                self.arch != "dcgan" or self.resolution >= 16,
                "instance normalisation leaves nothing of the 1x1 maps that a dcgan discriminator of 8x8 pictures ends "
                "in; give 16x16 or more, or the normalisation layer, weight or none",
            )
        require(
            not (self.decodes and self.diversity == "discrimination"),
            "minibatch discrimination feeds the layer of the score, which an auto-encoder does not have; "
            "give the diversity stddev or none",
        )

    @property
    def minibatch_group(self) -> int:
        """Largest group of samples whose outputs depend on each other; 1: all are independent."""
        return {"stddev": self.stddev_group, "discrimination": self.discrimination_group, "none": 1}[self.diversity]

    @property
    def code_outputs(self) -> int:
        """Outputs of the code head: logits of categorical codes, means, then log-variances of continuous ones."""
        return sum(self.categorical) + 2 * self.continuous

    @property
    def decoder(self) -> GeneratorConfig:
        """Configuration of the auto-encoder's second half: a generator from the hidden numbers to an image."""
        shared = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(NetworkConfig)}
        shared |= {"label_size": 0, "categorical": (), "continuous": 0}
        return GeneratorConfig(**shared, latent_size=self.hidden_size, norm="none", normalize_latents=False)
