"""Every loss with every diversity, every technique, every precision: parametrised over the tables, so that a new entry
is tried by itself."""

from __future__ import annotations

import math

import pytest
import torch

from pggan.config.losses import OBJECTIVES
from pggan.config.network import ARCHS, D_NORMS, DIVERSITIES, G_NORMS
from pggan.config.train import GROWTHS, PerResolution
from pggan.training.engine.step import compute_gradients
from pggan.training.engine.step_modes import StepMode
from pggan.utils.errors import UsageError
from tests.helpers.loss_settings import EVERYTHING, LOSSES, SETTINGS, SWITCHES, labels_of, switched_on
from tests.helpers.step_modes import recorder
from tests.helpers.train_steps import CLASSES, Player, loaded, tiny


def check(config, iterations=2, precision="fp32"):
    player = Player(config, precision)
    before = {name: tensor.clone() for name, tensor in player.state.tensors().items()}
    seen = player.play(iterations)
    assert all(math.isfinite(value) for value in seen.values()), seen
    after = player.state.tensors()
    assert all(bool(tensor.isfinite().all()) for tensor in after.values())
    for part in ("generator", "discriminator"):
        changed = [n for n in before if n.startswith(part + ".") and not torch.equal(before[n], after[n])]
        assert changed, f"the {part} does not learn"
    return player, seen


@pytest.mark.long
@pytest.mark.parametrize("diversity", DIVERSITIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_with_every_diversity(loss, diversity):
    if "reconstruction" in OBJECTIVES[loss].needs and diversity == "discrimination":
        with pytest.raises(UsageError, match="auto-encoder"):
            tiny(loss=loss, diversity=diversity)
        return
    _, seen = check(tiny(loss=loss, diversity=diversity, start_res=4))
    assert {"score_real", "score_fake", "d_loss", "g_loss"} <= seen.keys()


@pytest.mark.long
@pytest.mark.parametrize("spec", SWITCHES, ids=lambda spec: spec.name)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_with_every_technique(loss, spec):
    """Mid-fade at 8x8."""
    labels = labels_of(spec)
    options = {"loss": loss, "loss_options": (switched_on(spec),), "start_res": 8, "max_res": 8}
    if "probability" in spec.needs and not OBJECTIVES[loss].probability:
        with pytest.raises(UsageError, match=f"--loss {loss}"):
            tiny(**options, **labels)
        return
    player, _ = check(tiny(**options, **labels))
    assert spec.name in player.config.regularizers()


@pytest.mark.long
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("what", [{"labels": "kind", "label_size": CLASSES}, {"categorical": (3,), "continuous": 2}])
def test_every_loss_trains_with_labels_and_codes(loss, what):
    _, seen = check(tiny(loss=loss, **what))
    assert "class_real" in seen or "mutual_information" in seen


@pytest.mark.long
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_loss_trains_in_mixed_precision(loss, precision):
    player = Player(tiny(loss=loss, start_res=8, max_res=8), precision)
    if precision == "fp16":
        player.state.d_scaler.log2.fill_(4.0)  # the search for it takes some fifty steps
        player.state.g_scaler.log2.fill_(4.0)
    seen = player.play(2)
    assert all(math.isfinite(value) for value in seen.values()), seen
    floats = [t for name, t in player.state.tensors().items() if t.is_floating_point() and not name.startswith("obj")]
    assert {t.dtype for t in floats} == {torch.float32}


@pytest.mark.parametrize("spec", [spec for spec in SWITCHES if "labels" not in spec.needs], ids=lambda spec: spec.name)
def test_every_technique_trains_in_mixed_precision(spec):
    check(tiny(loss_options=(switched_on(spec),), start_res=8, max_res=8), precision="bf16")


@pytest.mark.parametrize(
    "fields",
    [
        *({"g_norm": norm} for norm in G_NORMS),
        *({"d_norm": norm} for norm in D_NORMS),
        *({"growth": growth, "max_res": 8} for growth in GROWTHS),
        *({"arch_g": arch, "growth": "none"} for arch in ARCHS),
        *({"arch_d": arch, "growth": "data"} for arch in ARCHS),
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_every_norm_growth_and_architecture_trains(fields):
    check(tiny(**{"start_res": 4, **fields}))


@pytest.mark.long
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_through_all_phases(loss):
    """4x4 to 16x16, both fades."""
    config = tiny(loss=loss, n_critic=1, stable_kimg=PerResolution(0.004), fade_kimg=PerResolution(0.008))
    player, seen = check(config, 8)
    assert player.schedule.at(player.state.nimg).resolution == 16
    assert math.isfinite(seen["d_loss"])


def both_gradients(config, level=3, mode=StepMode.EAGER, **executor):
    """Gradients of D and G, and the losses, in the middle of a fade."""
    torch.manual_seed(0)
    said = []
    player = Player(config, "fp32", {level: mode}, said.append, **executor)
    # past the start, so that means of past weights are not the weights
    player.play(1)
    found = {}
    batch = player.builder.d_batch(loaded(config, 2**level), 96, torch.tensor(0.4))
    for name in "dg":
        if name == "g":
            batch = player.builder.g_batch(batch, 100)
        gradients, losses, _ = compute_gradients(player.executor, player.inputs(name, batch, level, 0.4))
        found |= {f"{name}.{key}": value.clone() for key, value in {**gradients, **losses}.items() if value is not None}
    assert player.executor.modes == {level: mode}, said
    return found


def same_gradients(expected, found):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 2e-5 * max(1.0, float(value.abs().max())), name


@pytest.mark.long
@pytest.mark.parametrize("name", SETTINGS)
def test_every_mode_computes_the_same(name):
    """Written as a function of parameters, as the compiler takes it, and recorded, as a CUDA graph keeps it."""
    config = tiny(**SETTINGS[name], start_res=8, max_res=8)
    expected = both_gradients(config)
    for mode in (StepMode.CAPTURED_EAGER, StepMode.COMPILED, StepMode.CAPTURED):
        same_gradients(expected, both_gradients(config, mode=mode, backend=None, capturer=recorder))


@pytest.mark.slow
def test_the_compiler_takes_everything():
    """Traced whole, without a break; machine code is made of nothing else."""
    config = tiny(**EVERYTHING, max_res=4)
    same_gradients(both_gradients(config, 2), both_gradients(config, 2, StepMode.COMPILED, backend="aot_eager"))
