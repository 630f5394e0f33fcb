"""What tests of whole runs share: a display that keeps the messages, checkpoints compared, faulty gradients."""

from __future__ import annotations

import dataclasses
import os
import signal

import safetensors.torch
import torch

from pggan.config.train import PerResolution, TrainConfig
from pggan.data.store.store import Store
from pggan.training import loop
from pggan.training.engine import gradients
from pggan.training.monitor.display import QuietDisplay
from pggan.training.start import fit_to_data

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


def small_run(data, **options):
    """The configuration of a run to 8x8 in 0.12 thousand images, on a store's own labels and channels."""
    config = TrainConfig(
        data=str(data), max_res=8, fmap_base=64, fmap_max=16, latent_size=16, batch=PerResolution(4),
        stable_kimg=PerResolution(0.04), fade_kimg=PerResolution(0.04), tick_kimg=PerResolution(0.02),
        snapshot_ticks=2, checkpoint_ticks=2, eval_every=0, device="cpu", cache="none", workers=0,
    )  # fmt: skip
    with Store(data) as store:
        return fit_to_data(dataclasses.replace(config, **options), store.manifest)


def tensors(path):
    return safetensors.torch.load_file(str(path))


def same(a, b):
    a, b = tensors(a), tensors(b)
    assert a.keys() == b.keys()
    return all(torch.equal(a[k], b[k]) for k in a)


def poisoned(monkeypatch, when):
    """Makes D's gradients NaN where `when(number of the call)` says so."""
    original, calls = gradients.parameter_gradients, [0]

    def faulty(loss, parameters, scale):
        values = original(loss, parameters, scale)
        calls[0] += 1
        if when(calls[0]):
            name = next(name for name, g in values.items() if g is not None)
            values[name] = torch.full_like(values[name], float("nan"))
        return values

    monkeypatch.setattr(gradients, "parameter_gradients", faulty)
    monkeypatch.setattr(loop, "fit_micro_batch", lambda *_: None)  # a trial computes gradients, too
    return calls
