"""What the demo says of itself: its figures, its sample sheet and its report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..data.filter import FilterReport
from ..emotions import Taxonomy
from ..evaluate import (
    Comparison,
    Curve,
    DemoReport,
    GuidancePoint,
    Interval,
    ProbeFacts,
    SheetColumn,
    SheetRow,
    StageTime,
    bootstrap_difference,
    confusion_matrix,
    confusion_of,
    png_bytes,
    sample_sheet,
)
from ..train.config import TrainConfig
from ..train.history import StepRecord
from ..train.validation import ValidationRecord
from .judges import Judges, Verdict
from .shortcuts import shortcut_accuracies

SHEET_COLUMNS = (
    ("real", "Real", "held-out pictures of the data set"),
    ("base", "Base model", "prompted with the emotion's name"),
    ("adapter", "CoEmoGen", "the adapter, emotion chosen"),
)
PICTURES_PER_CELL = 4


@dataclass(frozen=True)
class Outcome:
    """All that a demo found out; keys of `verdicts` and `pilots` are the contestants', and "real"."""

    verdicts: Mapping[str, Verdict]
    pilots: Mapping[str, Mapping[float, Verdict]]
    judges: Judges
    filtered: FilterReport
    mistaken: tuple[int, int]
    components: tuple[int, ...]
    history: Sequence[StepRecord]
    validation: Sequence[ValidationRecord]
    stages: tuple[StageTime, ...]
    seconds: float
    config: TrainConfig
    seed: int


def demo_figures(outcome: Outcome) -> dict[str, Any]:
    """The figures of `demo --json`, flat. emo_a*: 0..1; coverage*: narratives reached per emotion, of
    coverage_of.
    """
    gain = _gain(outcome)
    adapter, base = outcome.verdicts["adapter"].row, outcome.verdicts["base"].row
    figures: dict[str, Any] = {
        "emo_a": adapter.emo_a,
        "emo_a_base": base.emo_a,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "coverage_of": adapter.coverage_of,
    }
    for key, verdict in outcome.verdicts.items():
        end = "" if key == "adapter" else f"_{key}"
        figures |= {
            f"emo_a{end}": verdict.row.emo_a,
            f"emo_a_second_probe{end}": verdict.second,
            f"coverage{end}": verdict.row.coverage,
            f"story{end}": verdict.row.story,
            f"frechet{end}": verdict.row.frechet,
            f"guidance{end}": verdict.row.guidance,
        }
    return figures | {
        "emo_a_real_hard": outcome.judges.hard_accuracy(),
        "pictures_per_row": adapter.n,
        "filter_dropped": outcome.filtered.dropped,
        "filter_mistaken": outcome.mistaken[0],
        "filter_mistaken_dropped": outcome.mistaken[1],
        "gaussians": list(outcome.components),
        "seed": outcome.seed,
        "stages": {stage.name: round(stage.seconds, 1) for stage in outcome.stages},
        "seconds": round(outcome.seconds, 1),
    }


def _gain(outcome: Outcome) -> Interval:
    ours, base = outcome.verdicts["adapter"], outcome.verdicts["base"]
    return bootstrap_difference(ours.right, ours.intended, base.right, base.intended, seed=outcome.seed)


def demo_sheet(
    taxonomy: Taxonomy,
    real_labels: Sequence[str],
    intended: Sequence[str],
    pictures: Mapping[str, Sequence[Image.Image]],
) -> bytes:
    """Rows emotions; columns real, base prompted with the name, CoEmoGen: the first pictures, none chosen.
    PNG.
    """
    labels = {key: real_labels if key == "real" else intended for key, _, _ in SHEET_COLUMNS}

    def cell(key: str, emotion: str) -> list[Image.Image]:
        found = (
            picture for picture, label in zip(pictures[key], labels[key], strict=True) if label == emotion
        )
        return [picture for picture, _ in zip(found, range(PICTURES_PER_CELL), strict=False)]

    rows = [
        SheetRow(emotion.name, emotion.polarity, [cell(key, emotion.name) for key, _, _ in SHEET_COLUMNS])
        for emotion in taxonomy.emotions
    ]
    return png_bytes(
        sample_sheet(rows, [SheetColumn(title, subtitle) for _, title, subtitle in SHEET_COLUMNS])
    )


def demo_report(outcome: Outcome, sheet: bytes) -> DemoReport:
    """The page that a newcomer sees."""
    judges, verdicts = outcome.judges, outcome.verdicts
    ours, base = verdicts["adapter"].row, verdicts["base"].row
    held_out = judges.probe.held_out
    assert held_out is not None  # noqa: S101 - Judges scores its probes
    names = judges.probe.classes
    return DemoReport(
        title="CoEmoGen on the toy world",
        introduction=(
            "Eight emotions, six small stories each, drawn at 64 x 64 pixels. An adapter was trained on a "
            "bundled miniature of Stable Diffusion, then asked for each emotion; the page shows what it "
            "drew, and measures it against the same base model prompted with the emotion's name."
        ),
        rows=tuple(verdict.row for verdict in verdicts.values()),
        comparison=Comparison(ours.name, base.name, _gain(outcome)),
        probe=ProbeFacts(
            judges.probe.backbone, held_out.accuracy, held_out.pictures, judges.probe.trained_on
        ),
        confusions=tuple(
            confusion_of(
                verdict.row.name, names, confusion_matrix(verdict.predicted, verdict.intended, names).tolist()
            )
            for verdict in (verdicts["adapter"], verdicts["base"])
        ),
        guidance_points=tuple(
            GuidancePoint(verdict.row.name, guidance, verdict.row.emo_a or 0.0, verdict.row.coverage or 0.0)
            for pilot in outcome.pilots.values()
            for guidance, verdict in pilot.items()
        ),
        curves=_curves(outcome.history) + _validation_curves(outcome.validation),
        stages=outcome.stages,
        settings=_settings(outcome),
        caveats=_caveats(outcome),
        sheet=sheet,
        sheet_caption="The first pictures of each kind, none chosen.",
        footer="Every picture here is synthetic; no figure is from real Stable Diffusion weights.",
    )


def _curves(history: Sequence[StepRecord]) -> tuple[Curve, ...]:
    """Both losses; a step that was skipped leaves a gap."""
    steps = tuple(record.step for record in history)
    ldm = tuple(math.nan if record.ldm is None else record.ldm for record in history)
    semantic = tuple(math.nan if record.semantic is None else record.semantic for record in history)
    return Curve("noise error (L_LDM)", steps, ldm), Curve("semantic loss (L_SEM)", steps, semantic)


def _validation_curves(records: Sequence[ValidationRecord]) -> tuple[Curve, ...]:
    """Both losses on held-out pictures, where they were measured."""
    losses = {
        "noise error, held-out pictures": [(record.step, record.ldm) for record in records],
        "semantic loss, held-out pictures": [(record.step, record.semantic) for record in records],
    }
    known = {title: [(s, loss) for s, loss in line if loss is not None] for title, line in losses.items()}
    return tuple(Curve(title, *map(tuple, zip(*line, strict=True))) for title, line in known.items() if line)


def _settings(outcome: Outcome) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    shown = (
        "steps",
        "batch_size",
        "learning_rate",
        "rank",
        "tokens",
        "visual_tokens",
        "semantic_loss",
        "semantic_weight",
        "content_prompts",
        "v_dropout",
        "condition_dropout",
        "preview_steps",
        "seed",
    )
    values = outcome.config.model_dump()
    gaussians = ", ".join(map(str, outcome.components))
    shortcuts = tuple((name, f"{accuracy:.2f}") for name, accuracy in shortcut_accuracies().items())
    return (
        ("Training", tuple((name, str(values[name])) for name in shown)),
        ("Gaussians per emotion", (("chosen on held-out likelihood", gaussians),)),
        ("Guessing the emotion from less than the picture (Bayes accuracy)", shortcuts),
    )


def _caveats(outcome: Outcome) -> tuple[str, ...]:
    made, dropped = outcome.mistaken
    second = outcome.judges.second.held_out
    assert second is not None  # noqa: S101 - Judges scores its probes
    return (
        "The guidance of the base and of CoEmoGen was chosen on pictures outside the table; "
        "the other rows of each take the same.",
        f"A second probe, on the story recogniser's features ({second.accuracy:.2f} on real held-out "
        f"pictures), sees {outcome.verdicts['adapter'].second:.2f} for CoEmoGen and "
        f"{outcome.verdicts['base'].second:.2f} for the base.",
        f"Of {made} captions that were made wrong on purpose the filter dropped {dropped}, among "
        f"{outcome.filtered.dropped} in all.",
        "The CLIP probe looks with the encoder that also conditions the adapter and filters its data.",
    )
