"""The claims, written down before the run, and what the data says of each.

A claim is tested where its two rows share seeds; all claims that a run can test are corrected together.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from ...errors import ConfigError
from .measures import Measure, measure
from .result import Comparison, Estimate, Row
from .statistics import PairedTest, Pool, holm, paired_test, pooled

Verdict = Literal["supported", "contradicted", "not decided", "not tested"]

DECIDED_BELOW = 0.05
"""What a corrected p must be below."""


@dataclass(frozen=True)
class Claim:
    """`first` has a higher, or lower, `metric` than `second`, by more than `minimum`, in that experiment."""

    id: str
    sentence: str
    metric: str
    better: Literal["higher", "lower"]
    first: str
    second: str
    experiment: str = "table"
    group: str = ""
    minimum: float = 0.0

    @property
    def sign(self) -> int:
        """Of the differences that speak for the claim."""
        return 1 if self.better == "higher" else -1


@dataclass(frozen=True)
class Claims:
    """The claims of a file. sha256: of its text with plain line ends, by which a run shows that it knew them
    before.
    """

    claims: tuple[Claim, ...]
    sha256: str


@dataclass(frozen=True)
class Judged:
    """A claim with what the data says. test: first - second; p: corrected, None where nothing was tested."""

    claim: Claim
    verdict: Verdict
    sentence: str
    test: PairedTest | None = None
    p: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        told: dict[str, Any] = {field.name: getattr(self.claim, field.name) for field in fields(Claim)}
        told |= {"verdict": self.verdict, "says": self.sentence}
        if self.test is not None:
            test = self.test
            told["test"] = {
                "difference": {"mean": test.difference, "low": test.low, "high": test.high},
                "differences": list(test.differences),
                "seeds": test.seeds,
                "p": test.p,
                "p_corrected": self.p,
                "p_own_spread": test.pair,
                "p_sign_flip": test.exact,
            }
        return told


def load_claims(path: Path | None = None) -> Claims:
    """The claims of a file, of the package's own without one.

    Raises:
        ConfigError: the file cannot be read, or a claim in it is incomplete or impossible.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    where = path or files(__package__) / "claims" / "paper.toml"
    try:
        text = where.read_text(encoding="utf-8")
        entries = tomllib.loads(text).get("claim", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{where}: the claims cannot be read ({error}); give a TOML file in UTF-8."
        ) from None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{where}: it holds no claims; write at least one [[claim]].")
    claims = tuple(_claim(entry, f"{where}, claim {number}") for number, entry in enumerate(entries, 1))
    ids = [claim.id for claim in claims]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise ConfigError(f"{where}: two claims have the id '{twice}'; give each its own.")
    plain = "\n".join(text.splitlines())
    return Claims(claims, hashlib.sha256(plain.encode("utf-8")).hexdigest())


def judge(claims: Claims, comparison: Comparison) -> tuple[Judged, ...]:
    """What the data says of every claim, in their order."""
    rows = {(row.experiment, row.name): row for row in comparison.rows}
    tests = {claim.id: _tested(claim, rows) for claim in claims.claims}
    testable = {name: test for name, test in tests.items() if test is not None and test.seeds > 1}
    corrected = dict(zip(testable, holm([test.p for test in testable.values()]), strict=True))
    return tuple(
        _judged(claim, tests[claim.id], corrected.get(claim.id), len(testable), rows)
        for claim in claims.claims
    )


_Rows = dict[tuple[str, str], Row]


def _claim(entry: Mapping[str, Any], where: str) -> Claim:
    kinds = {field.name: float if field.name == "minimum" else str for field in fields(Claim)}
    needed = {"id", "sentence", "metric", "better", "first", "second"}
    if not isinstance(entry, Mapping) or not needed <= set(entry) <= set(kinds):
        raise ConfigError(f"{where}: a claim has {', '.join(sorted(needed))} and at most {', '.join(kinds)}.")
    given = {key: float(v) if key == "minimum" and type(v) is int else v for key, v in entry.items()}
    if not all(isinstance(value, kinds[key]) for key, value in given.items()):
        raise ConfigError(f"{where}: 'minimum' is a number, everything else a text.")
    claim = Claim(**given)  # type: ignore[arg-type]
    if claim.better not in ("higher", "lower") or not 0 <= claim.minimum < math.inf:
        raise ConfigError(f"{where}: 'better' is \"higher\" or \"lower\", 'minimum' a number not below 0.")
    return claim


def _shared(claim: Claim, rows: _Rows) -> tuple[Estimate, Estimate] | None:
    """The figures of both rows at the seeds that they share; None where there are none."""
    pair = [rows.get((claim.experiment, name)) for name in (claim.first, claim.second)]
    if any(row is None or claim.metric not in row.metrics for row in pair):
        return None
    first, second = (row for row in pair if row is not None)
    seeds = _common(first, second)
    chosen = tuple(_at(row, row.metrics[claim.metric], seeds) for row in (first, second))
    if not seeds or not all(map(math.isfinite, chosen[0].values + chosen[1].values)):
        return None
    return chosen[0], chosen[1]


def _at(row: Row, figure: Estimate, seeds: list[int]) -> Estimate:
    """A figure at some of its row's seeds."""
    if len(figure.values) != len(row.seeds):
        return Estimate(math.nan, math.nan, math.nan, (math.nan,) * len(seeds))
    places = [row.seeds.index(seed) for seed in seeds]
    values = tuple(figure.values[place] for place in places)
    errors = tuple(figure.errors[place] for place in places) if figure.errors else ()
    return Estimate(sum(values) / len(values) if values else math.nan, math.nan, math.nan, values, errors)


def _tested(claim: Claim, rows: _Rows) -> PairedTest | None:
    shared = _shared(claim, rows)
    if shared is None:
        return None
    return paired_test(*shared, margin=claim.sign * claim.minimum, pool=_pool(claim, rows))


def _pool(claim: Claim, rows: _Rows) -> Pool | None:
    """The spread of all rows that have the claim's seeds, but for real pictures. Rows of one fit, which move
    together, count once: as a row of the claim where one is among them, or else as the first of them.
    """
    pair = [rows[claim.experiment, name] for name in (claim.first, claim.second)]
    seeds = _common(*pair)
    of_fits: dict[tuple[str, ...], tuple[float, ...]] = {}
    for row in (*pair, *rows.values()):
        if row.kind == "reference" or claim.metric not in row.metrics or not set(seeds) <= set(row.seeds):
            continue
        values = _at(row, row.metrics[claim.metric], seeds).values
        if all(map(math.isfinite, values)):
            of_fits.setdefault(_fits(row, seeds), values)
    return pooled([*of_fits.values()])


def _fits(row: Row, seeds: list[int]) -> tuple[str, ...]:
    """By which a row's fits are known; where it does not say, its name stands for them."""
    if len(row.fits) != len(row.seeds):
        return (row.name,)
    return tuple(row.fits[row.seeds.index(seed)] for seed in seeds)


def _common(first: Row, second: Row) -> list[int]:
    return [seed for seed in first.seeds if seed in second.seeds]


def _judged(claim: Claim, test: PairedTest | None, p: float | None, count: int, rows: _Rows) -> Judged:
    shared = _shared(claim, rows)
    if test is None or shared is None:
        return Judged(claim, "not tested", "This run does not have both rows with this figure.")
    towards = claim.sign * test.difference - claim.minimum
    verdict: Verdict = "not decided"
    if p is not None and p < DECIDED_BELOW:
        verdict = "supported" if towards > 0 else "contradicted"
    first, second = (rows[claim.experiment, name] for name in (claim.first, claim.second))
    told = _numbers(measure(claim.metric), [first.title, second.title], shared, test)
    told += _apart(first, second)
    return Judged(claim, verdict, f"{told} {_decision(claim, verdict, test, p, count)}", test, p)


def _apart(first: Row, second: Row) -> str:
    """What rows that were not drawn or fitted alike stand at."""
    if (first.guidance, first.setting) == (second.guidance, second.setting):
        return ""
    return f" {first.title} stands at {_standing(first)}; {second.title} at {_standing(second)}."


def _standing(row: Row) -> str:
    setting = "".join(f", {key} {value}" for key, value in row.setting.items())
    return ("no guidance" if row.guidance is None else f"guidance {row.guidance:g}") + setting


def _numbers(kind: Measure, titles: list[str], shared: tuple[Estimate, Estimate], test: PairedTest) -> str:
    first, second = (kind.written(figure.mean) for figure in shared)
    low, difference, high = (
        kind.written(value, sign=True) for value in (test.low, test.difference, test.high)
    )
    interval = f" (95% interval {low} to {high})" if math.isfinite(test.low) else ""
    seeds = "1 seed" if test.seeds == 1 else f"{test.seeds} seeds"
    return (
        f"{kind.title} {first} for {titles[0]}, {second} for {titles[1]}: "
        f"{difference}{interval} over {seeds}."
    )


def _decision(claim: Claim, verdict: Verdict, test: PairedTest, p: float | None, count: int) -> str:
    if p is None:
        return "Not decidable with 1 seed: how far the figures move with the seed is not known."
    corrected = f", corrected for {count} claims {_p(p)}" if count > 1 else ""
    against = f", against a difference of {claim.minimum:g}" if claim.minimum else ""
    said = f"p {_p(test.p)}{against}{corrected}"
    if verdict != "not decided":
        return f"{verdict.capitalize()}: {said}."
    lowest, highest = measure(claim.metric).bounds
    least = test.detectable(DECIDED_BELOW / count)
    if least >= highest - lowest:
        return f"Not decidable with {test.seeds} seeds: at this spread no difference would be; {said}."
    return f"Not decided: {said}; at this spread {test.seeds} seeds decide differences above {least:.2g}."


def _p(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
