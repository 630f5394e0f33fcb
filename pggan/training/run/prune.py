"""What of a run is shared (the averaged generators, a card, a sample sheet), and what only going on with it needs.

What stays is made whole before anything goes, and the newest training state goes last: cut off anywhere, the same
call ends what was begun.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pggan.generation.grid import grid_image
from pggan.generation.images import write_png
from pggan.generation.model import Model
from pggan.networks.model_file import MODEL_KEY, ModelFile, load_model, read_metadata, save_model
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log import read_log
from pggan.training.run.model_card import card
from pggan.training.run.snapshots import enlarged, grid_shape
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import TrainingError

CARD, SHEET = "card.md", "sheet.png"


@dataclass(frozen=True)
class PrunePlan:
    """What stays and what goes of a run. `stripped`: models that lose their discriminator.

    `resumable`: whether the run can be gone on with until this is done. `bytes_gone`: of the files that are removed;
    what stripped models lose is not among them.
    """

    run: RunDirectory
    models: tuple[Path, ...]
    stripped: tuple[Path, ...]
    gone: tuple[Path, ...]
    resumable: bool
    bytes_gone: int

    def to_json(self) -> dict[str, Any]:
        return {
            "run": str(self.run.path),
            "keeps": [str(path) for path in self.models],
            "strips": [str(path) for path in self.stripped],
            "removes": [str(path) for path in self.gone],
            "bytes_removed": self.bytes_gone,
            "resumable": self.resumable,
            "card": str(self.run.path / CARD),
            "sheet": str(self.run.path / SHEET),
        }


def plan_pruning(run: RunDirectory, discriminator: bool = False) -> PrunePlan:
    """Looks and changes nothing. `discriminator`: models keep theirs, so that training can begin with them.

    Kept: the best model by the run's metric, the newest one, options, log, and sample grids of generated pictures.
    Raises `TrainingError` for what is no run or has no model, `ModelError` where one is damaged.
    """
    run.read_options()
    models = run.models()
    best = [run.best] if run.best.is_file() else []
    if not models and not best:
        raise TrainingError(f"{run.path} holds no model yet, so that nothing of it could stay; train on, or remove it")
    kept = (*best, *models[-1:])
    whole = [path for path in kept if read_metadata(path, MODEL_KEY).get("discriminator")]
    reals = sorted(run.samples.glob("reals-*.png")) if run.samples.is_dir() else []
    # the newest training state last: until then, the run can be gone on with
    states = run.states()
    gone = (*models[:-1], *reals, *(path for path in (run.events, run.data) if path.is_dir()), *states)
    stripped = () if discriminator else tuple(whole)
    return PrunePlan(run, kept, stripped, gone, bool(states), sum(map(_bytes, gone)))


def prune(run: RunDirectory, discriminator: bool = False) -> PrunePlan:
    """Does what `plan_pruning` says. Raises `TrainingError` where a process trains in the run, too."""
    run.read_options()  # before a lock file is made in what is no run
    with run.locked():
        plan = plan_pruning(run, discriminator)
        models = {path: load_model(path) for path in plan.models}
        _write_sheet(run, models)
        _write_card(run, models)
        for path in plan.stripped:
            models[path] = dataclasses.replace(models[path], discriminator=None, trained=None)
            save_model(path, models[path])
        _write_card(run, models)  # with the sizes that files have now
        run.mark_pruned()
        for path in plan.gone:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for folder in {path.parent for path in plan.gone} - {run.path}:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return plan


def _write_sheet(run: RunDirectory, models: dict[Path, ModelFile]) -> None:
    """Pictures of the first model that stays, seeds 0, 1, 2, ..."""
    path, file = next(iter(models.items()))
    columns, rows = grid_shape(run.read_options()[0].grid, 2**file.level)
    pictures = Model(file, torch.device("cpu"), path).generate(range(columns * rows))
    write_png(run.path / SHEET, grid_image(enlarged(pictures), columns, rows), {"model": path.name})


def _write_card(run: RunDirectory, models: dict[Path, ModelFile]) -> None:
    config, resolved = run.read_options()
    log = read_log(run.log) if run.log.exists() else []
    made = (run.log if run.log.exists() else next(iter(models))).stat().st_mtime
    text = card(run.path.resolve().name, models, config, resolved, log, SHEET, made)
    replace_atomically(run.path / CARD, lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _bytes(path: Path) -> int:
    files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files)
