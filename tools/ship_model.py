"""Makes a model that ships from a run's: the generator alone, up to its trained level, in half precision.

    python tools/ship_model.py RUN_OR_MODEL checkpoints/NAME.safetensors

Half precision halves the file and changes few values of an image by one grey level; the script prints by how much. The
model file's notes on data, attribution and training stay.
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


def strip_model(file: ModelFile) -> ModelFile:
    """Returns the model in half precision, without discriminator and without the levels above the stored one."""
    config = dataclasses.replace(file.generator.config, resolution=2**file.level)
    generator = make_generator(config)
    state = file.generator.state_dict()
    generator.load_state_dict({name: state[name] for name in generator.state_dict()})
    return ModelFile(generator.half(), None, file.level, file.alpha, file.labels, file.info)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    try:
        model = pggan.load(options.model, device="cpu")
        save_model(options.out, strip_model(model.file))
        small = pggan.load(options.out, device="cpu")
    except (PgganError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    before, after = (m.generate(range(64)).astype(int) for m in (model, small))
    difference = np.abs(before - after)
    print(f"{options.out}: {small.resolution}x{small.resolution}, {options.out.stat().st_size:,} bytes")
    print(
        f"against full precision: {difference.mean():.3f} of 255 on average, {difference.max()} at most (64 pictures)"
    )
    return 0


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main())
