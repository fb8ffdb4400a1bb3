"""One row at one seed, from its fit to what the instruments saw: three kinds of cells.

fit     what the method learned
drawn   its pictures at one guidance scale, a folder per emotion
seen    what the instruments saw of these pictures
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...base.load import load_base
from ...base.model import BaseModel
from ...base.sampling import SamplingSettings
from ...errors import UserError
from ...files import atomic_path
from ...methods import METHODS, CoEmoGen, Drawer
from ...train.config import FREE_ON_RESUME, TrainConfig, make_config
from ...train.history import TrainingDiverged
from ...train.precision import dtype_of
from ..colours import COLOURS, colours_of
from ..observations import Observations
from ..observe import observe
from ..pictures import LabelledPictures
from .arena import Arena
from .cells import Cell, Cells
from .embeddings import drawing_embeds
from .identity import WeightHashes, of_files, of_set
from .variants import Captions, Variant

# Free to differ when a run goes on, and yet part of what its adapter is.
_PART_OF_A_FIT = {"steps", "gaussian_covariance", "gaussian_components"}
_PLACES = {"out", "set"}
_FIRST_SEED, _SEED_STRIDE = 1_000_000, 10_000
_TOGETHER = 48
# Raised whenever pictures, or what is seen of them, would come out otherwise by a change of this code.
_DRAWN, _SEEN = 1, 1
_DIVERGED = "diverged"


@dataclass(frozen=True)
class Unit:
    """A variant at a seed, under one of the settings that its method has tried."""

    variant: Variant
    seed: int
    setting: Mapping[str, Any]


class Workshop:
    """Makes and finds the cells of units in an arena.

    Raises:
        UserError: a row would have more pictures than there are seeds for between two seeds of the table.
    """

    def __init__(self, arena: Arena, out: Path) -> None:
        if arena.each * len(arena.emotions) > _SEED_STRIDE:
            raise UserError(
                f"{arena.each} pictures of {len(arena.emotions)} emotions are more than {_SEED_STRIDE:,}: "
                "seeds would share their noise; ask for fewer of each."
            )
        self.arena, self.cells = arena, Cells(out / "cells")
        self._weights = WeightHashes(out / "cells" / "weights.json")
        self._base = lru_cache(maxsize=1)(load_base)
        # What is asked for again and again while others are waited for, and never changes in a run.
        self._of_set = lru_cache(maxsize=None)(
            lambda seed, captions: of_set(arena.training_set(seed, captions))
        )
        self._of_real = lru_cache(maxsize=None)(lambda seed: of_files(arena.real(seed).paths))
        self._of_instruments = lru_cache(maxsize=None)(lambda seed: arena.instruments(seed).fingerprint)
        self._of_weights = lru_cache(maxsize=None)(self._weights.of)
        self._fits: dict[str, Cell] = {}

    def config(self, unit: Unit) -> TrainConfig:
        """The settings of a unit's fit; `out` is its cell's folder."""
        variant = unit.variant
        shared = self.arena.config(unit.seed, variant.captions)
        changes = {**unit.setting, **variant.fit}
        steps = shared.steps * int(changes.pop("times_steps", 1))
        return make_config({**shared.model_dump(), **changes, "steps": steps}, variant.name)

    def fit(self, unit: Unit) -> Cell:
        """The cell of the fit."""
        known = repr(unit)
        if known not in self._fits:
            self._fits[known] = self._fit(unit)
        return self._fits[known]

    def _fit(self, unit: Unit) -> Cell:
        config, method = self.config(unit), METHODS[unit.variant.method]
        left_out = (FREE_ON_RESUME - _PART_OF_A_FIT) | _PLACES
        return self.cells.cell(
            "fit",
            method=method.key,
            version=method.version,
            settings={k: v for k, v in config.model_dump(mode="json").items() if k not in left_out},
            pictures=self._of_set(unit.seed, unit.variant.captions),
            base=self._of_weights(config.base),
            vision=self._of_weights(config.vision),
        )

    def drawn(self, unit: Unit, guidance: float) -> Cell:
        """The cell of the pictures at one scale."""
        settings = self._sampling(unit, guidance)
        return self.cells.cell(
            "drawn",
            version=_DRAWN,
            fit=self.fit(unit).key,
            sampling={k: v for k, v in asdict(settings).items() if k != "batch_size"},
            embeds=unit.variant.drawing.embeds,
            each=self.arena.each,
            seed=unit.seed,
        )

    def seen(self, unit: Unit, guidance: float) -> Cell:
        """The cell of what the instruments of the unit's seed saw of them."""
        return self.cells.cell(
            "seen",
            version=_SEEN,
            drawn=self.drawn(unit, guidance).key,
            instruments=self._of_instruments(unit.seed),
        )

    def observations(self, unit: Unit, guidance: float) -> Observations:
        """What was seen, read."""
        return Observations.load(self.seen(unit, guidance).folder / "seen.npz")

    def colours(self, unit: Unit, guidance: float) -> dict[str, NDArray[np.float64]]:
        """Of each picture, in the order of the observations, its saturation and its clipped share."""
        with np.load(self.seen(unit, guidance).folder / "colours.npz", allow_pickle=False) as file:
            return {name: file[name] for name in COLOURS}

    def pictures(self, unit: Unit, guidance: float) -> LabelledPictures:
        """The pictures that were drawn."""
        taxonomy = self.arena.training_set(unit.seed, Captions()).taxonomy
        return LabelledPictures.of(self._files(self.drawn(unit, guidance)), taxonomy)

    def _files(self, cell: Cell) -> dict[str, list[Path]]:
        """The files of a drawn cell by emotion; folders are numbered, since two names may become one."""
        each, folder = self.arena.each, cell.folder / "pictures"
        return {
            name: [
                folder / f"{place}-{folder_name(name)}" / f"{place * each + number:05d}.png"
                for number in range(each)
            ]
            for place, name in enumerate(self.arena.emotions)
        }

    def real(self, seed: int) -> Observations:
        """What the instruments see of real held-out pictures."""
        cell = self.real_cell(seed)
        file = cell.folder / "seen.npz"
        if not cell.done:
            with cell.claimed():  # where another process has it, both make the same
                observe(self.arena.real(seed), self.arena.instruments(seed)).save(file)
                cell.finish()
        return Observations.load(file)

    def real_cell(self, seed: int) -> Cell:
        """Its cell."""
        return self.cells.cell(
            "real", version=_SEEN, pictures=self._of_real(seed), instruments=self._of_instruments(seed)
        )

    def diverged(self, unit: Unit) -> str:
        """Why the finished fit of a unit gave nothing to draw with; "" where it did."""
        return str(self.fit(unit).facts().get(_DIVERGED, ""))

    def work(self, unit: Unit, guidances: Sequence[float], told: Callable[[str], None]) -> bool:
        """Do what is missing of a unit at these scales, but for what another process is doing.

        Returns:
            Whether all of it is finished.
        """
        fitted = self.fit(unit)
        if not self._do(fitted, lambda cell: self._make_fit(unit, cell), f"fitting {_name(unit)}", told):
            return False
        if self.diverged(unit):
            return True
        scales = [self._work_at(unit, guidance, fitted, told) for guidance in guidances]
        return all(scales)

    def _work_at(self, unit: Unit, guidance: float, fitted: Cell, told: Callable[[str], None]) -> bool:
        """The pictures at one scale, and what is seen of them."""
        where = f"{_name(unit)} at guidance {guidance:g}"

        def draw(cell: Cell) -> Mapping[str, Any]:
            return self._make_pictures(unit, guidance, fitted, cell)

        def look(cell: Cell) -> Mapping[str, Any]:
            return self._make_seen(unit, guidance, cell)

        drawn = self._do(self.drawn(unit, guidance), draw, f"drawing {where}", told)
        return drawn and self._do(self.seen(unit, guidance), look, f"looking at {where}", told)

    @staticmethod
    def _do(
        cell: Cell, make: Callable[[Cell], Mapping[str, Any]], what: str, told: Callable[[str], None]
    ) -> bool:
        """Fill a cell unless it is full; False where another process is filling it."""
        if cell.done:
            return True
        with cell.claimed() as mine:
            if mine and not cell.done:
                told(what)
                cell.finish(**make(cell))
        return cell.done

    def _make_fit(self, unit: Unit, cell: Cell) -> Mapping[str, Any]:
        config = self.config(unit).model_copy(update={"out": cell.folder / "run"})
        try:
            record = METHODS[unit.variant.method].fit(config, cell.folder / "run", self.arena.device)
        except TrainingDiverged as error:  # a result too: this setting does not work
            return {_DIVERGED: str(error)}
        return asdict(record)

    def _make_pictures(self, unit: Unit, guidance: float, fitted: Cell, cell: Cell) -> Mapping[str, Any]:
        settings, drawer = self._sampling(unit, guidance), self.drawer(unit, fitted)
        emotions = [name for name in self.arena.emotions for _ in range(self.arena.each)]
        files = [file for of_emotion in self._files(cell).values() for file in of_emotion]
        for start in range(0, len(files), _TOGETHER):
            rows = slice(start, start + _TOGETHER)
            if not all(file.exists() for file in files[rows]):
                # Picture i hangs on seed + i alone, so any part of the pictures can be drawn by itself.
                seed = _FIRST_SEED + _SEED_STRIDE * unit.seed + start
                condition = drawer.condition(emotions[rows], seed)
                drawn = drawer.generate(condition, seed, settings)
                _save(drawn, files[rows])
        return {"pictures": len(files)}

    def drawer(self, unit: Unit, fitted: Cell | None = None) -> Drawer:
        """The fitted method, ready to draw as its variant says."""
        config, run = self.config(unit), (fitted or self.fit(unit)).folder / "run"
        base, method = self.base(config), METHODS[unit.variant.method]
        embeds = drawing_embeds(unit.variant.drawing.embeds, config, self.arena.real(unit.seed))
        if embeds is not None and isinstance(method, CoEmoGen):
            return method.open(config, run, base, embeds)
        return method.open(config, run, base)

    def base(self, config: TrainConfig) -> BaseModel:
        """The base model of all rows."""
        return self._base(config.base, self.arena.device, dtype_of(config.precision))

    def _make_seen(self, unit: Unit, guidance: float, cell: Cell) -> Mapping[str, Any]:
        pictures = self.pictures(unit, guidance)
        colours = [colours_of([pictures.load(number)]) for number in range(len(pictures))]
        with atomic_path(cell.folder / "colours.npz") as part:
            arrays: dict[str, Any] = {name: np.concatenate([c[name] for c in colours]) for name in COLOURS}
            np.savez(part, **arrays)
        observe(pictures, self.arena.instruments(unit.seed)).save(cell.folder / "seen.npz")
        return {"pictures": len(pictures)}

    def _sampling(self, unit: Unit, guidance: float) -> SamplingSettings:
        branches = unit.variant.drawing.branches or self.config(unit).hilora_branches
        return replace(self.arena.sampling, guidance=guidance, hilora_branches=branches)


def folder_name(name: str) -> str:
    """An emotion's name as any file system takes it."""
    return re.sub(r"[^\w-]+", "_", name).strip("_") or "emotion"


def _save(pictures: Sequence[Image.Image], files: Sequence[Path]) -> None:
    for picture, file in zip(pictures, files, strict=True):
        with atomic_path(file) as part:
            picture.save(part, format="PNG")


def _name(unit: Unit) -> str:
    setting = "".join(f", {key} {value}" for key, value in unit.setting.items())
    return f"{unit.variant.name}, seed {unit.seed}{setting}"
