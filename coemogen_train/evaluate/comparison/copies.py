"""Against memorising: the nearest training pictures of what the methods drew, as parts of the report."""

from __future__ import annotations

from ...base.vision import load_vision
from ...data.cache import CacheOptions, build_cache
from ...pages import Section
from ..nearest import cached_features, memorising, memorising_section, nearest
from .engine import Engine
from .result import Comparison, Row
from .units import Unit
from .variants import Captions

_ROWS = ("coemogen", "dreambooth")
_EXPERIMENT = "table"


def memorising_sections(engine: Engine, comparison: Comparison) -> list[Section]:
    """A part for each method of the table that could have learned pictures by heart; of its first seed."""
    rows = {row.name: row for row in comparison.rows if row.experiment == _EXPERIMENT}
    return [_section(engine, rows[name]) for name in _ROWS if name in rows]


def _section(engine: Engine, row: Row) -> Section:
    seed, guidance = row.seeds[0], row.guidance or 1.0
    unit = Unit(engine.variants[row.name], seed, row.setting)
    seen, real = engine.shop.observations(unit, guidance), engine.shop.real(seed)
    training_set = engine.arena.training_set(seed, Captions())
    samples = training_set.samples("train", kept_only=True)
    # Only to read what the fits cached: the pictures were compared with their hashes then.
    clip = load_vision(engine.shop.config(unit).vision, engine.arena.device)
    cache = build_cache(training_set, clip=clip, options=CacheOptions(check_pictures=False))

    drawn, held_out = (nearest(side.clip, cached_features(cache, samples)) for side in (seen, real))
    found = memorising(drawn, seen.emotions, held_out, len(samples), seed=seed)
    return memorising_section(found, engine.shop.pictures(unit, guidance), samples, row.title)
