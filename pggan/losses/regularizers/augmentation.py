"""Augmentation of D's images, for small data sets: DiffAugment, or ADA with its adaptive augmentation probability p.

Reals and fakes are augmented alike; G learns through the augmentation. The gradient penalty's mixed images interpolate
augmented ones, so that it differentiates D alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.config.resolution import PerResolution
from pggan.losses.augment.ada import NORMALS, UNIFORMS, ada
from pggan.losses.augment.diffaugment import UNIFORMS as DIFF_UNIFORMS
from pggan.losses.augment.diffaugment import diffaugment
from pggan.losses.augment.geometry import lowpass
from pggan.losses.base import NOTHING, Batch, DiscriminatorPass, LossTerms, Regularizer, current_value
from pggan.networks.discriminator import Discriminator
from pggan.networks.generator import Generator
from pggan.networks.layers import at_least_float32

# Images between two updates of p (Karras et al. 2020: four minibatches of 64).
INTERVAL = 256


class Augmentation(Regularizer):
    """DiffAugment (`augment="diffaugment"`) or ADA (`augment="ada"`) of all images that D sees.

    `augment_p` fixes ADA's probability p, or has it change linearly over the run. At 0 p is adaptive: it
    starts at 0, rises where the overfitting r of D exceeds `ada_target` and falls where r is below, by 1 in
    `ada_kimg` thousand images.

    With held-out images `r = (E D(train) - E D(held out)) / (E D(train) - E D(G(z)))`: 0 if D has memorised nothing, 1
    if it takes held-out images for generated ones (Karras et al. 2020, equation 1, r_v). Without them `r = E
    sign(D(train) - m)`, m being the middle between the mean scores of reals and fakes (their r_t has m = 0; a critic's
    scores have no such origin).
    """

    p: Tensor
    overfitting: Tensor
    middle: Tensor
    sums: Tensor
    filter: Tensor

    def __init__(self, augment: str, augment_p: float | PerResolution, ada_target: float, ada_kimg: float) -> None:
        super().__init__()
        self.adaptive = augment == "ada"
        self.given, self.total = PerResolution.of(augment_p), 1
        self.tuned = self.adaptive and self.given == PerResolution(0.0)
        self.target, self.p_per_image = ada_target, 1 / (ada_kimg * 1000)
        if not self.adaptive:
            return
        for name, value in (("p", self.given.at(0)), ("overfitting", 0.0), ("middle", 0.0)):
            self.register_buffer(name, torch.tensor(value))
        # since the last update: images, and sums over them of the scores of reals, fakes, held-out reals, and of signs
        self.register_buffer("sums", torch.zeros(5))
        self.register_buffer("filter", lowpass(), persistent=False)

    def attach(self, generator: Generator, discriminator: Discriminator, total: int) -> None:
        self.total = total

    def strength(self, nimg: Tensor) -> Tensor:
        """Returns ADA's p after `nimg` images, 0-d."""
        if self.tuned:
            return self.p
        if self.given.end is None:  # not the buffer, in which a checkpoint has the value of before a change
            return torch.full_like(self.p, self.given.at(0))
        return torch.as_tensor(current_value(self.given, 0, nimg, self.total, self.p.dtype))

    def noise(self, count: int, resolution: int, channels: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        names = ("augment_real", "augment_fake")
        if not self.adaptive:
            return dict.fromkeys(names, ("uniform", (len(DIFF_UNIFORMS),)))
        uniforms = dict.fromkeys(names, ("uniform", (len(UNIFORMS),)))
        return {**uniforms, **{f"{name}_normal": ("normal", (len(NORMALS),)) for name in names}}

    def augment(self, images: Tensor, batch: Batch, real: bool) -> Tensor:
        """Augments images, in float32 or better."""
        x, name = at_least_float32(images), "augment_real" if real else "augment_fake"
        uniform = batch.noise[name]
        if not self.adaptive:
            return diffaugment(x, uniform)
        return ada(x, self.strength(batch.nimg), uniform, batch.noise[name + "_normal"], self.filter.to(x.dtype))

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        if not self.adaptive:
            return NOTHING
        stats = {"augment_p": self.strength(step.batch.nimg).clone()}
        if self.tuned:
            stats["overfitting"] = self.overfitting.clone()
            stats["real_signs"] = (step.real.score - self.middle).sign().mean()
        return LossTerms({}, stats)

    @torch.no_grad()
    def after_d_step(self, terms: dict[str, Tensor], discriminator: Discriminator) -> None:
        """Sums up the scores and updates p every `INTERVAL` images. `terms["images"]`: images of this step."""
        if not self.tuned:
            return
        real, fake = terms["score_real"], terms["score_fake"]
        held = terms.get("score_held_out", real)
        images = terms["images"].to(self.sums)
        self.sums += torch.stack([torch.ones_like(real), real, fake, held, terms["real_signs"]]).to(self.sums) * images
        due = self.sums[0] >= INTERVAL
        count = self.sums[0].clamp(min=1)
        real, fake, held, signs = (self.sums[1:] / count).unbind()
        gap = real - fake
        if "score_held_out" in terms:
            # reals that do not score above fakes say nothing: no overfitting
            r = torch.where(gap > 0, (real - held) / gap.clamp(min=1e-12), 0).clamp(-2, 2)
        else:
            r = signs
        moved = (self.p + (r - self.target).sign() * count * self.p_per_image).clamp(0, 1)
        self.p.copy_(torch.where(due, moved, self.p))
        self.overfitting.copy_(torch.where(due, r, self.overfitting))
        self.middle.copy_(torch.where(due, (real + fake) / 2, self.middle))
        self.sums.mul_((~due).to(self.sums.dtype))
