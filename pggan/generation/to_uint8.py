"""Network output on its way to the host as 8-bit pictures: a GPU goes on computing meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Fetch = Callable[[], NDArray[np.uint8]]


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Network output (N, C, H, W) around [-1, 1] to 8 bits (N, H, W, C): `clip(rint(127.5 x + 127.5), 0, 255)`."""
    return fetch(images)()


def fetch(images: Tensor) -> Fetch:
    """Begins to bring network output to the host, as `to_uint8`; the call that it returns waits for it.

    Pictures of a GPU are converted there, and copied as soon as they are made; nothing waits before that call.
    """
    scaled = (images * 127.5).add_(127.5).round_().clamp_(0, 255)
    pictures = scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    if pictures.device.type != "cuda":
        return pictures.cpu().numpy
    # only a copy to pinned memory leaves this thread free; the stream keeps the order of copy and later work
    host = torch.empty(pictures.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(pictures, non_blocking=True)
    done = torch.cuda.Event(blocking=True)  # sleeps while it waits: the cores are the writers'
    done.record(torch.cuda.current_stream(pictures.device))

    def wait() -> NDArray[np.uint8]:
        done.synchronize()
        return host.numpy()

    return wait
