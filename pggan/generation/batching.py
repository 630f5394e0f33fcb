"""Pictures of seeds in batches: on a GPU the next one is under way while the last is fetched, converted and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pggan.generation.seeds import Seeds
from pggan.generation.to_uint8 import Fetch
from pggan.networks.latents import MAX_SEED
from pggan.utils.devices import free_cached
from pggan.utils.errors import OutOfMemoryError, UsageError

if TYPE_CHECKING:
    from pggan.generation.model import Model

# Batches at a time, by kind of device (others: 1). A GPU's work is done in order, so that a second batch takes memory
# for its pictures alone.
IN_FLIGHT = {"cuda": 2}
# A last batch of less than this share of the others is not worth filling up for the compiled generator.
WORTH_FILLING = 0.25

Pictures = NDArray[np.uint8]


def stream(
    model: Model,
    seeds: Sequence[int],
    label: int | str | None = None,
    batch: int | None = None,
    codes: Mapping[int, float] | None = None,
) -> Iterator[Pictures]:
    """`Model.stream`. Raises as it does."""
    for seed in () if isinstance(seeds, Seeds) else seeds:
        if not 0 <= seed <= MAX_SEED:
            raise UsageError(f"seed {seed} is not from 0 to {MAX_SEED}")
    if batch is not None and batch < 1:
        raise UsageError(f"a batch of {batch} is none; give 1 or more")
    size = batch or _size(model, len(seeds))
    together = IN_FLIGHT.get(model.device.type, 1)
    flying: deque[tuple[int, Fetch]] = deque()
    start = 0
    while start < len(seeds):
        part = seeds[start : start + size]
        begun = _begin(model, part, label, codes, size, len(seeds) - start, batch is not None)
        if begun is not None:
            flying.append((len(part), begun))
            start += len(part)
        elif flying:
            together = 1  # there may be room for one alone
        elif batch or len(part) == 1:
            raise OutOfMemoryError(
                f"out of memory with {size if batch else 1} pictures at a time; give a smaller batch"
            )
        else:
            size = len(part) // 2
        while flying and (len(flying) >= together or begun is None):
            yield _landed(*flying.popleft())
        if begun is None:
            free_cached(model.device)
    while flying:
        yield _landed(*flying.popleft())


def _size(model: Model, count: int) -> int:
    """Images at a time; the size that is compiled, where it is about as large as it may be."""
    wanted = min(model.batch_size(), max(1, count))
    return model.computing.batch if 2 * model.computing.batch > wanted else wanted


def _begin(
    model: Model,
    part: Sequence[int],
    label: int | str | None,
    codes: Mapping[int, float] | None,
    size: int,
    remaining: int,
    fixed: bool,
) -> Fetch | None:
    """Begins a batch; None where the memory is short of it."""
    latents, labels = model.seed_latents(part, codes), model.seed_labels(part, label)
    # a batch that was asked for keeps its size to the end, and is computed in one way: the same seed is then the same
    # to the last bit
    filled = fixed or (size == model.computing.batch and len(part) >= WORTH_FILLING * size)
    if filled and len(part) < size:
        missing = size - len(part)
        latents = np.pad(latents, ((0, missing), (0, 0)))
        labels = None if labels is None else np.pad(labels, ((0, missing), (0, 0)))
    if fixed and model.computing.mode == "auto":
        remaining, model.computing.why = 0, "a batch that was asked for is computed in one way"
    try:
        return model.begin(latents, labels, remaining)
    except OutOfMemoryError:
        return None


def _landed(count: int, fetch: Fetch) -> Pictures:
    return fetch()[:count]
