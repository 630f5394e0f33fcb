"""Fine-tuning against starting from scratch: how many images until generated pictures are as near to the data.

    pggan prepare-data drawn:1000 toons --max-res 16
    python tools/lab_finetune.py faces.safetensors toons --kimg 6 --seeds 0,1 --out tuned

Both trainings have the model's networks and last resolution, the same options and seeds; one begins with the model's
weights (pggan train --from), the other with drawn ones. The generator's running average is measured at every snapshot.
OUT/finetune.json has all figures, OUT/finetune.md the SWD at each, and the images that each needed to get to what the
run from scratch ends with.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from experiments.commands import run_pggan

from pggan.config.train import GeneratorConfig, NetworkConfig
from pggan.data.store.store import Store
from pggan.generation.model import load
from pggan.metrics.evaluate import evaluate_model
from pggan.training.run.directory import RunDirectory, is_run


def widths(model: str, res: int) -> list[str]:
    """Options that make the model's networks from scratch. Ends where there are none for something of it."""
    config = load(model, "cpu").file.generator.config
    usual = GeneratorConfig(resolution=config.resolution)
    told = {"resolution", "channels", "fmap_base", "fmap_max", "fused_scale"}
    names = [name for name in NetworkConfig.__dataclass_fields__ if name not in told]
    if other := [name for name in names if getattr(config, name) != getattr(usual, name)]:
        sys.exit(f"error: {model} has networks that options cannot make ({', '.join(other)}); give another model")
    scale = "--fused-scale" if config.fused_scale else "--no-fused-scale"
    sizes = {"--fmap-base": config.fmap_base, "--fmap-max": config.fmap_max, "--latent-size": config.latent_size}
    return [*(word for name, value in sizes.items() for word in (name, str(value))), scale, "--start-res", str(res)]


def train(given: argparse.Namespace, run: Path, begin: list[str], seed: int, res: int) -> None:
    if is_run(run):
        run_pggan("train", "--resume", str(run), "--quiet")
        return
    tick = given.kimg / given.points
    length = ["--stable-kimg", f"{given.kimg:g}", "--tick-kimg", f"{tick:g}", "--snapshot-ticks", "1"]
    rest = ["--preset", "demo", "--max-res", str(res), "--batch", str(given.batch), "--seed", str(seed)]
    run_pggan(
        "train", given.data, "--out", str(run), *rest, *length, *begin, "--augment", "none", "--quiet", *given.train
    )


def curve(given: argparse.Namespace, run: Path) -> dict[float, float]:
    """SWD by kimg, of every snapshot."""
    found = {}
    with Store(given.data) as store, torch.no_grad():
        for path in RunDirectory(run).models():
            model = load(path, "cpu")
            figures = evaluate_model(model.seed_images, store, model.resolution, ["swd"], given.n)
            found[float(model.info["kimg"])] = figures["swd"]
    return found


def reached(curve: dict[float, float], wanted: float) -> float | None:
    """Thousands of images until the SWD is that or lower; None: never."""
    return next((kimg for kimg in sorted(curve) if curve[kimg] <= wanted), None)


def table(curves: dict[str, list[dict[float, float]]]) -> str:
    """Markdown: SWD at every snapshot, mean over the seeds, and what it took to get where scratch ends."""
    kimgs = sorted(set.intersection(*(set(each) for found in curves.values() for each in found)))
    lines = ["| begins with | " + " | ".join(f"{kimg:.3g} kimg" for kimg in kimgs) + " | as near as scratch ends |",
             "|---" * (len(kimgs) + 2) + "|"]  # fmt: skip
    ends = [each[kimgs[-1]] for each in curves["scratch"]]
    for name, found in curves.items():
        cells = [f"{statistics.mean(each[kimg] for each in found):.3g}" for kimg in kimgs]
        took = [reached(each, end) for each, end in zip(found, ends)]
        cells.append(", ".join("never" if kimg is None else f"{kimg:.3g} kimg" for kimg in took))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model file, a run or a shipped model's name")
    parser.add_argument("data", help="another set of pictures: a store that prepare-data made")
    parser.add_argument("--out", type=Path, default=Path("tuned"))
    parser.add_argument("--res", type=int, help="lower than the model's own")
    parser.add_argument("--kimg", type=float, default=6)
    parser.add_argument("--points", type=int, default=6, help="snapshots that are measured")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--n", type=int, default=1024, help="generated pictures that are measured")
    parser.add_argument("--train", nargs="*", default=[], help="more options for pggan train (last)")
    given = parser.parse_args()
    res = given.res or load(given.model, "cpu").resolution
    ways: dict[str, list[str]] = {"scratch": widths(given.model, res), "the model": ["--from", given.model]}
    curves: dict[str, list[dict[float, float]]] = {name: [] for name in ways}
    rows: list[dict[str, Any]] = []
    for seed in map(int, given.seeds.split(",")):
        for name, begin in ways.items():
            run = given.out / f"{name.split()[-1]}-{seed}"
            train(given, run, begin, seed, res)
            curves[name].append(curve(given, run))
            rows.append({"begins_with": name, "seed": seed, "swd": curves[name][-1]})
            print(json.dumps(rows[-1]), flush=True)
    setting = {name: value for name, value in vars(given).items() if name != "out"}
    text = json.dumps({"setting": setting, "runs": rows}, indent=2)
    (given.out / "finetune.json").write_text(text + "\n", encoding="utf-8")
    (given.out / "finetune.md").write_text(table(curves) + "\n", encoding="utf-8")
    print(table(curves))
    return 0


if __name__ == "__main__":
    sys.exit(main())
