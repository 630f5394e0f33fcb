"""Recordings: a function run once on inputs that keep their place, and replayed on what is copied there."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pggan.losses.base import Batch

Record = Callable[[], Any]
# Runs a function and keeps how: returns its outputs, which stay where they are, and what computes them anew from what
# the function's inputs hold then.
GraphCapturer = Callable[[Record], tuple[Any, Callable[[], None]]]
# Runs before a recording: libraries choose their kernels, and allocate, on the first ones.
WARM_UPS = 3


class CudaGraphs:
    """A `GraphCapturer`: the launches of a function on the current GPU as one CUDA graph.

    Graphs that are alive at once share their memory, so that those of D and G together take what the larger one takes:
    they are replayed one after the other, and what a replay puts out is kept while its tensors are.
    """

    def __init__(self) -> None:
        self._alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self._pool: Any = None

    def __call__(self, function: Record) -> tuple[Any, Callable[[], None]]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        if not self._alive:
            self._pool = torch.cuda.graph_pool_handle()  # that of graphs that are gone is gone with them
        # thread_local: the loader's threads pin memory and NCCL's looks at events meanwhile
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = function()
        self._alive.add(graph)
        return outputs, graph.replay


class Recorded:
    """`function(part, alpha, scale)` recorded for parts of one shape: (gradients by name, losses, stats).

    What it reads beside its arguments (weights, buffers) has to stay in place and change there. The gradients are
    overwritten by the next call, the losses and stats are the caller's.
    """

    def __init__(
        self, function: Callable[..., Any], part: Batch, alpha: Tensor, scale: Tensor, recorder: GraphCapturer
    ) -> None:
        # copies that nobody else holds; the default pieces of a batch may be shared
        self._part, self._alpha, self._scale = part.map(torch.clone), alpha.clone(), scale.clone()
        self._outputs, self._replay = recorder(lambda: function(self._part, self._alpha, self._scale))

    def __call__(self, part: Batch, alpha: Tensor, scale: Tensor) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
        places = [*self._part.tensors(), self._alpha, self._scale]
        for place, value in zip(places, [*part.tensors(), alpha, scale], strict=True):
            if place.shape != value.shape or place.dtype != value.dtype:
                raise ValueError(f"recorded for {tuple(place.shape)} {place.dtype}, got {tuple(value.shape)}")
            place.copy_(value)
        self._replay()
        found, losses, stats = self._outputs
        return found, _own(losses), _own(stats)


def _own(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies: they are summed up to the next line of the log."""
    return {name: value.clone() for name, value in values.items()}
