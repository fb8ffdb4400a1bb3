"""The comparison itself: settings are chosen on held-in seeds, then every row is fitted, drawn and looked at.

Every row sees the same data, base, budget and seeds. The few settings of a method, and its guidance, are
chosen by the pictures of a held-in seed and by probes that the table does not use. All work is in cells
(`cells`), so an interrupted comparison goes on, and several processes share one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from ...errors import UserError
from ...methods import METHODS
from ..figures import figures
from ..intervals import Interval, bootstrap_mean
from .arena import HELD_IN, Arena
from .units import Unit, Workshop
from .variants import Experiment, Variant

_WAIT = 2.0
_FIGURES = 2  # raised whenever figures of the same observations would come out otherwise


@dataclass(frozen=True)
class Choice:
    """What was chosen for a variant on the held-in seed, and the score of every candidate there."""

    setting: Mapping[str, Any]
    guidance: float
    scores: tuple[tuple[Mapping[str, Any], float, float], ...]


@dataclass(frozen=True)
class Job:
    """A unit with the scales at which it is drawn."""

    unit: Unit
    guidances: tuple[float, ...]


class Engine:
    """A comparison in an arena, kept under `out`."""

    def __init__(
        self, arena: Arena, out: Path, seeds: Sequence[int], experiments: Sequence[Experiment]
    ) -> None:
        self.arena, self.out = arena, out
        self.seeds, self.experiments = tuple(seeds), tuple(experiments)
        self.shop = Workshop(arena, out)
        self._choices: dict[str, Choice] = {}

    def work(self, told: Callable[[str], None], wait: bool = True) -> bool:
        """Do all that is missing, sharing it with whoever else does.

        wait: for what others have in hand; otherwise return where nothing is left to take.
        Returns: whether everything is finished.
        """
        while True:
            all_chosen = self._all_chosen()  # else another round follows, with what is chosen by then
            jobs = [*self._trials(), *self._jobs()]
            if all([self.shop.work(job.unit, job.guidances, told) for job in jobs]):
                if all_chosen:
                    return True
            elif wait:
                time.sleep(_WAIT)
            else:
                return False

    def count(self) -> tuple[int, int]:
        """Cells that are finished, and all that are known of so far."""
        cells = {}
        for job in [*self._trials(), *self._jobs()]:
            of_unit = [self.shop.fit(job.unit)]
            for guidance in job.guidances:
                of_unit += [self.shop.drawn(job.unit, guidance), self.shop.seen(job.unit, guidance)]
            cells.update({cell.key: cell for cell in of_unit})
        return sum(cell.done for cell in cells.values()), len(cells)

    @property
    def variants(self) -> dict[str, Variant]:
        """Every variant of the experiments, by name, and those whose choices they follow."""
        found = {v.name: v for experiment in self.experiments for v in experiment.variants}
        for variant in [*found.values()]:
            if variant.like is not None and variant.like not in found:
                found[variant.like] = known_variant(variant.like)
        return found

    def choice(self, variant: Variant) -> Choice | None:
        """The setting and the guidance of a variant; None while its trials are unfinished.

        Raises:
            UserError: every setting of its method diverged.
        """
        owner = variant if variant.tries or variant.own_guidance else self.variants[str(variant.like)]
        if owner.name not in self._choices:
            settings = self._settings(owner)
            trials = [Unit(owner, HELD_IN, setting) for setting in settings or ()]
            if settings is None or not all(self._tried(unit) for unit in trials):
                return None
            scores = [
                (unit.setting, guidance, self._score(unit, guidance))
                for unit in trials
                if not self.shop.diverged(unit)
                for guidance in self.arena.guidances
            ]
            if not scores:
                raise UserError(f"{owner.title}: training diverged under every setting that was tried.")
            setting, guidance, _ = max(scores, key=lambda entry: entry[2])  # of equals the first
            self._choices[owner.name] = Choice(setting, guidance, tuple(scores))
        return self._choices[owner.name]

    def _settings(self, owner: Variant) -> Sequence[Mapping[str, Any]] | None:
        """The settings among which a variant's are chosen; None while another's choice is awaited."""
        if owner.like is None:
            return METHODS[owner.method].tried
        followed = self.choice(self.variants[owner.like])
        return None if followed is None else (followed.setting,)

    def _tried(self, unit: Unit) -> bool:
        """Whether a trial is finished."""
        if not self.shop.fit(unit).done:
            return False
        return bool(self.shop.diverged(unit)) or all(
            self.shop.seen(unit, guidance).done for guidance in self.arena.guidances
        )

    def guidances(self, experiment: Experiment, variant: Variant, choice: Choice) -> tuple[float, ...]:
        """The scales at which a row is drawn; an ablation has no curve, but the scale of the whole method."""
        scales = experiment.guidances
        if scales == "chosen" or (scales == "curve" and variant.kind == "ablation"):
            return (choice.guidance,)
        return self.arena.guidances if scales == "curve" else scales

    def _score(self, unit: Unit, guidance: float) -> float:
        """How a held-in unit does: the mean of its probes' accuracies."""
        seen = self.shop.observations(unit, guidance)
        return mean(float(right.mean()) for right in seen.right().values())

    def _trials(self) -> list[Job]:
        """The held-in units by which settings are chosen."""
        owners = [v for v in self.variants.values() if v.tries or v.own_guidance]
        return [
            Job(Unit(variant, HELD_IN, setting), self.arena.guidances)
            for variant in owners
            if variant.name not in self._choices
            for setting in self._settings(variant) or ()
        ]

    def _jobs(self) -> list[Job]:
        """The units of the tables whose settings are chosen: all rows of a seed before the next seed's."""
        jobs = []
        for seed in self.seeds:
            for experiment in self.experiments:
                for variant in experiment.variants:
                    if (choice := self.choice(variant)) is not None:
                        unit = Unit(variant, seed, choice.setting)
                        jobs.append(Job(unit, self.guidances(experiment, variant, choice)))
        return jobs

    def _all_chosen(self) -> bool:
        return all(self.choice(variant) is not None for variant in self.variants.values())

    def figures(self, unit: Unit, guidance: float) -> dict[str, Interval]:
        """The figures of a unit's pictures at one scale, with what can be said of their colours."""
        return self._kept(
            lambda: self._figures(unit, guidance),
            seen=self.shop.seen(unit, guidance).key,
            real=self.shop.real_cell(unit.seed).key,
        )

    def real_figures(self, seed: int) -> dict[str, Interval]:
        """Those of the real held-out pictures, without any distance to themselves."""
        real = self.shop.real_cell(seed).key
        return self._kept(lambda: figures(self.shop.real(seed), None, seed=seed), real=real)

    def _figures(self, unit: Unit, guidance: float) -> dict[str, Interval]:
        seen = self.shop.observations(unit, guidance)
        colours = {
            name: bootstrap_mean(values, seen.emotions, seed=unit.seed)
            for name, values in self.shop.colours(unit, guidance).items()
        }
        return {**figures(seen, self.shop.real(unit.seed), seed=unit.seed), **colours}

    def _kept(self, make: Callable[[], dict[str, Interval]], **depends: Any) -> dict[str, Interval]:
        """Figures that are computed once; the bootstrap takes seconds."""
        cell = self.shop.cells.cell("figures", version=_FIGURES, **depends)
        if not cell.done:
            cell.finish(**{name: asdict(interval) for name, interval in make().items()})
        return {name: Interval(**told) for name, told in cell.facts().items()}


def known_variant(name: str) -> Variant:
    """A variant of the experiments, by name."""
    from .variants import EXPERIMENTS

    return next(v for experiment in EXPERIMENTS.values() for v in experiment.variants if v.name == name)
