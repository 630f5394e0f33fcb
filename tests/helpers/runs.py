"""What tests of whole runs share: a display that keeps the messages, and checkpoints compared."""

from __future__ import annotations

import os
import signal

import safetensors.torch
import torch

from pggan.training.monitor.display import QuietDisplay

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


class Notes(QuietDisplay):
    def __init__(self):
        self.said = []

    def note(self, message):
        self.said.append(message)


class StopAfter(QuietDisplay):
    """Sends this process a signal once so many images are seen."""

    def __init__(self, nimg, number=signal.SIGTERM):
        self.nimg, self.number = nimg, number

    def show(self, scheduled):
        if self.number and scheduled.nimg >= self.nimg:
            number, self.number = self.number, 0
            os.kill(os.getpid(), number)


def tensors(path):
    return safetensors.torch.load_file(str(path))


def same(a, b):
    a, b = tensors(a), tensors(b)
    assert a.keys() == b.keys()
    return all(torch.equal(a[k], b[k]) for k in a)
