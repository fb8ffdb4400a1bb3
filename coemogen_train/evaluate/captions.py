"""The words of a report: what the figures say, and as plainly what they do not say.

They are made from the numbers, so that a run without an effect is told as one.
"""

from __future__ import annotations

from .report import DemoReport


def shown(value: float | None, digits: int = 2) -> str:
    """A figure for a cell, an en dash where there is none."""
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 4.2 s, 3 min 20 s, 1 h 05 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def comparison_verdict(report: DemoReport) -> str:
    """One sentence on the main comparison, and a second one where the interval does not support it."""
    comparison = report.comparison
    if comparison is None:
        return ""
    first, second, gain = report.row(comparison.first), report.row(comparison.second), comparison.gain
    points, low, high = (round(100 * number) for number in (gain.value, gain.low, gain.high))
    sentence = (
        f"The probe sees the intended emotion in {_percent(first.emo_a)} of the pictures of {first.name}, "
        f"and in {_percent(second.emo_a)} of those of {second.name}: {points:+d} points, "
        f"95% interval {low:+d} to {high:+d}."
    )
    if not gain.excludes_zero:
        return f"{sentence} The interval includes zero: this run does not show a difference."
    if gain.value < 0:
        return f"{sentence} In this run {first.name} is the worse of the two."
    return sentence


def metrics_captions(report: DemoReport) -> list[str]:
    """What each column means and how far it can be trusted, the caller's caveats last."""
    notes = [
        "Emotion accuracy: the share of pictures in which the probe sees the emotion that was asked for. "
        + _probe_note(report),
    ]
    if any(row.low is not None for row in report.rows):
        notes.append(
            "Intervals (95%, bootstrap within emotions) say how much another draw of as many pictures would "
            "change the figure. Another training seed or another base adds its own spread, which they do not "
            "contain."
        )
    if any(row.coverage is not None for row in report.rows):
        notes.append(
            "Coverage: narratives of an emotion that at least two of its pictures tell, averaged over "
            "emotions. It grows with the number of pictures: compare rows of equal numbers."
        )
    if any(row.story is not None for row in report.rows):
        notes.append("Story: the share of pictures that tell any narrative of the emotion asked for.")
    if any(row.frechet is not None for row in report.rows):
        notes.append(
            "Fr\N{LATIN SMALL LETTER E WITH ACUTE}chet: distance of the pictures' features to those of real "
            "ones, lower is closer. It falls as pictures are added, and it is no FID: figures from other "
            "features must not be set beside it."
        )
    if any(row.diversity is not None for row in report.rows):
        notes.append(
            "Diversity: mean cosine distance between pictures of the same emotion. More is not better by "
            "itself: noise is diverse too."
        )
    return [*notes, *report.caveats]


def guidance_caption() -> str:
    """Below the plot of accuracy against coverage."""
    return (
        "One point per guidance scale, which stands beside it; up and to the right is better. Guidance "
        "trades variety for accuracy, so methods are better compared as curves than at one point."
    )


def confusion_caption() -> str:
    """Below the confusion matrices."""
    return (
        "Rows: the emotion that was asked for. Columns: the one that the probe saw. The stronger a cell's "
        "colour, the larger its share of the row; outlined cells are right. With a few dozen pictures a row, "
        "single cells are mostly chance."
    )


def curves_caption() -> str:
    """Below the loss curves."""
    return (
        "Thin: the logged steps. Thick: their moving mean over a twentieth of the run. The error of a "
        "diffusion step depends mostly on the noise levels that were drawn, so its curve is ragged and falls "
        "little."
    )


def _probe_note(report: DemoReport) -> str:
    if report.probe is None:
        return "The probe's own accuracy was not measured."
    facts = report.probe
    return (
        f"The probe is a linear head on {facts.backbone}, trained on {facts.trained_on} real pictures; on "
        f"{facts.held_out_pictures} real ones that it had not seen it is right in "
        f"{_percent(facts.held_out_accuracy)}. Where the generator was conditioned on the same features, or "
        "its data filtered by them, the probe is partial to it."
    )


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{100 * share:.0f}%"
