"""What a comparison found, as data: what the JSON holds, and all that the tables and the page need.

Who fills a `Comparison` decides nothing about its looks; who shows it computes nothing about a method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["reference", "baseline", "ours", "ablation"]


@dataclass(frozen=True)
class Estimate:
    """A figure over its seeds: `values`, one per seed in the order of the row's seeds; mean, and the interval
    that pictures and seeds together leave it, 95%; `errors`, of each seed the standard error over its
    pictures, where it is known. Made by `statistics.estimate`.
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class CurvePoint:
    """A row at one guidance scale: its figures there, by metric."""

    guidance: float
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Row:
    """A method, an ablation or a reference in one experiment.

    metrics: by name (fid, kid, lpips, emo_a, emo_a_second, polarity_a, sem_c, sem_d, precision, recall,
        coverage, and in worlds with narratives story and narratives), at the row's own guidance.
    seeds: of the rows' fits and draws. pictures: drawn for each seed. guidance: the scale chosen on held-in
        seeds, None where nothing is drawn under guidance. setting: the one chosen of those tried. curve: the
        row at each scale. cost: training seconds, trained parameters, peak memory in MiB (0: not measured).
    sheet: of each emotion the first few pictures of the first seed, as files under the comparison's folder.
    fits: of each seed what its fit is known by; rows that differ in drawing alone have the same.
    """

    name: str
    experiment: str
    kind: Kind
    title: str
    seeds: tuple[int, ...]
    pictures: int
    metrics: Mapping[str, Estimate]
    guidance: float | None = None
    setting: Mapping[str, Any] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()
    seconds: Estimate | None = None
    parameters: int = 0
    peak_mib: float = 0.0
    sheet: Mapping[str, Sequence[str]] = field(default_factory=dict)
    note: str = ""
    fits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """All rows of a run, and what stands around them.

    world: what the pictures are, in a sentence. emotions: in their order. facts: (what, value) pairs for the
    page: base, set, budget, sampler, versions, machine. unfinished: cells that are missing, if any.
    claims_sha256: of the claims as they stood when the run began, "" where nobody noted it. real_weights:
    whether the base has Stable Diffusion 1.5's architecture. one_set: whether all seeds share their data and
    probes. notes: sentences that a reader of the figures must know.
    """

    world: str
    protocol: str
    emotions: tuple[str, ...]
    rows: tuple[Row, ...]
    facts: tuple[tuple[str, str], ...] = ()
    unfinished: tuple[str, ...] = ()
    claims_sha256: str = ""
    real_weights: bool = False
    one_set: bool = False
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: every metric an object with mean, low, high and values, null for none."""
        told = plain_json(asdict(self))
        for row in told["rows"]:
            row.update(row.pop("metrics"))
            for point in row["curve"]:
                point.update(point.pop("metrics"))
        return told


def plain_json(value: Any) -> Any:
    """Without numbers that are not finite, for which JSON has no word."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    return value
