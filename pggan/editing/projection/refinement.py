"""Refinement: the last part of a search, by the method of Levenberg and Marquardt.

Pictures hardly change along most directions of a latent, and much along a few: gradient descent needs thousands of
steps for what is left then, and this method, which knows the Jacobian matrix, about ten.
That matrix costs far more than all else here and hardly changes near the minimum: steps share it while they gain much.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

# Steps at most, tries of each with more and more damping, and Jacobian matrices at most.
ITERATIONS, TRIES, MATRICES = 30, 6, 8
# A Jacobian matrix is computed anew once a step with it takes off a smaller share of the mean squared error than this.
STALE = 0.5
# The end: a step with a new one takes off a smaller share than this.
LEAST_GAIN = 0.08
DAMPING, EASED, DAMPED = 1e-2, 1 / 3, 4.0
# Numbers in the Jacobian matrix at most (80 MB), and columns that are computed at once.
MOST_NUMBERS, COLUMNS = 20_000_000, 8


def can_refine(latent_size: int, numbers: int) -> bool:
    """Returns whether the Jacobian of images fits in memory; `numbers`: of pixels times channels."""
    return latent_size * numbers <= MOST_NUMBERS


def refine(
    errors: Callable[[Tensor], Tensor], values: Tensor, watch: Callable[[Tensor], None], floor: float = 0.0
) -> Tensor:
    """Minimises the mean square of errors.

    Args:
        errors: Errors (E,) of variables, differentiable.
        values: Variables (V,) to begin at.
        watch: Receives the variables after every step.
        floor: The mean square that is the end, such as that of rounding.

    Returns:
        Variables (V,) whose mean squared error is as low, or lower.
    """
    damping, residual = DAMPING, errors(values).detach()
    cost = float(residual.square().mean())
    is_new, matrices = True, 0
    for _ in range(ITERATIONS):
        if is_new:
            jacobian, matrices = _jacobian(errors, values), matrices + 1
            square = (jacobian.t() @ jacobian).double() / len(residual)
        gradient = (jacobian.t() @ residual).double() / len(residual)
        before = cost
        for _ in range(TRIES):
            step = torch.linalg.solve(square + damping * square.diagonal().clamp_min(1e-9).diag(), gradient)
            moved = values - step.to(values)
            found = errors(moved).detach()
            if float(found.square().mean()) < cost:
                values, residual, cost = moved, found, float(found.square().mean())
                damping = max(damping * EASED, 1e-7)
                break
            damping *= DAMPED
        watch(values)
        if cost <= floor or (cost > (1 - LEAST_GAIN) * before and (is_new or matrices == MATRICES)):
            break
        is_new = cost > (1 - STALE) * before and matrices < MATRICES
    return values


def _jacobian(errors: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Returns the derivatives of errors (E,) by variables (V,): (E, V)."""

    def column(direction: Tensor) -> Tensor:
        derivative: Tensor = torch.func.jvp(errors, (values,), (direction,))[1]
        return derivative

    unit = torch.eye(len(values), dtype=values.dtype, device=values.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, of what it imports for this
        return torch.cat([torch.func.vmap(column)(part) for part in unit.split(COLUMNS)]).detach().t()
