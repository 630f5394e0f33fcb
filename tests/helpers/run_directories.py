"""Run directories as training leaves them, without training."""

import json

import numpy as np
from PIL import Image

from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, TrainConfig
from pggan.training.run.directory import RunDirectory

RESOLVED = {"device": "cpu", "precision": "fp32", "hardware": "a CPU", "torch": "2.0", "data": {"count": 40}}


def make_run(path, ticks=12, **fields):
    config = TrainConfig(
        data=fields.pop("data", "nowhere"), max_res=8, latent_size=8, fmap_base=64, fmap_max=8,
        batch=PerResolution(8), stable_kimg=PerResolution(0.04), fade_kimg=PerResolution(0.04), **fields,
    )  # fmt: skip
    run = RunDirectory(path)
    run.create(config, RESOLVED)
    schedule = Schedule(config)
    run.log.write_text("".join(json.dumps(tick(schedule, n, ticks)) + "\n" for n in range(1, ticks + 1)))
    return path


def tick(schedule, number, ticks, **more):
    scheduled = schedule.at(schedule.total * number // ticks)
    return {
        "tick": number, "nimg": scheduled.nimg, "kimg": scheduled.nimg / 1000, "iteration": number,
        "phase": scheduled.phase, "resolution": scheduled.resolution, "alpha": scheduled.alpha, "batch": 8,
        "g_lr": 0.001, "d_lr": 0.001, "d_loss": -0.1 * number, "wasserstein": -0.5, "gradient_penalty": 0.1,
        "score_real": 1.0, "score_fake": 0.5, "gradient_norm": 0.9, "g_loss": 0.5 * number,
        "img_per_second": 100.0 + number, "seconds": 2.0 * number,
        "skipped_steps": 0, "rollbacks": 0, "seconds_left": 5.0, **more,
    }  # fmt: skip


def add_lines(run, *lines):
    with open(run / "log.jsonl", "a") as file:
        for line in lines:
            file.write(line if isinstance(line, str) else json.dumps(line) + "\n")


def add_grid(run, name, columns=4, rows=2, tile=64, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (rows * tile, columns * tile, 3), np.uint8)
    (run / "samples").mkdir(exist_ok=True)
    Image.fromarray(noise).save(run / "samples" / name)
