"""Which pictures are set beside which: methods in balance, no picture twice before all were shown."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import DataError
from ..pictures import LabelledPictures
from .questions import EMOTION, SIDE, Questionnaire

Check = Literal["", "noise", "A", "B"]


@dataclass(frozen=True)
class Design:
    """How large a study is.

    pairs: of pictures that each rater sees. pool: different pairs in the page, of which each rater sees some
    `pairs`, best balanced where it is a multiple of pairs of methods times emotions; None: as many, so that
    all see the same. checks: of attention, for every rater. several: pictures
    in a set. side: the longer one of a picture, in pixels. against: the method that all others are compared
    with; None: all with all.
    """

    pairs: int = 20
    pool: int | None = None
    checks: int = 4
    several: int = 4
    side: int = 512
    seed: int = 0
    against: str | None = None


@dataclass(frozen=True)
class Option:
    """One side. method: "" where noise is shown."""

    id: str
    method: str
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class Asked:
    """A question as it is put. name: of the questionnaire, or "check"."""

    name: str
    text: str
    hint: str


@dataclass(frozen=True)
class Trial:
    """Two sides and what is asked of them; fields as in `key.KeyTrial`."""

    id: str
    pair: int
    emotion: str
    options: tuple[Option, Option]
    asked: tuple[Asked, ...]
    check: Check = ""


def plan(
    methods: Mapping[str, LabelledPictures], design: Design, questionnaire: Questionnaire
) -> tuple[Trial, ...]:
    """The trials of a study: those of every pair one after the other, then the checks.

    What a rater sees is a run of `pairs` consecutive pairs of the pool, which goes on at the pool's beginning
    when it gets to the end. Any two pairs of methods come up equally often in a run, give or take one, and
    any two emotions give or take two. In a run past the end it is one more for either, unless the pool is a
    multiple of the pairs of methods (and of these times the emotions, for emotions).

    The same seed and pictures give the same trials.

    Raises: DataError for methods that cannot be compared, or with too few pictures for a set.
    """
    emotions = _common_emotions(methods)
    couples = _couples(tuple(methods), design.against)
    if questionnaire.of("several"):
        _require_pictures(methods, design.several)
    rng = np.random.default_rng(design.seed)
    decks = {
        (method, emotion): _deck([p for e, p in zip(of.emotions, of.paths, strict=True) if e == emotion], rng)
        for method, of in methods.items()
        for emotion in emotions
    }
    trials: list[Trial] = []
    for number, (couple, emotion) in enumerate(_cells(couples, emotions, design.pool or design.pairs, rng)):
        for shows, count in (("one", 1), ("several", design.several)):
            questions = questionnaire.of("one" if shows == "one" else "several")
            if not questions:
                continue
            options = [
                Option(_identifier(rng), method, tuple(itertools.islice(decks[method, emotion], count)))
                for method in couple
            ]
            asked = tuple(
                Asked(q.name, q.text.replace(EMOTION, emotion.replace("_", " ")), q.hint) for q in questions
            )
            trials.append(Trial(_identifier(rng), number, emotion, _shuffled(options, rng), asked))
    return (*trials, *_checks(decks, design, questionnaire, len(trials), rng))


def _common_emotions(methods: Mapping[str, LabelledPictures]) -> tuple[str, ...]:
    if len(methods) < 2:
        raise DataError("a study compares methods: name at least two with --method NAME=FOLDER.")
    (first, of), *rest = methods.items()
    for name, other in rest:
        if missing := sorted(set(of.names) ^ set(other.names)):
            raise DataError(
                f"{first} and {name} do not show the same emotions (only one of them has "
                f"{', '.join(missing)}): give both the same subfolders."
            )
    return of.names


def _couples(names: Sequence[str], against: str | None) -> list[tuple[str, str]]:
    if against is None:
        return list(itertools.combinations(names, 2))
    if against not in names:
        raise DataError(f"--against {against} is none of the methods {', '.join(names)}.")
    return [(against, name) for name in names if name != against]


def _require_pictures(methods: Mapping[str, LabelledPictures], several: int) -> None:
    for method, of in methods.items():
        for emotion, count in of.counts.items():
            if count < several:
                raise DataError(
                    f"{method} has {count} pictures of {emotion}, and a set needs {several} different ones: "
                    "make more, or ask for smaller sets with --several."
                )


def _deck(paths: Sequence[Path], rng: np.random.Generator) -> Iterator[Path]:
    """The pictures in a random order, over and over: one comes again when all have been dealt."""
    order = [paths[i] for i in rng.permutation(len(paths))]
    return itertools.cycle(order)


def _cells(
    couples: Sequence[tuple[str, str]], emotions: Sequence[str], count: int, rng: np.random.Generator
) -> Iterator[tuple[tuple[str, str], str]]:
    """(pair of methods, emotion) of so many pairs, each in turn, every combination once before any twice."""
    couples = [couples[i] for i in rng.permutation(len(couples))]
    emotions = [emotions[i] for i in rng.permutation(len(emotions))]
    turn = math.lcm(len(couples), len(emotions))  # after which the same combinations would come again
    for number in range(count):
        yield couples[number % len(couples)], emotions[(number + number // turn) % len(emotions)]


def _checks(
    decks: Mapping[tuple[str, str], Iterator[Path]],
    design: Design,
    questionnaire: Questionnaire,
    first: int,
    rng: np.random.Generator,
) -> Iterator[Trial]:
    """Noise and instructions in turn; an instructed side is A as often as B."""
    words, keys = questionnaire.check, list(decks)
    for number in range(design.checks):
        chosen = [keys[i] for i in rng.permutation(len(keys))[:2]]
        options = [Option(_identifier(rng), key[0], (next(decks[key]),)) for key in chosen]
        if number % 2 == 0:
            options[1] = Option(options[1].id, "", ())
            check: Check = "noise"
            asked = Asked("check", words.noise, words.noise_hint)
        else:
            check = "A" if number % 4 == 1 else "B"
            asked = Asked("check", words.told.replace(SIDE, check), words.told_hint)
        trial, emotion = _identifier(rng), chosen[0][1]
        yield Trial(trial, first + number, emotion, _shuffled(options, rng), (asked,), check)


def _shuffled(options: Sequence[Option], rng: np.random.Generator) -> tuple[Option, Option]:
    first, second = (options[i] for i in rng.permutation(2))
    return first, second


def _identifier(rng: np.random.Generator) -> str:
    return f"{int(rng.integers(0, 1 << 62)):016x}"
