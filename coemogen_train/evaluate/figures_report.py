"""Pictures measured against real ones: the figures, what they rest on, and what to know of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..adapter.condition import plain_prompt
from ..errors import DataError
from .figures import figures, figures_by_emotion, text_alignment
from .instruments import Instruments
from .intervals import Interval
from .observations import Observations
from .observe import Progress, observe_once
from .pictures import LabelledPictures
from .protocol import ProtocolName

if TYPE_CHECKING:
    from rich.table import Table

# Name in the table, digits after the point, and whether less is better.
_SHOWN = {
    "fid": ("FID", 2, True),
    "kid": ("KID", 4, True),
    "lpips": ("LPIPS", 3, False),
    "emo_a": ("Emo-A", 3, False),
    "emo_a_second": ("Emo-A, second probe", 3, False),
    "polarity_a": ("polarity", 3, False),
    "polarity_a_second": ("polarity, second probe", 3, False),
    "sem_c": ("Sem-C", 3, False),
    "sem_d": ("Sem-D", 4, False),
    "precision": ("precision", 3, False),
    "recall": ("recall", 3, False),
    "density": ("density", 3, False),
    "coverage": ("coverage", 3, False),
    "coverage_within": ("coverage within emotions", 3, False),
    "text_alignment": ("text alignment", 3, False),
    "story": ("story", 3, False),
    "narratives": ("narratives", 2, False),
}
_UNBIASED_FID = 10_000


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found. metrics: of the pictures; real: of real pictures, where there are enough that are no
    training pictures, and no more of an emotion than pictures (real_measured: how many); by_emotion: of each
    emotion's pictures. split: which real pictures. counts, real_counts: readable pictures per
    emotion, real_counts of all that the pictures are compared with. probes: by name, what a reader must know
    of them. notes: sentences.
    """

    protocol: str
    split: str
    seed: int
    metrics: Mapping[str, Interval]
    by_emotion: Mapping[str, Mapping[str, Interval]]
    real: Mapping[str, Interval]
    counts: Mapping[str, int]
    real_counts: Mapping[str, int]
    real_measured: Mapping[str, int]
    probes: Mapping[str, Mapping[str, Any]]
    unreadable: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "protocol": self.protocol,
            "split": self.split,
            "seeds": [self.seed],
            "counts": dict(self.counts),
            "real_counts": dict(self.real_counts),
            "real_measured": dict(self.real_measured),
            "metrics": _plain(self.metrics),
            "real": _plain(self.real),
            "by_emotion": {name: _plain(metrics) for name, metrics in self.by_emotion.items()},
            "probes": {name: dict(facts) for name, facts in self.probes.items()},
            "unreadable": [{"file": file, "problem": problem} for file, problem in self.unreadable],
            "notes": list(self.notes),
        }

    def table(self) -> Table:
        """For the terminal."""
        from rich.table import Table

        heading = f"{sum(self.counts.values())} pictures against {sum(self.real_counts.values())} real ones"
        table = Table(title=f"{heading} ({self.split}), protocol {self.protocol}", title_justify="left")
        measured = f"{sum(self.real_measured.values())} real ones" if self.real else "real ones"
        for name in ("metric", "pictures", "95% interval", measured, "95% interval"):
            table.add_column(name, justify="left" if name == "metric" else "right")
        for name, (title, digits, falling) in _SHOWN.items():
            if name in self.metrics:
                cells = [*_cells(self.metrics[name], digits), *_cells(self.real.get(name), digits)]
                table.add_row(
                    f"{title} ({'less' if falling else 'more'} is better)" if falling else title, *cells
                )
        return table


def evaluate_pictures(
    pictures: LabelledPictures,
    real: LabelledPictures,
    instruments: Instruments,
    *,
    split: str,
    held_out: bool | None,
    protocol: ProtocolName = "fixed",
    seed: int = 0,
    prompts: Sequence[str] | None = None,
    progress: Progress | None = None,
    keep: Path | None = None,
) -> Evaluation:
    """Measure pictures against real ones of the same emotions.

    Arguments:
        split: what to call the real pictures. held_out: whether they were kept from training, so that they
            are measured too; None: that is not known.
        prompts: [n], the text that each picture was drawn from; None: no text alignment.
        keep: a folder for what the instruments saw, so that an interrupted evaluation goes on; None: none.

    Raises:
        DataError: an emotion of the pictures that real ones or a probe lack, or with too few pictures.
    """
    named = _named(progress)
    notes = check_emotions(pictures, real)
    real = real.of_emotions(pictures.names)
    observed = observe_once(pictures, instruments, keep, protocol, seed, named("pictures"))
    alike = _as_many(real, pictures.counts, seed)
    enough = held_out is not False and min(real.counts.values()) > 1
    measured = None
    if enough:
        measured = observe_once(alike, instruments, keep, protocol, seed, named("real pictures"))
    if measured is not None and len(alike) == len(real):
        seen_real = measured
    else:
        seen_real = observe_once(
            real, instruments, keep, protocol, seed, named("all real pictures"), whole=False
        )
    metrics = figures(observed, seen_real, protocol, seed)
    if prompts is not None:
        metrics["text_alignment"] = _alignment(pictures, observed, prompts, instruments, seed)
    return Evaluation(
        protocol=protocol,
        split=split,
        seed=seed,
        metrics=metrics,
        by_emotion=figures_by_emotion(observed, seen_real, seed),
        real={} if measured is None else figures(measured, None, protocol, seed),
        counts=observed.counts,
        real_counts=seen_real.counts,
        real_measured={} if measured is None else measured.counts,
        probes={name: _probe_facts(instruments, name) for name in instruments.probes},
        unreadable=(*observed.unreadable, *seen_real.unreadable),
        notes=(*notes, *_held_out_notes(held_out), *_notes(observed, seen_real, instruments)),
    )


def _as_many(real: LabelledPictures, counts: Mapping[str, int], seed: int) -> LabelledPictures:
    """Of each emotion no more real pictures than there are others, drawn by chance: figures about variety
    depend on their number."""
    generator = np.random.default_rng(seed)
    chosen: list[int] = []
    for name in real.names:
        rows = np.flatnonzero(np.array(real.emotions) == name)
        chosen += sorted(generator.permutation(rows)[: counts[name]].tolist())
    return real.chosen(chosen)


def _held_out_notes(held_out: bool | None) -> list[str]:
    if held_out is None:
        return [
            "The real pictures are not known to be held out: where they are training pictures, their own "
            "figures and the distances to them flatter."
        ]
    return []


def check_emotions(pictures: LabelledPictures, real: LabelledPictures) -> list[str]:
    """See that pictures can be measured against real ones; returns what is to be said of it.

    Raises: DataError.
    """
    if missing := [name for name in pictures.names if name not in real.names]:
        raise DataError(
            f"there are pictures of {', '.join(missing)}, and no real ones, only of {', '.join(real.names)}: "
            "give real pictures of the same emotions."
        )
    for name, count in pictures.counts.items():
        if count < 2:
            raise DataError(
                f"there is one picture of {name} ({pictures.paths[pictures.emotions.index(name)]}): figures "
                "about variety need two of each emotion at least, and useful ones hundreds."
            )
    if left_out := [name for name in real.names if name not in pictures.names]:
        return [
            f"Real pictures of {', '.join(left_out)} are left out: there are no others of these emotions."
        ]
    return []


def _notes(observed: Observations, real: Observations, instruments: Instruments) -> list[str]:
    notes = []
    if unreadable := [*observed.unreadable, *real.unreadable]:
        first = ", ".join(file for file, _ in unreadable[:3])
        more = f" and {len(unreadable) - 3} more" if len(unreadable) > 3 else ""
        notes.append(f"{len(unreadable)} files cannot be read and are left out: {first}{more}.")
    if observed.protocol == "published" and observed.not_jpg:
        notes.append(
            f"{observed.not_jpg} pictures do not end in .jpg: the published scripts would have left them out "
            "of all but FID, in silence; here they count."
        )
    if min(len(observed), len(real)) < _UNBIASED_FID:
        notes.append(
            f"FID of {len(observed)} pictures against {len(real)} is too high, the more so the fewer there "
            "are, and recall and coverage are too low: compare equal numbers only. KID is free of this."
        )
    if "second" not in instruments.probes and "clip" in instruments.probes:
        notes.append(
            "Emo-A is by a probe on CLIP alone, which also conditions the generator: give --second-probe."
        )
    if not instruments.probes:
        notes.append("There is no Emo-A: give the emotion probe with --probe.")
    return notes


def _alignment(
    pictures: LabelledPictures,
    observed: Observations,
    prompts: Sequence[str],
    instruments: Instruments,
    seed: int,
) -> Interval:
    """Of each readable picture with its prompt without the emotion's place."""
    refused = {file for file, _ in observed.unreadable}
    texts = [
        plain_prompt(t) for t, path in zip(prompts, pictures.paths, strict=True) if str(path) not in refused
    ]
    if not all(texts):
        raise DataError(
            "a prompt says nothing but {emotion}: text alignment needs a content, such as a street."
        )
    known = list(dict.fromkeys(texts))
    encoded = instruments.clip.encode_texts(known).numpy()
    rows = np.array([known.index(text) for text in texts])
    return text_alignment(observed.clip, encoded[rows], observed.emotions, seed)


def _probe_facts(instruments: Instruments, name: str) -> dict[str, Any]:
    probe = instruments.probes[name].probe
    held_out = probe.held_out
    return {
        "backbone": probe.backbone,
        "classes": list(probe.classes),
        "held_out_accuracy": None if held_out is None else held_out.accuracy,
        "held_out_pictures": 0 if held_out is None else held_out.pictures,
        "trained_on": probe.trained_on,
    }


def _named(progress: Progress | None) -> Callable[[str], Progress | None]:
    """The same report, with whose pictures they are before the stage."""

    def named(whose: str) -> Progress | None:
        if progress is None:
            return None
        return lambda stage, done, total: progress(f"{whose}: {stage}", done, total)

    return named


def _plain(metrics: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: interval.to_dict() for name, interval in metrics.items()}


def _cells(interval: Interval | None, digits: int) -> tuple[str, str]:
    if interval is None:
        return "", ""
    if not np.isfinite([interval.low, interval.high]).all():
        return f"{interval.value:.{digits}f}", "not known"
    return f"{interval.value:.{digits}f}", f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"
