"""Runs the analyses that are asked for; what is finished is read, and what was seen is not drawn again."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...base.sampling import SamplingSettings
from ...errors import DataError
from ...files import atomic_write_text, canonical_json
from .content import ContentGrid, ContentSet, content_grid, content_runs
from .drawing import Observer
from .entry import Entry, entry, entry_runs
from .intensity import INTENSITIES, Intensity, intensity, intensity_runs
from .sections import Result
from .swap import Swap, VAlone, probe_on_v, swap, swap_runs

Name = Literal["entry", "swap", "content", "intensity"]
NAMES: tuple[Name, ...] = get_args(Name)
VERSION = 2
"""Raised whenever an analysis would come out otherwise."""

_KIND: dict[Name, type] = {"entry": Entry, "swap": Swap, "content": ContentGrid, "intensity": Intensity}
# An emotion's pictures begin here, away from the seeds on which settings are chosen.
_STREAM = 30_000_000


@dataclass(frozen=True)
class Plan:
    """How much is drawn, and how.

    count: pictures of each emotion in "entry" and "intensity"; a quarter of it, at least one, for each pair
        of "swap" and each cell of "content". stretches: of "entry". draws: v of each emotion for the probe
        on v alone. intensities: of "intensity". content_intensities: of "content", the first is the one that
        is compared with the base.
    """

    settings: SamplingSettings
    contents: ContentSet
    count: int = 8
    seed: int = 0
    stretches: int = 8
    draws: int = 200
    intensities: tuple[float, ...] = INTENSITIES
    content_intensities: tuple[float, ...] = (1.0, 0.5)

    @property
    def each(self) -> int:
        """Pictures of a pair or a cell."""
        return max(1, self.count // 4)


def run_analyses(
    observer: Observer,
    plan: Plan,
    only: Sequence[Name],
    out: Path,
    progress: Callable[[Name, int, int], None] | None = None,
) -> dict[str, tuple[Result, ...]]:
    """Run analyses, or read those that are finished in `out` under the same plan.

    Leaves NAME.json for each.

    Arguments:
        progress: told (analysis, orders done, orders in all); an order is some pictures drawn together.

    Returns:
        By analysis its results, one for each probe, the paper's first.
    """
    done: dict[str, tuple[Result, ...]] = {}
    for name in only:
        file, key = out / f"{name}.json", _key(observer, plan, name)
        kept = _finished(file, name, key)
        if kept is None:
            if progress is not None:
                observer.observed = _counter(progress, name, _orders(plan, name))
            kept = _RUN[name](observer, plan)
            told = {"key": key, "results": [result.to_dict() for result in kept]}
            atomic_write_text(file, json.dumps(told, indent=1, allow_nan=False) + "\n")
        done[name] = kept
    return done


def _orders(plan: Plan, name: Name) -> int:
    return {
        "entry": 2 + 6 * plan.stretches,
        "swap": 3,
        "content": len(plan.contents.contents) * (len(plan.content_intensities) + 2),
        "intensity": 3 * len(plan.intensities),
    }[name]


def _counter(progress: Callable[[Name, int, int], None], name: Name, total: int) -> Callable[[], None]:
    done = itertools.count(1)
    progress(name, 0, total)
    return lambda: progress(name, next(done), total)


def read_analyses(file: Path) -> dict[str, tuple[Result, ...]]:
    """The results in an `analyses.json`, for a page.

    Raises:
        DataError: the file is none.
    """
    try:
        told = json.loads(file.read_text(encoding="utf-8"))["analyses"]
        return {name: _results(name, told[name]) for name in NAMES if name in told}
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{file}: no analyses can be read ({reason}): run `analyse` again.") from None


def _finished(file: Path, name: Name, key: str) -> tuple[Result, ...] | None:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return _results(name, told["results"]) if told["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _results(name: Name, told: Sequence[Mapping[str, Any]]) -> tuple[Result, ...]:
    from pydantic import TypeAdapter

    adapter: Any = TypeAdapter(_KIND[name])
    return tuple(adapter.validate_python(result) for result in told)


def _key(observer: Observer, plan: Plan, name: Name) -> str:
    """What the results hang on."""
    told: dict[str, Any] = {
        "version": VERSION,
        "identity": observer.identity,
        "probes": observer.probes,
        "settings": repr(plan.settings),
        "count": plan.count,
        "seed": plan.seed,
    }
    own: dict[Name, dict[str, Any]] = {
        "entry": {"stretches": plan.stretches},
        "swap": {"draws": plan.draws},
        "content": {"contents": repr(plan.contents), "intensities": plan.content_intensities},
        "intensity": {"intensities": plan.intensities},
    }
    return hashlib.sha256(canonical_json(told | own[name]).encode("utf-8")).hexdigest()


def _backbones(observer: Observer) -> dict[str, str]:
    return {name: looking.probe.backbone for name, looking in observer.instruments.probes.items()}


def _run_entry(observer: Observer, plan: Plan) -> tuple[Result, ...]:
    runs = entry_runs(observer, plan.settings, plan.count, plan.seed + _STREAM, plan.stretches)
    return tuple(
        entry(runs, observer.taxonomy, probe, backbone, plan.settings.steps, plan.seed)
        for probe, backbone in _backbones(observer).items()
    )


def _run_swap(observer: Observer, plan: Plan) -> tuple[Result, ...]:
    runs = swap_runs(observer, plan.settings, plan.each, plan.seed + 2 * _STREAM)
    results = []
    for probe, backbone in _backbones(observer).items():
        alone: VAlone | None = None
        if probe == "clip":  # another's features may be as wide and mean other things
            looking = observer.instruments.probes[probe]
            alone = probe_on_v(observer, looking, plan.draws, plan.seed + 3 * _STREAM)
        results.append(swap(runs, observer.taxonomy, probe, backbone, plan.seed, alone))
    return tuple(results)


def _run_content(observer: Observer, plan: Plan) -> tuple[Result, ...]:
    runs = content_runs(
        observer,
        plan.contents,
        plan.settings,
        plan.each,
        plan.seed + 4 * _STREAM,
        plan.content_intensities,
    )
    texts = observer.instruments.clip.encode_texts([content.text for content in plan.contents.contents])
    return tuple(
        content_grid(runs, plan.contents, texts.numpy(), observer.taxonomy, probe, backbone, plan.seed)
        for probe, backbone in _backbones(observer).items()
    )


def _run_intensity(observer: Observer, plan: Plan) -> tuple[Result, ...]:
    runs = intensity_runs(observer, plan.settings, plan.count, plan.seed + 5 * _STREAM, plan.intensities)
    return tuple(
        intensity(runs, observer.taxonomy, probe, backbone, plan.seed)
        for probe, backbone in _backbones(observer).items()
    )


_RUN: dict[Name, Callable[[Observer, Plan], tuple[Result, ...]]] = {
    "entry": _run_entry,
    "swap": _run_swap,
    "content": _run_content,
    "intensity": _run_intensity,
}
