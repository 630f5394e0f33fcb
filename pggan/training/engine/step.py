"""One training step: D step(s), EMA, G step; below it gradients, finite check and optimizer update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pggan.config.schedule import ScheduleState
from pggan.data.loading.loader import LoadedBatch
from pggan.losses.base import Batch, Objective
from pggan.networks import ema
from pggan.training.engine.batch_builder import BatchBuilder
from pggan.training.engine.gradients import Gradients, Values
from pggan.training.engine.loss_functions import StepInputs, lazy_objectives
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.utils import distributed
from pggan.utils.devices import free_cached, out_of_memory

# Names of what a step for lazy penalties returns: its terms, and how many such steps there were.
LAZY_TERM, LAZY_STEPS = "lazy/", "lazy_steps"


def train_step(
    state: TrainState,
    executor: StepExecutor,
    builder: BatchBuilder,
    batches: Iterator[LoadedBatch],
    scheduled: ScheduleState,
) -> dict[str, Tensor]:
    """Trains D `n_critic` times and G once (Karras et al. 2018, section 2 and appendix A).

    Returns the losses and statistics of the last D step and of G as 0-d tensors, still on the device.
    """
    state.apply_schedule(scheduled)
    with executor.step_at(scheduled.level):
        # filled there: a copy from the host would synchronise
        alpha = torch.full((), scheduled.alpha, dtype=torch.float32, device=state.device)
        terms: dict[str, Tensor] = {}
        penalties: dict[str, Tensor] = {}
        for number in range(state.schedule.n_critic):
            batch = builder.d_batch(next(batches), state.nimg, alpha)
            terms = player_step(state, executor, "d", batch, scheduled.level, alpha)
            if penalties_due(state, scheduled.level, number):
                add_terms(penalties, penalty_step(state, executor, batch, scheduled.level, alpha))
            # after each D step and before G's, as in the reference release, which runs both in one call
            ema.update(
                state.average, state.generator, partial(state.schedule.average_decay, state.nimg, scheduled.batch)
            )
            state.progress.nimg += len(batch.reals) * state.world.size
        terms |= penalties
        batch = builder.g_batch(batch, state.nimg)
        terms |= player_step(state, executor, "g", batch, scheduled.level, alpha)
        state.update_averages(scheduled.level, state.nimg - scheduled.nimg)
        state.progress.iteration += 1
        return terms


def player_step(
    state: TrainState,
    executor: StepExecutor,
    player: str,
    batch: Batch,
    level: int,
    alpha: Tensor,
    penalties_only: bool = False,
) -> dict[str, Tensor]:
    """Updates D ("d") or G ("g") once; a step whose gradients are not finite is skipped.

    `penalties_only`: D's lazy penalties instead of its loss.
    """
    network, optimizer, scaler = state.player(player)
    inputs = StepInputs(player, level, batch, alpha, scaler.scale(), penalties_only)
    gradients, losses, stats = compute_gradients(executor, inputs)
    finite = scaler.check_finite_and_update(gradients.values())
    optimizer_step(network, optimizer, gradients, finite)
    if not penalties_only:
        notify_objectives(state, inputs, {**losses, **stats}, finite)
    return {f"{player}_loss": torch.stack(list(losses.values())).sum(), **losses, **stats}


def penalties_due(state: TrainState, level: int, number: int) -> bool:
    """Returns whether D's step `number` of this iteration is followed by one for its lazy penalties."""
    steps = state.progress.iteration * state.schedule.n_critic + number
    return steps % state.config.penalty_every == 0 and bool(lazy_objectives(state.context, level))


def penalty_step(
    state: TrainState, executor: StepExecutor, batch: Batch, level: int, alpha: Tensor
) -> dict[str, Tensor]:
    """Lazy regularization: updates D by its lazy penalties alone (Karras et al. 2020, appendix B).

    Returns the terms under names of their own, and that this was one step: their mean is over such steps.
    """
    terms = player_step(state, executor, "d", batch, level, alpha, penalties_only=True)
    own = {f"{LAZY_TERM}{name}": value for name, value in terms.items()}
    return {**own, LAZY_STEPS: torch.ones((), device=state.device)}


def add_terms(terms: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    """Adds terms to those of the same name."""
    terms |= {name: terms[name] + value if name in terms else value for name, value in more.items()}


def compute_gradients(executor: StepExecutor, inputs: StepInputs) -> Gradients:
    """Computes gradients of the mean loss over all processes, and this process's losses and stats.

    Out of memory (OOM), the executor makes the micro-batches smaller, and then checkpoints activations; not where other
    processes would wait for this one in the loss.
    """
    repeats = not any(objective.all_reduces for objective in executor.state.context.objectives)
    while True:
        try:
            gradients = accumulate_gradients(executor, inputs, executor.num_micro_batches(inputs.level, inputs.images))
            break
        except RuntimeError as error:
            if not (out_of_memory(error) and repeats and executor.reduce_memory(inputs.level, inputs.images)):
                raise
        free_cached(inputs.alpha.device)  # outside the handler, whose traceback holds what did not fit
    distributed.all_reduce_mean([g for g in gradients.by_name.values() if g is not None], executor.state.world)
    return gradients


def accumulate_gradients(executor: StepExecutor, inputs: StepInputs, parts: int) -> Gradients:
    """Gradient accumulation: means of gradients, losses and stats over `parts` micro-batches."""
    if parts == 1:
        return executor(inputs)
    means = Gradients({}, {}, {})
    for index in range(parts):
        micro_batch = executor(inputs.part(index, parts))
        pairs: Any = zip(means, micro_batch)  # gradients, losses, stats
        for sums, values in pairs:
            for name, value in values.items():
                if sums.get(name) is None:
                    sums[name] = None if value is None else value / parts  # a copy: the next part may overwrite it
                elif value is not None:
                    sums[name].add_(value, alpha=1 / parts)
    return means


def optimizer_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, gradients: dict[str, Tensor | None], finite: Tensor
) -> None:
    """Steps the optimizer; skips where `finite` is 0, for which the host of a CUDA GPU does not wait."""
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = 1 - finite  # type: ignore[attr-defined]
    elif finite.device.type != "cuda" and not bool(finite):
        return
    for name, parameter in network.named_parameters():
        parameter.grad = _in_layout_of(parameter, gradients[name])
    if optimizer.defaults.get("fused") or finite.device.type != "cuda":
        optimizer.step()
    else:
        step_or_undo(network, optimizer, finite)
    optimizer.zero_grad(set_to_none=True)


def step_or_undo(network: nn.Module, optimizer: torch.optim.Optimizer, finite: Tensor) -> None:
    """Steps an optimizer that has no fused form, and undoes that where `finite` is 0, without the host waiting."""
    with _undone_unless(finite, partial(_stepped_tensors, network, optimizer)):
        optimizer.step()


def _stepped_tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[Any, Tensor]:
    """Returns the weights that have a gradient, and their moments, as far as they lie on the weights' device."""
    return {
        (name, key): tensor
        for name, weight in network.named_parameters()
        if weight.grad is not None
        for key, tensor in {"weight": weight, **optimizer.state.get(weight, {})}.items()
        if tensor.device == weight.device
    }


def notify_objectives(state: TrainState, inputs: StepInputs, values: Values, finite: Tensor) -> None:
    """Gives a step's values, as means over the processes, to the objectives that learn from them."""
    network = state.player(inputs.player).network
    hook = f"after_{inputs.player}_step"
    watching = [o for o in state.context.objectives if getattr(type(o), hook) is not getattr(Objective, hook)]
    if not watching:
        return
    values = {name: value.clone() for name, value in values.items()}
    distributed.all_reduce_mean(list(values.values()), state.world)
    if inputs.player == "d":
        values["images"] = torch.full((), float(inputs.images * state.world.size), device=state.device)
    for objective in watching:
        with _undone_unless(finite, partial(_buffers_of, objective)):
            getattr(objective, hook)(values, network)


def _buffers_of(objective: Objective) -> dict[Any, Tensor]:
    return dict(objective.named_buffers())


@contextmanager
def _undone_unless(finite: Tensor, tensors: Callable[[], dict[Any, Tensor]]) -> Iterator[None]:
    """Undoes what the block does to tensors where `finite` is 0, without the host waiting for it.

    Tensors that only come to be in the block begin at zero, as moments do.
    """
    now = {name: tensor.detach() for name, tensor in tensors().items()}
    before = {name: torch.empty_like(tensor) for name, tensor in now.items()}
    if before:
        torch._foreach_copy_(list(before.values()), list(now.values()))  # few launches
    with torch.no_grad():
        yield
        is_finite = finite > 0
        for name, tensor in tensors().items():
            torch.where(is_finite, tensor, before[name] if name in before else torch.zeros_like(tensor), out=tensor)


def _in_layout_of(parameter: Tensor, gradient: Tensor | None) -> Tensor | None:
    """Returns a gradient in its weight's memory layout: compilers choose their own, fused optimizers want one."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)
