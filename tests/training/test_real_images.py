"""What the discriminator sees of 8-bit pictures, against the reference release's own process_reals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pggan.training.engine.loss_functions import real_images

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "training.npz")


@pytest.mark.parametrize("lod", ["0.00", "0.30", "1.00", "1.60", "3.00", "3.75"])
def test_reference_values(lod):
    pictures = torch.from_numpy(FIXTURE[f"synthcolor/lod{int(float(lod))}"])
    alpha = torch.tensor(1 - (float(lod) - int(float(lod))))
    found = F.interpolate(real_images(pictures, alpha), size=(64, 64), mode="nearest")
    assert (found - torch.from_numpy(FIXTURE[f"process_reals/lod{lod}"])).abs().max() < 1e-6


def test_range_and_lowest_resolution():
    pictures = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 4, 4)
    found = real_images(pictures, torch.tensor(0.3))
    assert found.min() == -1
    assert found.max() == 1
