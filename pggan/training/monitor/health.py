"""What tells that a run goes wrong, looked at once a tick: faulty steps, a score that drifts away, a generator whose
pictures have become all the same. The run then goes back to its last good checkpoint with lower learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pggan.config.schedule import ScheduleState
from pggan.networks.latents import CodeSpace
from pggan.training.engine.loss_functions import real_images
from pggan.training.engine.state import TrainState

# A tick of which so many steps, and at least so many, had gradients that were not finite.
FAULTY_SHARE, FAULTY_STEPS = 0.5, 8
# Scores of reals beyond this: with the drift term a healthy critic's stay within some hundreds.
SCORE_LIMIT = 1e4
# Variety of generated pictures, as a share of the reals': below the first a generator has collapsed, which counts
# only once it has been above the second (an untrained one makes grey for every latent, too).
COLLAPSED, VARIED = 0.04, 0.2
# Pictures whose variety is measured, and the largest side they are compared at.
PICTURES, SIDE = 32, 32


def diversity(images: Tensor) -> Tensor:
    """Mean standard deviation of a pixel over pictures (N, C, R, R), 0-d: how much they differ from each other."""
    return _small(images).float().std(dim=0, unbiased=False).mean()


def _small(images: Tensor) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(images, SIDE) if images.shape[-1] > SIDE else images


@torch.no_grad()
def relative_diversity(state: TrainState, moment: ScheduleState, reals: Tensor) -> float:
    """The generator's diversity over that of real pictures, uint8 (N, C, R, R), at the run's level and alpha.

    As many pictures at once as the step computes.
    """
    alpha = torch.tensor(moment.alpha, device=state.device)
    count = min(PICTURES, len(reals))
    if count < 2:
        return 1.0
    g = state.generator.config
    latents = torch.randn(count, g.latent_size, generator=torch.Generator().manual_seed(0))
    if g.code_size:
        codes = CodeSpace(g.categorical, g.continuous).of_seeds(range(count))
        latents = torch.cat([latents, torch.from_numpy(codes)], dim=1)
    labels = torch.zeros(count, g.label_size, device=state.device)
    if g.label_size:
        labels[torch.arange(count), torch.arange(count) % g.label_size] = 1
    dtype, latents = state.setup.dtype, latents.to(state.device)
    each = len(reals) // state.num_micro_batches(moment.level, len(reals))
    cuts = [slice(at, min(at + each, count)) for at in range(0, count, each)]
    fakes = [_small(state.generator(latents[cut], moment.level, alpha, labels[cut], dtype)) for cut in cuts]
    real = [_small(real_images(reals[cut].to(state.device), alpha)) for cut in cuts]
    return float(diversity(torch.cat(fakes)) / diversity(torch.cat(real)).clamp(min=1e-6))


def diagnosis(state: TrainState, line: Mapping[str, Any], steps: int, faults: int) -> str | None:
    """Why the run has gone wrong in a tick of so many steps, in words; None where it is well.

    `line`: the tick's values. Remembers the generator's best variety in the state's counters.
    """
    if faults >= FAULTY_STEPS and faults >= FAULTY_SHARE * steps:
        return f"{faults} of {steps} steps had losses or gradients that are not finite"
    scores = [line[name] for name in ("score_real", "score_fake") if line.get(name) is not None]
    for score in scores:
        if math.isfinite(score) and abs(score) > SCORE_LIMIT:
            return f"the discriminator's scores have drifted to {score:.3g} (limit {SCORE_LIMIT:g})"
    varied = line.get("diversity")
    if varied is not None:
        best = max(float(state.counters["best_diversity"]), varied)
        state.counters["best_diversity"] = best
        if best > VARIED and varied < COLLAPSED:
            return (
                f"the generator's pictures vary {varied:.3f} as much as real ones (they did {best:.2f}): it collapsed"
            )
    return None
