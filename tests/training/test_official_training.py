"""Three training iterations against the reference release's own (official_C_train)."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from pggan.config.schedule import ScheduleState
from pggan.config.train import TrainConfig
from pggan.losses.base import Batch
from pggan.networks import ema
from pggan.training.engine.state import TrainState
from pggan.training.engine.step import player_step
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import StepMode
from tests.helpers import official_networks
from tests.helpers.step_modes import recorder


class TensorFlowAdam(torch.optim.Adam):
    """Epsilon inside the bias correction: `w -= lr * sqrt(1 - b2^t) * m / (sqrt(v) + eps)`, beta1 0."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            _, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"], state["exp_avg_sq"] = torch.zeros(()), torch.zeros_like(p)
                state["step"] += 1
                state["exp_avg_sq"].lerp_(p.grad.square(), 1 - beta2)
                rate = group["lr"] * (1 - beta2 ** float(state["step"])) ** 0.5
                p -= rate * p.grad / (state["exp_avg_sq"].sqrt() + group["eps"])


def trained(adam, mode=StepMode.EAGER):
    fixture = official_networks.load("C_train")
    g, d, _ = official_networks.networks("C")
    config = TrainConfig(
        max_res=16, channels=1, latent_size=24, fmap_base=128, fmap_max=32, stddev_group=4, device="cpu"
    )
    state = TrainState(config, torch.device("cpu"), "fp32")
    executor = StepExecutor(state, dict.fromkeys((2, 3, 4), mode), backend=None, capturer=recorder)
    state.generator.load_state_dict(g.state_dict())
    state.discriminator.load_state_dict(d.state_dict())
    state.average.load_state_dict(copy.deepcopy(g.state_dict()))
    if adam is not None:
        state.g_optimizer = adam(state.generator.parameters(), lr=0.001, betas=(0.0, 0.99), eps=1e-8)
        state.d_optimizer = adam(state.discriminator.parameters(), lr=0.001, betas=(0.0, 0.99), eps=1e-8)
    level, alpha = official_networks.stage(float(fixture["lod"]), 4)
    state.apply_schedule(ScheduleState(0, 0, level, float(alpha), 8, 0.001, 0.001))
    alpha = alpha.float()
    losses, after = [], {}
    for i in range(3):
        reals, d_latents, g_latents, mixing = (
            torch.from_numpy(fixture[f"in/{key}"][i]) for key in ("reals", "d_latents", "g_latents", "mixing")
        )
        none = torch.zeros(8, 0)
        batch = Batch(reals, none, d_latents, none, mixing, {})
        d_terms = player_step(state, executor, "d", batch, level, alpha)
        ema.update(state.average, state.generator, lambda level: 0.999)
        g_terms = player_step(state, executor, "g", batch._replace(latents=g_latents), level, alpha)
        losses.append((float(d_terms["d_loss"]), float(g_terms["g_loss"])))
        modules = {"G": state.generator, "D": state.discriminator, "Gs": state.average}
        after[i + 1] = {k: copy.deepcopy(m.state_dict()) for k, m in modules.items()}
    assert set(executor.modes.values()) == {mode}  # nothing fell back
    return fixture, losses, after


def share_within(fixture, key, found, discriminator):
    prefix = key + "/"
    variables = {k.removeprefix(prefix): fixture[k] for k in fixture.files if k.startswith(prefix)}
    expected = official_networks.ours(variables, 16, discriminator)
    assert expected.keys() == found.keys()
    near = [(found[k] - v).abs() <= 1e-5 for k, v in expected.items()]
    return float(torch.cat([n.flatten() for n in near]).float().mean())


@pytest.mark.long
@pytest.mark.parametrize(
    "adam,least,mode",
    [
        (None, 0.97, StepMode.EAGER),
        *((TensorFlowAdam, 0.998, mode) for mode in StepMode),
    ],
)
def test_three_iterations(adam, least, mode):
    fixture, losses, after = trained(adam, mode)
    assert np.abs(np.array(losses)[:, 0] - fixture["D_loss_mean"]).max() < 1e-4
    assert np.abs(np.array(losses)[:, 1] - fixture["G_loss_mean"]).max() < 1e-4
    for key in ("after1/G", "after1/D", "after3/G", "after3/D", "after3/Gs"):
        step, name = key.split("/")
        assert share_within(fixture, key, after[int(step[-1])][name], name == "D") >= least, key
