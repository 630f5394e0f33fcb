"""Configurations of the two networks: frozen, validated, torch-free. Imported from config.py, which gives them on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pggan.config.resolution import level_of
from pggan.utils.errors import UsageError

ARCHS = ("pggan", "fc", "dcgan")
G_NORMS = ("pixel", "virtual-batch", "none")
D_NORMS = ("none", "layer", "instance", "weight")
DIVERSITIES = ("stddev", "discrimination", "none")
OUTPUTS = ("linear", "tanh")
DENSE_BIASES = ("map", "output")
STDDEV_FORMS = ("official", "zoo")
# Pictures that the baseline networks are for.
BASELINE_RESOLUTIONS = (8, 64)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


def _choice(what: str, value: str, among: tuple[str, ...]) -> None:
    require(value in among, f"{what} {value!r} is none of {', '.join(among)}")


@dataclass(frozen=True)
class NetworkConfig:
    """What the generator and the discriminator have in common (Karras et al. 2018, appendix A).

    `fmap_base`, `fmap_max`, `fmap_decay`: stage s has `min(fmap_base / 2**(s * fmap_decay), fmap_max)` feature maps;
    `widths` lists them instead, from stage 0 (what is not listed halves the last one).
    `fused_scale`: upscale + convolution (convolution + downscale) as one strided 4x4 convolution; in the
    discriminator it also puts bias and activation after the average instead of before it.
    `equalized`: weights drawn from N(0, 1) and scaled at run time. `leak`: slope of the activation below 0; 0 is ReLU.
    `arch`: "pggan", or a baseline of one resolution, 8 to 64: "fc" (three fully connected layers) or "dcgan" (four
    layers, three of them strided 4x4 convolutions). A baseline's widest layer is `fmaps(0)`; it knows no
    `fused_scale`, `stddev_form`, `dense_bias`.
    `categorical`, `continuous`: structured codes (InfoGAN), the number of values of each categorical one and how many
    continuous ones. The generator reads them after the noise, the discriminator has a head that tells them.
    """

    resolution: int = 1024
    channels: int = 3
    label_size: int = 0
    fmap_base: int = 8192
    fmap_max: int = 512
    fmap_decay: float = 1.0
    widths: tuple[int, ...] = ()
    fused_scale: bool = True
    equalized: bool = True
    leak: float = 0.2
    arch: str = "pggan"
    categorical: tuple[int, ...] = ()
    continuous: int = 0

    def __post_init__(self) -> None:
        for name in ("widths", "categorical"):  # JSON knows no tuples
            object.__setattr__(self, name, tuple(getattr(self, name)))
        level_of(self.resolution)
        require(1 <= self.channels <= 64, f"channels {self.channels} is not from 1 to 64")
        require(0 <= self.label_size <= 100_000, f"label size {self.label_size} is not from 0 to 100000")
        require(1 <= self.fmap_base <= 1 << 20, f"fmap base {self.fmap_base} is not from 1 to {1 << 20}")
        require(1 <= self.fmap_max <= 8192, f"fmap max {self.fmap_max} is not from 1 to 8192")
        require(0 <= self.fmap_decay <= 4, f"fmap decay {self.fmap_decay} is not from 0 to 4")
        for width in self.widths:
            require(isinstance(width, int) and 1 <= width <= 8192, f"a width of {width} is not from 1 to 8192")
        require(0 <= self.leak <= 1, f"leak {self.leak} is not from 0 (ReLU) to 1")
        self._check_arch()
        self._check_codes()

    def _check_arch(self) -> None:
        _choice("architecture", self.arch, ARCHS)
        if self.arch != "pggan":
            low, high = BASELINE_RESOLUTIONS
            require(
                low <= self.resolution <= high,
                f"the baseline architecture {self.arch} makes pictures of {low}x{low} to {high}x{high}, "
                f"not {self.resolution}x{self.resolution}",
            )
            return
        last = self.max_level - 1
        need = math.ceil(2 ** (last * self.fmap_decay))
        require(
            self.fmaps(last) >= 1,
            f"fmap base {self.fmap_base} leaves no map at {self.resolution}x{self.resolution}; give {need} or more",
        )

    def _check_codes(self) -> None:
        for values in self.categorical:
            ok = isinstance(values, int) and 2 <= values <= 1000
            require(ok, f"a categorical code of {values} values is not from 2 to 1000")
        require(0 <= self.continuous <= 1000, f"{self.continuous} continuous codes are not from 0 to 1000")
        require(self.code_size <= 8192, f"codes of {self.code_size} numbers in all are more than 8192")

    @property
    def max_level(self) -> int:
        return level_of(self.resolution)

    @property
    def min_level(self) -> int:
        """The lowest level there is: a baseline has one level only."""
        return 2 if self.arch == "pggan" else self.max_level

    @property
    def code_size(self) -> int:
        """Numbers of all codes as the generator takes them: categorical ones one-hot, then the continuous ones."""
        return sum(self.categorical) + self.continuous

    @property
    def baseline_widths(self) -> tuple[int, int, int]:
        """Maps of a convolutional baseline at an eighth, a quarter and half of its resolution."""
        widest = self.fmaps(0)
        return widest, max(1, widest // 2), max(1, widest // 4)

    def fmaps(self, stage: int) -> int:
        """Feature maps at a stage; the block of level l (resolution 2**l) has `fmaps(l - 1)`."""
        if self.widths:
            last = len(self.widths) - 1
            return self.widths[stage] if stage <= last else max(1, self.widths[last] >> (stage - last))
        return min(int(self.fmap_base / 2.0 ** (stage * self.fmap_decay)), self.fmap_max)


@dataclass(frozen=True)
class GeneratorConfig(NetworkConfig):
    """The generator. `pixelnorm_epsilon` is 1e-4 at least wherever half precision computes (reference release).

    `norm`: "pixel" after every activation; "virtual-batch" before it, by the statistics of `reference_size` fixed
    latents and of the sample itself (Salimans et al. 2016); "none". `normalize_latents`: noise and labels together,
    first of all; codes stay as they are. `dense_bias`: of the first layer, one a map or one an output
    (pytorch_GAN_zoo). `output`: activation of the picture, none by default.
    """

    latent_size: int = 512
    pixelnorm_epsilon: float = 1e-8
    norm: str = "pixel"
    normalize_latents: bool = True
    dense_bias: str = "map"
    output: str = "linear"
    reference_size: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.latent_size <= 8192, f"latent size {self.latent_size} is not from 1 to 8192")
        require(self.pixelnorm_epsilon > 0, f"pixelnorm epsilon {self.pixelnorm_epsilon} is not above 0")
        _choice("generator normalisation", self.norm, G_NORMS)
        _choice("dense bias", self.dense_bias, DENSE_BIASES)
        _choice("output", self.output, OUTPUTS)
        size = self.reference_size
        require(2 <= size <= 1024, f"a reference batch of {size} latents is not from 2 to 1024")

    @property
    def inputs(self) -> int:
        """Numbers that the first layer reads: noise, labels, codes."""
        return self.latent_size + self.label_size + self.code_size


@dataclass(frozen=True)
class DiscriminatorConfig(NetworkConfig):
    """The discriminator. `stddev_group`: largest group of the minibatch statistic; 1 leaves the statistic out.

    `stddev_form`: as in the reference release, or as in pytorch_GAN_zoo (`layers.consecutive_stddev`). `fades_at_8`
    False: 8x8 pictures are read at 8x8 only, whatever alpha (a quirk of pytorch_GAN_zoo).
    `norm`: of the hidden convolutions (a baseline's hidden layers), before their activation: "layer", "instance" or
    "weight" (of every layer). There is no batch normalisation: with it the gradient of a sample's score, which
    penalties ask for, would depend on the other samples.
    `diversity`: how samples of a minibatch see each other: "stddev"; "discrimination" (Salimans et al. 2016):
    `discrimination_kernels` (B) sums of similarities in `discrimination_dim` (C) dimensions, within groups of at most
    `discrimination_group`; "none".
    `decodes`: an auto-encoder (BEGAN): pictures to `hidden_size` numbers, and those to pictures of the same level.
    """

    stddev_group: int = 4
    stddev_form: str = "official"
    fades_at_8: bool = True
    norm: str = "none"
    diversity: str = "stddev"
    discrimination_kernels: int = 100
    discrimination_dim: int = 5
    discrimination_group: int = 16
    decodes: bool = False
    hidden_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.stddev_group <= 1024, f"minibatch-stddev group {self.stddev_group} is not from 1 to 1024")
        _choice("minibatch-stddev form", self.stddev_form, STDDEV_FORMS)
        _choice("discriminator normalisation", self.norm, D_NORMS)
        _choice("diversity", self.diversity, DIVERSITIES)
        for what, number, low, high in (
            ("discrimination kernels", self.discrimination_kernels, 1, 4096),
            ("discrimination dim", self.discrimination_dim, 1, 1024),
            ("discrimination group", self.discrimination_group, 2, 1024),
            ("hidden size", self.hidden_size, 1, 8192),
        ):
            require(low <= number <= high, f"{what} {number} is not from {low} to {high}")
        self._check_combinations()

    def _check_combinations(self) -> None:
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
        """Largest group of samples whose outputs depend on each other; 1: none do."""
        groups = {"stddev": self.stddev_group, "discrimination": self.discrimination_group, "none": 1}
        return groups[self.diversity]

    @property
    def code_outputs(self) -> int:
        """Numbers that tell the codes: logits of categorical ones, means, then log-variances of continuous ones."""
        return sum(self.categorical) + 2 * self.continuous

    @property
    def decoder(self) -> GeneratorConfig:
        """The second half of an auto-encoder: the generator's structure, from the hidden numbers."""
        return GeneratorConfig(
            resolution=self.resolution,
            channels=self.channels,
            fmap_base=self.fmap_base,
            fmap_max=self.fmap_max,
            fmap_decay=self.fmap_decay,
            widths=self.widths,
            fused_scale=self.fused_scale,
            equalized=self.equalized,
            leak=self.leak,
            arch=self.arch,
            latent_size=self.hidden_size,
            norm="none",
            normalize_latents=False,
        )
