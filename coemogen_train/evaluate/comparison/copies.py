"""Against memorising: the nearest training pictures of what the methods drew, as parts of the report."""

from __future__ import annotations

from ...base.vision import load_vision
from ...data.cache import CacheOptions, build_cache
from ..encoders import ClipFeatures
from ..nearest import cached_features, look_for_copies, memorising_section
from ..pictures import LabelledPictures
from .engine import Engine
from .page import Section
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
    seed = row.seeds[0]
    variant = engine.variants[row.name]
    unit = Unit(variant, seed, row.setting)
    folder = engine.shop.pictures(unit, row.guidance or 1.0)
    drawn = LabelledPictures.from_folder(folder, engine.arena.emotions)
    training_set = engine.arena.training_set(seed, Captions())
    samples = training_set.samples("train", kept_only=True)
    clip = load_vision(engine.shop.config(unit).vision, engine.arena.device)
    # Only to read what the fits cached: the pictures were compared with their hashes then.
    cache = build_cache(training_set, clip=clip, options=CacheOptions(check_pictures=False))
    found = look_for_copies(
        drawn, engine.arena.real(seed), cached_features(cache, samples), ClipFeatures(clip), seed
    )
    return Section(*memorising_section(found, drawn, samples, row.title))
