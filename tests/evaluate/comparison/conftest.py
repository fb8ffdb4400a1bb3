"""A comparison as an engine would give it: the table and two more experiments, made-up figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coemogen_train.evaluate.comparison.result import Comparison, CurvePoint, Kind, Row
from coemogen_train.evaluate.comparison.statistics import estimate, estimates
from coemogen_train.evaluate.comparison.variants import EXPERIMENTS, Variant
from coemogen_train.evaluate.intervals import Interval

EMOTIONS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")
GUIDANCES = (1.5, 3.0, 5.0, 7.5)
# Emotion accuracy, coverage and FID of a row at guidance 3; what is not named is as the full method.
LEVELS = {
    "real": (0.95, 0.97, 0.4),
    "name": (0.12, 0.30, 9.1),
    "sentences": (0.58, 0.66, 4.1),
    "textual_inversion": (0.37, 0.41, 7.4),
    "dreambooth": (0.49, 0.52, 5.6),
    "dreambooth_conditional": (0.63, 0.50, 5.2),
    "emogen": (0.61, 0.58, 4.6),
    "without_emotion": (0.81, 0.64, 3.3),
    "without_polarity": (0.84, 0.67, 3.0),
    "full_1": (0.80, 0.60, 3.3),
    "both_branches": (0.72, 0.66, 3.2),
}

MakeComparison = Callable[..., Comparison]


@pytest.fixture(scope="session")
def make_comparison() -> MakeComparison:
    """Makes it: `seeds` of every row, the rows' titles before `rename`, the seed-to-seed `spread`."""
    return made


def made(
    seeds: Sequence[int] = (1, 2, 3),
    folder: Path | None = None,
    title: Callable[[str], str] = str,
    spread: float = 0.02,
    experiments: Sequence[str] = ("table", "sampling", "branches"),
) -> Comparison:
    """The comparison; its pictures, grey noise, go under `folder`."""
    generator = np.random.default_rng(7)
    rows = [_row(_REAL, "table", seeds, generator, spread)]
    for name in experiments:
        rows += [_row(variant, name, seeds, generator, spread) for variant in EXPERIMENTS[name].variants]
    rows = [replace(row, title=title(row.title), note=title(row.note) if row.note else "") for row in rows]
    if folder is not None:
        sheet = _pictures(folder, generator)
        rows = [replace(row, sheet=sheet) if row.experiment == "table" else row for row in rows]
    return Comparison(
        "Made-up figures of no world at all.",
        "fixed",
        EMOTIONS,
        tuple(rows),
        (("base", "toy"), ("set", "1,600 pictures"), ("budget", "9,600 training samples for every method")),
    )


_REAL = Variant("real", "real pictures", "reference", "none", note="held out")


def _row(
    variant: Variant, experiment: str, seeds: Sequence[int], generator: np.random.Generator, spread: float
) -> Row:
    kind: Kind = variant.kind
    points = []
    scales = EXPERIMENTS[experiment].guidances
    for guidance in GUIDANCES if not isinstance(scales, tuple) else scales:
        figures = [_figures(variant.name, guidance, generator, spread) for _ in seeds]
        points.append(CurvePoint(guidance, estimates(figures)))
    reference = kind == "reference"
    single = reference or scales == "chosen" or (scales == "curve" and kind == "ablation")
    return Row(
        variant.name,
        experiment,
        kind,
        variant.title,
        tuple(seeds),
        192,
        next(point for point in points if point.guidance == 3.0).metrics,
        guidance=None if reference else 3.0,
        setting={"learning_rate": 0.001} if variant.tries and not reference else {},
        curve=() if single else tuple(points),
        seconds=None if reference else estimate([61.0 + 5 * seed for seed in seeds]),
        parameters=0 if reference else 184_320,
        peak_mib=0.0 if reference else 412.0,
        note=variant.note,
    )


def _figures(
    name: str, guidance: float, generator: np.random.Generator, spread: float
) -> dict[str, Interval]:
    accuracy, coverage, fid = LEVELS.get(name, (0.85, 0.68, 2.9))
    steps = np.log2(guidance / 3.0)

    def drawn(value: float, error: float, low: float = 0.0, high: float = 1.0) -> Interval:
        figure = float(np.clip(value + generator.normal(0, spread), low, high))
        return Interval(figure, max(low, figure - 2 * error), min(high, figure + 2 * error))

    return {
        "emo_a": drawn(accuracy + 0.09 * steps - 0.03 * steps**2, 0.025),
        "emo_a_second": drawn(accuracy - 0.03 + 0.08 * steps - 0.03 * steps**2, 0.027),
        "polarity_a": drawn(min(0.98, accuracy + 0.1), 0.02),
        "fid": drawn(fid + 0.8 * steps**2, 0.15, 0.0, 99.0),
        "kid": drawn(fid / 100, 0.002, -1.0),
        "lpips": drawn(0.4 * coverage, 0.006),
        "sem_c": drawn(0.6, 0.008),
        "sem_d": drawn(0.03 + 0.01 * coverage, 0.001),
        "precision": drawn(0.7 + 0.05 * steps, 0.03),
        "recall": drawn(coverage - 0.1, 0.03),
        "density": drawn(0.8, 0.04, 0.0, 9.0),
        "coverage": drawn(coverage - 0.12 * steps, 0.025),
        "story": drawn(accuracy, 0.03),
        "narratives": drawn(5 * coverage, 0.2, 0.0, 6.0),
        "saturation": drawn(0.4 + 0.06 * steps, 0.004),
        "clipped": drawn(0.02 + 0.01 * max(0.0, steps), 0.002),
    }


def _pictures(folder: Path, generator: np.random.Generator) -> dict[str, list[str]]:
    """Four pictures of each emotion, with their paths under the folder."""
    sheet: dict[str, list[str]] = {}
    (folder / "sheet").mkdir(parents=True, exist_ok=True)
    for emotion in EMOTIONS:
        for number in range(4):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            name = f"sheet/{emotion}_{number}.png"
            Image.fromarray(pixels).resize((64, 64)).save(folder / name)
            sheet.setdefault(emotion, []).append(name)
    return sheet
