"""Detects divergence, once a tick: non-finite gradients, drifting scores, mode collapse.

A run that has diverged rolls back to its last good checkpoint, with lower learning rates (`monitor/recovery.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pggan.config.schedule import ScheduleState
from pggan.networks.latents import CodeSpace
from pggan.training.engine.loss_functions import blurred, real_images
from pggan.training.engine.state import TrainState

# A tick is faulty where this share of its steps, and at least this many, had gradients that are not finite.
FAULTY_SHARE, FAULTY_STEPS = 0.5, 8
# Largest absolute mean score of D: with the drift term, a healthy critic's scores stay within some hundreds.
SCORE_LIMIT = 1e4
# Diversity of generated images relative to real ones: mode collapse is diversity below COLLAPSED after it has once
# been above VARIED (an untrained generator, too, makes the same grey image from every latent).
COLLAPSED, VARIED = 0.04, 0.2
# Images that diversity is measured on, and the largest side (pixels) at which they are compared.
IMAGES, SIDE = 32, 32


def diversity(images: Tensor) -> Tensor:
    """How far images (N, C, R, R) differ from each other: the standard deviation over N, averaged over pixels; 0-d."""
    return _small(images).float().std(dim=0, unbiased=False).mean()


def _small(images: Tensor) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(images, SIDE) if images.shape[-1] > SIDE else images


def _as_seen(reals: Tensor, alpha: Tensor, scheduled: ScheduleState) -> Tensor:
    """Returns what D sees of real images (N, C, R, R), uint8."""
    images = real_images(reals, alpha)
    return images if scheduled.detail is None else blurred(images, scheduled.detail, scheduled.detail_alpha)


@torch.no_grad()
def relative_diversity(state: TrainState, scheduled: ScheduleState, reals: Tensor, labels: Tensor, size: int) -> float:
    """Returns the diversity of generated images over that of real ones, at the run's level and alpha.

    Args:
        state: has the generator.
        scheduled: where in the schedule the run is.
        reals: real images, uint8 (N, C, R, R); as many are generated.
        labels: label vectors (N, label_size) to generate with, as training draws them.
        size: images at once, as in the training step.
    """
    alpha = torch.tensor(scheduled.alpha, device=state.device)
    count = min(IMAGES, len(reals))
    if count < 2:
        return 1.0
    g = state.generator.config
    latents = torch.randn(count, g.latent_size, generator=torch.Generator().manual_seed(0))
    if g.code_size:
        codes = CodeSpace(g.categorical, g.continuous).of_seeds(range(count))
        latents = torch.cat([latents, torch.from_numpy(codes)], dim=1)
    dtype, latents = state.context.dtype, latents.to(state.device)
    cuts = [slice(at, min(at + size, count)) for at in range(0, count, size)]
    fakes = [_small(state.generator(latents[cut], scheduled.level, alpha, labels[cut], dtype)) for cut in cuts]
    real = [_small(_as_seen(reals[cut].to(state.device), alpha, scheduled)) for cut in cuts]
    return float(diversity(torch.cat(fakes)) / diversity(torch.cat(real)).clamp(min=1e-6))


def diagnosis(state: TrainState, line: Mapping[str, Any], steps: int, faults: int) -> str | None:
    """Diagnoses divergence, and records the highest diversity so far in the state's progress.

    Args:
        state: has the progress.
        line: the tick's values.
        steps: of G and D in the tick.
        faults: steps among them whose losses or gradients were not finite.

    Returns:
        How the run has diverged, in words; None where it is healthy.
    """
    if faults >= FAULTY_STEPS and faults >= FAULTY_SHARE * steps:
        return f"{faults} of {steps} steps had losses or gradients that are not finite"
    scores = [line[name] for name in ("score_real", "score_fake") if line.get(name) is not None]
    for score in scores:
        if math.isfinite(score) and abs(score) > SCORE_LIMIT:
            return f"the discriminator's scores have drifted to {score:.3g} (limit {SCORE_LIMIT:g})"
    ratio = line.get("diversity")
    if ratio is not None:
        best = max(state.progress.best_diversity, ratio)
        state.progress.best_diversity = best
        if best > VARIED and ratio < COLLAPSED:
            return f"the generator's pictures vary {ratio:.3f} as much as real ones (they did {best:.2f}): it collapsed"
    return None
