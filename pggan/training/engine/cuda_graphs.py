"""CUDA graph capture: a function is run once on static inputs and replayed on what is copied there."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pggan.training.engine.loss_functions import StepInputs

# Captures `fn()` as a replayable graph: returns its static outputs, and a `replay()` that recomputes them from the
# static inputs.
GraphCapturer = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]
# Warm-up runs before a capture: libraries choose their kernels, and allocate, on the first ones.
WARM_UPS = 3


class CudaGraphs:
    """A `GraphCapturer` for the current GPU.

    Graphs that are alive at once share a memory pool, so that those of D and G together take what the larger one
    takes: they are replayed one after the other, and a replay's outputs stay as long as their tensors.
    """

    def __init__(self) -> None:
        self._alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self._pool: Any = None

    def __call__(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        for _ in range(WARM_UPS):
            function()  # on this stream: another would set aside memory of its own beside what this one has cached
        torch.cuda.empty_cache()  # what the warm-up took lies apart from the graphs' pool
        graph = torch.cuda.CUDAGraph()
        if not self._alive:
            self._pool = torch.cuda.graph_pool_handle()  # that of graphs that are gone is gone with them
        # thread_local: the loader's threads pin memory and NCCL's watchdog queries events meanwhile
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = function()
        self._alive.add(graph)
        return outputs, graph.replay


class Captured:
    """`function(inputs) -> (gradients by name, losses, stats)`, captured for inputs of one shape.

    What it reads beside its inputs (weights, buffers) has to stay in place and change there. The next call overwrites
    the gradients; losses and stats are the caller's.
    """

    def __init__(self, function: Callable[[StepInputs], Any], inputs: StepInputs, capturer: GraphCapturer) -> None:
        self._inputs = inputs.map(torch.clone)  # copies that nobody else holds
        self._outputs, self._replay = capturer(lambda: function(self._inputs))

    def __call__(self, inputs: StepInputs) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
        for static, value in zip(self._inputs.tensors(), inputs.tensors(), strict=True):
            if static.shape != value.shape or static.dtype != value.dtype:
                raise ValueError(f"captured for {tuple(static.shape)} {static.dtype}, got {tuple(value.shape)}")
            static.copy_(value)
        self._replay()
        gradients, losses, stats = self._outputs
        return gradients, _copied(losses), _copied(stats)


def _copied(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies: they are summed up to the next line of the log."""
    return {name: value.clone() for name, value in values.items()}
