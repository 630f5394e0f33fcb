"""What the tests run on the stand-in GPU, each in a process of its own."""

from __future__ import annotations

from tests.helpers.fake_gpu import counts, reset


def hello():
    import torch

    x = torch.randn(4, 16, 32, 32, device="cuda")
    weight = torch.randn(16, 16, 3, 3, device="cuda", requires_grad=True)
    reset()
    torch.nn.functional.conv2d(x, weight, padding=1).square().sum().backward()
    return {"gpu": torch.cuda.get_device_name(), "counts": counts()}
