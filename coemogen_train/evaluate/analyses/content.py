"""Content and emotion together: is the street still a street, and does it evoke fear?

A grid of neutral contents x emotions. A content is kept where CLIP finds it in the picture, an emotion hit
where the probe sees it; the joint score is the share of pictures with both, as EmoCtrl has it (EC-A).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ...base.sampling import SamplingSettings
from ...emotions import Taxonomy
from ..intervals import Interval
from .drawing import BareOrder, FloatArray, Observer, Order, Readings, right_emotion
from .resamples import Resamples, percentiles

EMOCTRL = 50.99
"""EmoCtrl's own joint score: SDXL, 76 contents, another head; no figure of ours stands on that scale."""

Kind = Literal["element", "caption"]


@dataclass(frozen=True)
class Content:
    """A neutral content: the words of the prompt, and the text by which CLIP looks for it.

    kind: an element is found among the others' texts; a caption by its similarity alone.
    """

    prompt: str
    text: str
    kind: Kind = "element"


@dataclass(frozen=True)
class ContentSet:
    """The contents of a grid, and when one counts as kept.

    top: of the elements, among so many nearest. cosine: of the captions, above it.
    """

    contents: tuple[Content, ...]
    top: int = 5
    cosine: float = 0.15

    @property
    def chance(self) -> float:
        """How often a picture of anything keeps an element."""
        elements = sum(content.kind == "element" for content in self.contents)
        return min(1.0, self.top / elements) if elements else 0.0


@dataclass(frozen=True)
class ContentRow:
    """A way of drawing the grid: shares of pictures, in all and by content and emotion; intervals are over
    contents and their pictures.

    kept, hit, joint: the content, the emotion, both. surplus: joint less what kept and hit would give if one
    had nothing to do with the other. grid: [C][E], joint; None where no emotion was asked for.
    """

    key: str
    title: str
    pictures: int
    kept: Interval
    hit: Interval
    joint: Interval
    surplus: Interval
    kept_of: tuple[float, ...]
    grid: tuple[tuple[float, ...], ...] | None


@dataclass(frozen=True)
class ContentGrid:
    """The answer by one probe. gain: of the adapter's joint score over the prompted base's."""

    probe: str
    backbone: str
    contents: tuple[str, ...]
    emotions: tuple[str, ...]
    top: int
    chance: float
    rows: tuple[ContentRow, ...]
    gain: Interval

    def row(self, key: str) -> ContentRow:
        """The row called `key`."""
        return next(row for row in self.rows if row.key == key)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True)
class GridRun:
    """A way of drawing the grid, with what was seen: one Readings per content.

    emotions: [n] asked for, the same of every content; None: none was.
    """

    key: str
    title: str
    emotions: tuple[str, ...] | None
    readings: tuple[Readings, ...]


def content_runs(
    observer: Observer,
    contents: ContentSet,
    settings: SamplingSettings,
    each: int,
    seed: int,
    intensities: Sequence[float] = (1.0, 0.5),
) -> tuple[GridRun, ...]:
    """Draw the grid: `each` pictures a cell by the adapter at each intensity, and by the base prompted
    "CONTENT, NAME"; and by the base prompted with the content alone, `each` pictures a content.

    The first intensity is the one that `gain` is told of.
    """
    names = observer.taxonomy.names
    emotions = tuple(name for _ in range(each) for name in names)
    # Every content has noise of its own, the same in all rows.
    seeds = [seed + 1000 * number for number in range(len(contents.contents))]
    placed = list(zip(contents.contents, seeds, strict=True))
    runs = []
    for intensity in intensities:
        readings = tuple(
            observer.observe(
                replace(
                    Order.of(emotions, own, settings),
                    prompt=f"{content.prompt}, {{emotion}}",
                    intensity=float(intensity),
                )
            )
            for content, own in placed
        )
        title = f"CoEmoGen, “CONTENT, {{emotion}}”, intensity {intensity:g}"
        runs.append(GridRun(f"adapter_{intensity:g}", title, emotions, readings))
    named = tuple(
        observer.observe(
            BareOrder(tuple(f"{content.prompt}, {_said(name)}" for name in emotions), own, settings)
        )
        for content, own in placed
    )
    runs.append(GridRun("base", "base, “CONTENT, NAME”", emotions, named))
    plain = tuple(
        observer.observe(BareOrder((content.prompt,) * each, own, settings)) for content, own in placed
    )
    runs.append(GridRun("content", "base, “CONTENT” alone", None, plain))
    return tuple(runs)


def content_grid(
    runs: Sequence[GridRun],
    contents: ContentSet,
    text_embeds: ArrayLike,
    taxonomy: Taxonomy,
    probe: str,
    backbone: str,
    seed: int,
) -> ContentGrid:
    """The figures of the runs by one probe.

    Arguments:
        text_embeds: [C, V], CLIP's of the contents' texts, in their order.
    """
    texts = np.asarray(text_embeds, dtype=np.float64)
    rows = [_row(run, contents, texts, taxonomy, probe, seed) for run in runs]
    base = next(run for run in runs if run.key == "base")
    ours, theirs = (
        np.multiply(*_kept_and_hit(run, contents, texts, taxonomy, probe)) for run in (runs[0], base)
    )
    gain = Resamples.nested(len(ours), ours.shape[1], seed).difference(ours.ravel(), theirs.ravel())
    return ContentGrid(
        probe,
        backbone,
        tuple(content.prompt for content in contents.contents),
        taxonomy.names,
        contents.top,
        contents.chance,
        tuple(rows),
        gain,
    )


def kept_contents(features: ArrayLike, texts: ArrayLike, number: int, contents: ContentSet) -> FloatArray:
    """1 where pictures keep the content of that number, else 0: [n].

    Arguments:
        features: [n, V] of the pictures. texts: [C, V] of the contents' texts.
    """
    pictures, words = _unit(features), _unit(texts)
    cosines = pictures @ words.T
    if contents.contents[number].kind == "caption":
        return (cosines[:, number] > contents.cosine).astype(np.float64)
    elements = [i for i, content in enumerate(contents.contents) if content.kind == "element"]
    nearer = (cosines[:, elements] > cosines[:, [number]]).sum(axis=1)
    return (nearer < contents.top).astype(np.float64)


def _row(
    run: GridRun, contents: ContentSet, texts: FloatArray, taxonomy: Taxonomy, probe: str, seed: int
) -> ContentRow:
    kept, hit = _kept_and_hit(run, contents, texts, taxonomy, probe)
    resamples, joint = Resamples.nested(len(kept), kept.shape[1], seed), kept * hit
    is_kept = resamples.share(kept.ravel())
    if run.emotions is None:  # a hit is 1 / E outright, and no chance
        chance = 1 / taxonomy.num_emotions
        is_hit, surplus = Interval(chance, chance, chance), Interval(0.0, 0.0, 0.0)
        is_both = Interval(is_kept.value * chance, is_kept.low * chance, is_kept.high * chance)
        grid = None
    else:
        is_hit, is_both = resamples.share(hit.ravel()), resamples.share(joint.ravel())
        drawn_kept, drawn_hit, drawn = (resamples.means(each.ravel()) for each in (kept, hit, joint))
        surplus = percentiles(drawn - drawn_kept * drawn_hit)
        columns = [[i for i, name in enumerate(run.emotions) if name == other] for other in taxonomy.names]
        grid = tuple(tuple(float(row[rows].mean()) for rows in columns) for row in joint)
    return ContentRow(
        run.key,
        run.title,
        kept.size,
        is_kept,
        is_hit,
        is_both,
        surplus,
        tuple(kept.mean(axis=1).tolist()),
        grid,
    )


def _kept_and_hit(
    run: GridRun, contents: ContentSet, texts: FloatArray, taxonomy: Taxonomy, probe: str
) -> tuple[FloatArray, FloatArray]:
    """[C, n] each. Where no emotion was asked for, a picture hits one of E asked at random: 1 / E."""
    kept, hit = [], []
    for number, readings in enumerate(run.readings):
        kept.append(kept_contents(readings.features, texts, number, contents))
        seen = readings.seen[probe]
        if run.emotions is None:
            hit.append((seen >= 0) / taxonomy.num_emotions)
        else:
            hit.append(right_emotion(seen, run.emotions, taxonomy))
    return np.stack(kept), np.stack(hit)


def _said(name: str) -> str:
    return name.replace("_", " ")


def _unit(vectors: ArrayLike) -> FloatArray:
    array = np.asarray(vectors, dtype=np.float64)
    return array / np.linalg.norm(array, axis=1, keepdims=True)
