"""Conversion of network output to 8-bit images, copied to the host while a GPU goes on computing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pggan.generation.grid import Images

# Images under way to the host: the call waits for them and returns uint8 (N, H, W, C).
PendingImages = Callable[[], Images]


def to_uint8(images: Tensor) -> Images:
    """Converts network output (N, C, H, W) in [-1, 1] to uint8 (N, H, W, C): clip(rint(127.5 x + 127.5), 0, 255)."""
    return start_to_uint8(images)()


def start_to_uint8(images: Tensor, on_not_finite: Callable[[], None] | None = None) -> PendingImages:
    """Starts what `to_uint8` does; the returned call waits for the result.

    A GPU converts its images itself and copies them asynchronously: nothing waits before that call, which calls
    `on_not_finite` where a value is NaN or infinite.
    """
    # one reduction: the smallest and the largest value are NaN where any value is
    ends = torch.stack(images.aminmax()).float() if on_not_finite is not None else images.new_zeros(2)

    def check(host_ends: Tensor) -> None:
        if on_not_finite is not None and not bool(host_ends.isfinite().all()):
            on_not_finite()

    scaled = (images * 127.5).add_(127.5).round_().clamp_(0, 255)
    converted = scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    if converted.device.type != "cuda":
        check(ends.cpu())
        array: Images = converted.cpu().numpy()
        return lambda: array
    # only a copy to pinned memory is asynchronous; the CUDA stream orders it before later work
    host = torch.empty(converted.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(converted, non_blocking=True)
    host_ends = torch.empty(ends.shape, dtype=ends.dtype, pin_memory=True)
    host_ends.copy_(ends, non_blocking=True)
    # blocking: waits asleep, which leaves the core to the PNG writers
    copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(converted.device))

    def wait() -> Images:
        copied.synchronize()
        check(host_ends)
        result: Images = host.numpy()
        return result

    return wait
