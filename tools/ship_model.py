"""Makes a model that ships from a run's: both networks up to the trained level, in half precision.

    python tools/ship_model.py RUN_OR_MODEL checkpoints/NAME.safetensors

The discriminator, which sorts pictures and helps to find latents, is left out with --generator-only, and where the
models that ship would take more than 15 MB in all. Half precision halves the file and changes few values of an image by
one grey level; the script prints by how much. The model file's notes on data, attribution and training stay.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch

import pggan
from pggan.networks.factory import make_discriminator, make_generator
from pggan.networks.model_file import ModelFile, save_model
from pggan.utils.errors import PgganError

# Bytes of all models that ship.
MOST_BYTES = 15_000_000


def strip_model(file: ModelFile, generator_only: bool = False) -> ModelFile:
    """Returns the model in half precision, without the levels above the stored one."""
    generator = make_generator(dataclasses.replace(file.generator.config, resolution=2**file.level))
    state = file.generator.state_dict()
    generator.load_state_dict({name: state[name] for name in generator.state_dict()})
    discriminator = None
    if file.discriminator is not None and not generator_only:
        discriminator = make_discriminator(dataclasses.replace(file.discriminator.config, resolution=2**file.level))
        state = file.discriminator.state_dict()
        discriminator.load_state_dict({name: state[name] for name in discriminator.state_dict()})
        discriminator.half()
    return ModelFile(generator.half(), discriminator, file.level, file.alpha, file.labels, file.info)


def bytes_in_all(out: Path, model: ModelFile) -> int:
    """Returns the bytes of the models in the folder of `out` once it holds this one, without headers."""
    others = sum(path.stat().st_size for path in out.parent.glob("*.safetensors") if path.resolve() != out.resolve())
    return others + sum(2 * value.numel() for part in model.parts().values() for value in part.state_dict().values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--generator-only", action="store_true", help="leave the discriminator out")
    options = parser.parse_args()
    try:
        model = pggan.load(options.model, device="cpu")
        stripped = strip_model(model.file, options.generator_only)
        if stripped.discriminator is not None and bytes_in_all(options.out, stripped) > MOST_BYTES:
            stripped = strip_model(model.file, generator_only=True)
            print(f"without its discriminator: the models that ship would take more than {MOST_BYTES:,} bytes")
        save_model(options.out, stripped)
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
