"""Linear fits on latents: least squares with R^2, logistic regression with accuracy, on held-out rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.editing.sphere import unit
from pggan.utils.errors import UsageError

HELD_OUT = 0.2  # share of the rows, the last ones
FOLDS = 5
RIDGE = 1e-3  # of the mean square of an input
FEWEST = 4

Values = NDArray[np.float64]


class Fit(NamedTuple):
    """A direction (Z,) of unit length, and how well it predicts rows that it has not seen."""

    direction: Values
    figure: float  # R^2, or the share of rows that are classified rightly


def fit_values(latents: NDArray[np.floating], values: NDArray[np.floating]) -> Fit:
    """Fits values (N,) as a linear function of latents (N, Z) with elements of unit variance, by least squares.

    `figure` is R^2 on the last fifth of the rows, which the fit does not see: 1 is perfect, 0 no better than the mean.

    Raises `UsageError` for too few rows, or values that are all the same or not finite.
    """
    x, y = np.asarray(latents, np.float64), np.asarray(values, np.float64)
    if len(y) < FEWEST or not np.isfinite(y).all() or np.ptp(y) == 0:
        raise UsageError(f"{len(y)} values that are all the same, not finite or fewer than {FEWEST} give no direction")
    train = len(y) - max(1, round(HELD_OUT * len(y)))
    mean = y[:train].mean()
    gram = x[:train].T @ x[:train] + RIDGE * train * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[:train].T @ (y[:train] - mean))
    residual = y[train:] - mean - x[train:] @ weights
    spread = y[train:] - y[train:].mean()
    r2 = 1 - float(residual @ residual) / max(float(spread @ spread), 1e-300)
    return Fit(unit(weights), r2)


def fit_classes(latents: NDArray[np.floating], is_member: NDArray[np.bool_], penalty: float = 1e-2) -> Fit:
    """Fits membership (N,) by logistic regression on latents (N, Z) with elements of unit variance.

    `figure` is the accuracy on held-out rows, each in one of five folds (fewer where there are fewer rows). The
    direction is that of all rows.

    Args:
        latents: The latents.
        is_member: Whether a latent belongs to the class.
        penalty: Weight of the squared length of the regression's weights, for each row.

    Raises:
        UsageError: There are not two rows of each kind at least.
    """
    x, y = np.asarray(latents, np.float64), np.asarray(is_member, np.float64)
    if min(y.sum(), len(y) - y.sum()) < 2:
        raise UsageError(f"{int(y.sum())} of {len(y)} latents are of the class; two of each kind are needed at least")
    right = 0
    members, others = np.flatnonzero(y > 0), np.flatnonzero(y == 0)
    folds = min(FOLDS, len(members), len(others))
    fold_of = np.empty(len(y), int)  # each kind is spread over all folds
    fold_of[members], fold_of[others] = np.arange(len(members)) % folds, np.arange(len(others)) % folds
    for fold in range(folds):
        train, test = fold_of != fold, fold_of == fold
        weights, bias = _logistic(x[train], y[train], penalty)
        right += int((((x[test] @ weights + bias) > 0) == (y[test] > 0)).sum())
    return Fit(unit(_logistic(x, y, penalty)[0]), right / len(y))


def _logistic(x: Values, y: Values, penalty: float) -> tuple[Values, float]:
    """Returns weights and bias of penalised logistic regression, by Newton's method."""
    inputs = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    weights = np.zeros(inputs.shape[1])
    ridge = np.full(inputs.shape[1], penalty * len(x))
    ridge[-1] = 1e-6  # the bias is free
    for _ in range(30):
        share = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        gradient = inputs.T @ (share - y) + ridge * weights
        hessian = (inputs * (share * (1 - share))[:, None]).T @ inputs + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights[:-1], float(weights[-1])
