"""What the figures of a table are: their names, which way is better, how they are written.

A figure that is not listed is shown all the same, under its own name and with no direction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..captions import shown
from .result import Estimate

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Measure:
    """A figure. bounds: that it cannot leave, and no interval of it. tells: a sentence for readers."""

    name: str
    title: str
    better: Better
    digits: int
    bounds: tuple[float, float]
    tells: str

    def written(self, value: float, sign: bool = False) -> str:
        """The figure with its digits, a dash where there is none; sign: with a plus where it is positive."""
        if not math.isfinite(value):
            return shown(None)
        text = f"{value:{'+' if sign else ''}.{self.digits}f}"
        return text.replace("-", "\N{MINUS SIGN}")

    def interval(self, figure: Estimate) -> str:
        """ "0.78 to 0.84"; empty where nothing is known of the interval."""
        if not (math.isfinite(figure.low) and math.isfinite(figure.high)):
            return ""
        return f"{self.written(figure.low)} to {self.written(figure.high)}"

    def told(self, figure: Estimate | None) -> str:
        """ "0.81 (0.78 to 0.84)"."""
        if figure is None:
            return shown(None)
        interval = self.interval(figure)
        return f"{self.written(figure.mean)} ({interval})" if interval else self.written(figure.mean)


_SHARE, _POSITIVE = (0.0, 1.0), (0.0, math.inf)
_ANY = (-math.inf, math.inf)

_ALL = (
    Measure(
        "emo_a",
        "Emo-A",
        "higher",
        2,
        _SHARE,
        "the share of pictures in which the probe on CLIP features sees the emotion that was asked for",
    ),
    Measure(
        "emo_a_second",
        "Emo-A, second probe",
        "higher",
        2,
        _SHARE,
        "the same by a probe on another backbone, which conditions no generator and filters no data",
    ),
    Measure(
        "polarity_a",
        "Polarity",
        "higher",
        2,
        _SHARE,
        "the share seen with the polarity asked for",
    ),
    Measure(
        "polarity_a_second",
        "Polarity, second probe",
        "higher",
        2,
        _SHARE,
        "the same by the second probe",
    ),
    Measure(
        "fid",
        "FID",
        "lower",
        2,
        _POSITIVE,
        "Fr\N{LATIN SMALL LETTER E WITH ACUTE}chet distance to real pictures; it falls as pictures are added",
    ),
    Measure("kid", "KID", "lower", 4, _ANY, "kernel distance to real pictures, free of that fall"),
    Measure(
        "lpips",
        "LPIPS",
        "higher",
        3,
        _POSITIVE,
        "perceptual distance of pictures of one emotion; noise is diverse too",
    ),
    Measure("sem_c", "Sem-C", "higher", 3, _SHARE, "how sure classifiers of objects and scenes are"),
    Measure(
        "sem_d",
        "Sem-D",
        "higher",
        4,
        _POSITIVE,
        "squared distance of CLIP features of pictures of one emotion",
    ),
    Measure("precision", "Precision", "higher", 2, _SHARE, "the share of pictures that could be real ones"),
    Measure("recall", "Recall", "higher", 2, _SHARE, "the share of real pictures that could have been drawn"),
    Measure(
        "density",
        "Density",
        "higher",
        2,
        _POSITIVE,
        "how close pictures lie to real ones; 1 for real ones",
    ),
    Measure(
        "coverage",
        "Coverage",
        "higher",
        2,
        _SHARE,
        "the share of real pictures with a drawn one close by: a method that repeats one scene scores low",
    ),
    Measure(
        "coverage_within",
        "Coverage, own emotion",
        "higher",
        2,
        _SHARE,
        "the same within each emotion, so that pictures of another emotion cover nothing",
    ),
    Measure("story", "Story", "higher", 2, _SHARE, "the share of pictures with a story of their emotion"),
    Measure("narratives", "Narratives", "higher", 1, _POSITIVE, "stories of an emotion that pictures tell"),
    Measure("alignment", "Alignment", "higher", 3, (-1.0, 1.0), "CLIP similarity of picture and prompt"),
    Measure("saturation", "Saturation", "", 2, _SHARE, "mean saturation of the colours"),
    Measure("clipped", "Clipped", "lower", 3, _SHARE, "the share of pixels at the end of their range"),
)

MEASURES: dict[str, Measure] = {measure.name: measure for measure in _ALL}
"""By name, in the order of the tables."""


def measure(name: str) -> Measure:
    """The measure of that name, or one that says no more than its name."""
    return MEASURES.get(name) or Measure(name, name.replace("_", " "), "", 3, _ANY, "")


def in_order(names: Iterable[str], keep: bool = False) -> list[Measure]:
    """The measures of these names: the known ones first, in the order of the tables; or as they are given."""
    given = list(dict.fromkeys(names))
    order = list(MEASURES)
    if not keep:
        given.sort(key=lambda name: order.index(name) if name in MEASURES else len(order))
    return [measure(name) for name in given]
