"""Prunes a finished run: keeps the EMA generators, a model card and a sample sheet; removes what only training needs.

It writes all that stays before it removes anything, and removes the newest checkpoint last. Interrupted anywhere, the
same call completes the work.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pggan.config.model_metadata import ModelMetadata
from pggan.generation.grid import grid_image
from pggan.generation.images import write_png
from pggan.generation.model import Model
from pggan.networks.model_file import ModelFile, load_model, save_model
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log
from pggan.training.run.model_card import card
from pggan.training.run.snapshots import enlarged, grid_shape
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import TrainingError

CARD, SHEET = "card.md", "sheet.png"


@dataclass(frozen=True)
class PrunePlan:
    """What pruning keeps and removes of a run."""

    run: RunDirectory
    models: tuple[Path, ...]  # that stay, the best one first
    stripped: tuple[Path, ...]  # models among them that lose their discriminator
    removed: tuple[Path, ...]  # files and folders, in this order
    resumable: bool  # whether training can resume before the pruning
    bytes_removed: int  # of `removed`; what stripped models lose comes on top

    def to_json(self) -> dict[str, Any]:
        return {
            "run": str(self.run.path),
            "keeps": [str(path) for path in self.models],
            "strips": [str(path) for path in self.stripped],
            "removes": [str(path) for path in self.removed],
            "bytes_removed": self.bytes_removed,
            "resumable": self.resumable,
            "card": str(self.run.path / CARD),
            "sheet": str(self.run.path / SHEET),
        }


def plan_pruning(run: RunDirectory, discriminator: bool = False) -> PrunePlan:
    """Plans a pruning without changing anything.

    The best model by the run's metric, the newest one, those of `pggan ema`, options, log and sample grids of generated
    images stay.

    Args:
        run: to prune.
        discriminator: whether models keep their discriminator, so that a new run can start from them.

    Raises:
        TrainingError: it is not a run, or has no model.
        ModelError: a model is damaged.
    """
    run.read_options()
    models = run.models()
    best = [run.best] if run.best.is_file() else []
    if not models and not best:
        raise TrainingError(f"{run.path} holds no model yet, so that nothing of it could stay; train on, or remove it")
    remaining = (*best, *models[-1:], *run.made_models())
    whole = [path for path in remaining if ModelMetadata.read(path).discriminator is not None]
    reals = sorted(run.samples.glob("reals-*.png")) if run.samples.is_dir() else []
    states = run.states()
    others = [path for path in (run.events, run.averages, run.data, run.tracker) if path.exists()]
    removed = (*models[:-1], *reals, *others, *states)
    stripped = () if discriminator else tuple(whole)
    return PrunePlan(run, remaining, stripped, removed, bool(states), sum(map(_bytes, removed)))


def prune(run: RunDirectory, discriminator: bool = False) -> PrunePlan:
    """Carries out what `plan_pruning` plans. Raises `TrainingError` where a process trains in the run, too."""
    run.read_options()  # before the lock file is made: it may be no run
    with run.locked():
        plan = plan_pruning(run, discriminator)
        models = {path: load_model(path) for path in plan.models}
        _write_sheet(run, models)
        _write_card(run, models)
        for path in plan.stripped:
            models[path] = dataclasses.replace(models[path], discriminator=None, trained=None)
            save_model(path, models[path])
        _write_card(run, models)  # again, with the new file sizes
        run.mark_pruned()
        for path in plan.removed:
            is_folder = path.is_dir() and not path.is_symlink()  # of a link only the link goes
            shutil.rmtree(path) if is_folder else path.unlink(missing_ok=True)
        for folder in {path.parent for path in plan.removed} - {run.path}:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return plan


def _write_sheet(run: RunDirectory, models: dict[Path, ModelFile]) -> None:
    """Writes a grid of the first remaining model's images, seeds 0, 1, 2, ..."""
    path, file = next(iter(models.items()))
    columns, rows = grid_shape(run.read_options()[0].grid, 2**file.level)
    images = Model(file, torch.device("cpu"), path).seed_images(range(columns * rows))
    write_png(run.path / SHEET, grid_image(enlarged(images), columns, rows), {"model": path.name})


def _write_card(run: RunDirectory, models: dict[Path, ModelFile]) -> None:
    config, resolved = run.read_options()
    trained_at = (run.log if run.log.exists() else next(iter(models))).stat().st_mtime
    text = card(run.path.resolve().name, models, config, resolved, read_log(run.log), SHEET, trained_at)
    replace_atomically(run.path / CARD, lambda temporary: temporary.write_text(text, "utf-8", "backslashreplace"))


def _bytes(path: Path) -> int:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
