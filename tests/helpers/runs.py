"""What tests of whole runs share: a display that keeps the messages, and checkpoints compared."""

from __future__ import annotations

import os

import safetensors.torch
import torch

from pggan.training.monitor.display import QuietDisplay

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


class Notes(QuietDisplay):
    def __init__(self):
        self.said = []

    def note(self, message):
        self.said.append(message)


def tensors(path):
    return safetensors.torch.load_file(str(path))


def same(a, b):
    a, b = tensors(a), tensors(b)
    assert a.keys() == b.keys()
    return all(torch.equal(a[k], b[k]) for k in a)
