"""From finished cells to the comparison's rows."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from ...methods import METHODS
from .engine import Choice, Engine
from .result import Comparison, CurvePoint, Estimate, Row
from .statistics import estimates
from .units import Unit
from .variants import Captions, Experiment, Variant

_SHOWN = 4
_VERSIONS = ("torch", "diffusers", "transformers")


def comparison_of(engine: Engine, claims_sha256: str = "") -> Comparison:
    """All rows whose cells are finished, and the names of those that are not."""
    rows, unfinished = [], []
    for experiment in engine.experiments:
        if experiment.guidances == "curve":
            rows.append(_reference(engine, experiment))
        for variant in experiment.variants:
            choice = engine.choice(variant)
            seeds = _finished_seeds(engine, experiment, variant, choice)
            missing = [seed for seed in engine.seeds if seed not in seeds]
            unfinished += [_told(engine, experiment, variant, choice, seed) for seed in missing]
            if choice is not None and seeds:
                rows.append(_row(engine, experiment, variant, choice, seeds))
    return Comparison(
        world=engine.arena.world,
        protocol="fixed",
        emotions=engine.arena.emotions,
        rows=tuple(rows),
        facts=_facts(engine),
        unfinished=tuple(unfinished),
        claims_sha256=claims_sha256,
        real_weights=engine.arena.real_weights,
        one_set=engine.arena.one_set,
        notes=engine.arena.notes,
    )


def _finished_seeds(
    engine: Engine, experiment: Experiment, variant: Variant, choice: Choice | None
) -> tuple[int, ...]:
    if choice is None:
        return ()
    guidances = engine.guidances(experiment, variant, choice)

    def finished(seed: int) -> bool:
        unit = Unit(variant, seed, choice.setting)
        if not engine.shop.fit(unit).done or engine.shop.diverged(unit):
            return False
        return all(engine.shop.seen(unit, guidance).done for guidance in guidances)

    return tuple(seed for seed in engine.seeds if finished(seed))


def _told(engine: Engine, experiment: Experiment, variant: Variant, choice: Choice | None, seed: int) -> str:
    """What is missing, and why where that is known."""
    told = f"{experiment.name}/{variant.name}, seed {seed}"
    if choice is None:
        return told
    unit = Unit(variant, seed, choice.setting)
    why = engine.shop.diverged(unit) if engine.shop.fit(unit).done else ""
    return f"{told}: {why}" if why else told


def _row(
    engine: Engine, experiment: Experiment, variant: Variant, choice: Choice, seeds: tuple[int, ...]
) -> Row:
    guidances = engine.guidances(experiment, variant, choice)
    points = {g: _metrics(engine, variant, choice, seeds, g) for g in guidances}
    curve = tuple(CurvePoint(g, points[g]) for g in guidances) if len(guidances) > 1 else ()
    units = [Unit(variant, seed, choice.setting) for seed in seeds]
    costs = [engine.shop.fit(unit).facts() for unit in units]
    best = choice.guidance if choice.guidance in points else guidances[0]
    return Row(
        name=variant.name,
        experiment=experiment.name,
        kind=variant.kind,
        title=variant.title,
        seeds=seeds,
        pictures=engine.arena.each * len(engine.arena.emotions),
        metrics=points[best],
        guidance=best,
        setting={key: variant.fit.get(key, value) for key, value in choice.setting.items()},
        fits=tuple(engine.shop.fit(unit).key for unit in units),
        curve=curve,
        seconds=_over_seeds([float(cost["seconds"]) for cost in costs]),
        parameters=int(costs[0]["parameters"]),
        peak_mib=max(cost["peak_bytes"] for cost in costs) / 2**20,
        sheet=_sheet(engine, units[0], best),
        note=variant.note or METHODS[variant.method].note,
    )


def _metrics(
    engine: Engine, variant: Variant, choice: Choice, seeds: Sequence[int], guidance: float
) -> dict[str, Estimate]:
    return estimates([engine.figures(Unit(variant, seed, choice.setting), guidance) for seed in seeds])


def _over_seeds(values: Sequence[float]) -> Estimate:
    """Their mean and range: what one machine took tells nothing of another's."""
    return Estimate(sum(values) / len(values), min(values), max(values), tuple(values))


def _reference(engine: Engine, experiment: Experiment) -> Row:
    """Real held-out pictures, measured as all others are; no distance to themselves."""
    of_seeds = [engine.real_figures(seed) for seed in engine.seeds]
    real = engine.arena.real(engine.seeds[0])
    return Row(
        name="real",
        experiment=experiment.name,
        kind="reference",
        title="real, held out",
        seeds=engine.seeds,
        pictures=len(real.paths),
        metrics=estimates(of_seeds),
    )


def _sheet(engine: Engine, unit: Unit, guidance: float) -> dict[str, list[str]]:
    """Of each emotion the first pictures that are still there."""
    pictures = engine.shop.pictures(unit, guidance)
    found: dict[str, list[str]] = {name: [] for name in engine.arena.emotions}
    for name, path in zip(pictures.emotions, pictures.paths, strict=True):
        if len(found[name]) < _SHOWN and path.exists():
            found[name].append(path.relative_to(engine.out).as_posix())
    return found


def _facts(engine: Engine) -> tuple[tuple[str, str], ...]:
    arena = engine.arena
    config = arena.config(engine.seeds[0], Captions())
    samples = config.steps * config.batch_size * config.accumulate
    sampling = arena.sampling
    scales = ", ".join(f"{g:g}" for g in arena.guidances)
    return (
        ("base", config.base),
        ("budget", f"{samples:,} training samples altogether, {config.steps:,} steps of {config.batch_size}"),
        ("seeds", ", ".join(map(str, engine.seeds))),
        ("pictures", f"{arena.each} of each emotion for every row, seed and scale"),
        ("sampler", f"{sampling.scheduler}, {sampling.steps} steps; guidance tried: {scales}"),
        ("versions", ", ".join(f"{name} {_version(name)}" for name in _VERSIONS)),
        ("machine", f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"),
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"
