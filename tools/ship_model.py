"""A run's model as one that ships: the generator alone, up to the level it was trained to, in half precision.

    python tools/ship_model.py RUN_OR_MODEL checkpoints/NAME.safetensors

Half precision moves a picture by less than a grey level here and there (the script prints by how much) and halves the
file. What the model file says of its data, attribution and training is kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch

import pggan
from pggan.networks.factory import make_generator
from pggan.networks.model_file import ModelFile, save_model
from pggan.utils.errors import PgganError


def shipped(file: ModelFile) -> ModelFile:
    """The model without its discriminator and without the levels above the stored one."""
    config = dataclasses.replace(file.generator.config, resolution=2**file.level)
    generator = make_generator(config)
    state = file.generator.state_dict()
    generator.load_state_dict({name: state[name] for name in generator.state_dict()})
    return ModelFile(generator.half(), None, file.level, file.alpha, file.labels, file.info)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    try:
        model = pggan.load(given.model, device="cpu")
        save_model(given.out, shipped(model.file))
        small = pggan.load(given.out, device="cpu")
    except (PgganError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    before, after = (m.generate(range(64)).astype(int) for m in (model, small))
    apart = np.abs(before - after)
    print(f"{given.out}: {small.resolution}x{small.resolution}, {given.out.stat().st_size:,} bytes")
    print(f"against full precision: {apart.mean():.3f} of 255 on average, {apart.max()} at most (64 pictures)")
    return 0


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main())
