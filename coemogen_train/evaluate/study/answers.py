"""What raters send back: read as anybody's file, and held against the key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...errors import DataError
from .key import Identifier, KeyTrial, StudyKey, read_model

MOST_BYTES = 4 << 20
_MOST_ANSWERS = 20_000
Choice = Annotated[str, Field(pattern=r"^([0-9a-f]{8,64}|equal)$")]


class Answer(BaseModel):
    """choice: an option's id or "equal". first: the option that was shown as A. seconds: that it took."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    trial: Identifier
    question: Annotated[str, Field(max_length=40)]
    choice: Choice
    first: Identifier
    seconds: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class AnswerFile(BaseModel):
    """A rater's file, as the page saves it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal[1]
    study: Identifier
    rater: Identifier
    finished: Annotated[bool, Field(strict=True)]
    answers: tuple[Answer, ...] = Field(max_length=_MOST_ANSWERS)


@dataclass(frozen=True)
class Judgement:
    """What one rater says of one pair of methods in one trial.

    first, second: methods, in the key's order. preference: 1 for the first, 0 for the second, 0.5 for no
    difference. shown_first: whether the rater saw the first as A.
    """

    rater: str
    trial: str
    pair: int
    question: str
    first: str
    second: str
    preference: float
    shown_first: bool


@dataclass(frozen=True)
class Rater:
    """A rater and what he said. checks, failed: of attention. seconds: the median time of an answer."""

    id: str
    file: Path
    finished: bool
    checks: int
    failed: int
    seconds: float
    judgements: tuple[Judgement, ...]


def read_answers(paths: Sequence[Path], key: StudyKey) -> tuple[list[Rater], list[str]]:
    """(raters, notes) of all files; a file that was sent twice counts once.

    Raises: DataError, naming the file, for one that is not exactly what this study's page saves, and for two
    different files of one rater.
    """
    trials = {trial.id: trial for trial in key.trials}
    found: dict[str, tuple[Path, AnswerFile]] = {}
    notes = []
    for path in paths:
        told = read_model(path, AnswerFile, MOST_BYTES, "a file of answers from a study's page")
        _check(told, key, trials, path)
        if told.rater not in found:
            found[told.rater] = path, told
        elif found[told.rater][1] == told:
            notes.append(f"{path.name} and {found[told.rater][0].name} are the same answers: counted once.")
        else:
            raise DataError(
                f"{path} and {found[told.rater][0]} are different answers of one rater: leave out the "
                "one that was saved first."
            )
    return [_rater(told, key, trials, path) for path, told in found.values()], notes


def _check(told: AnswerFile, key: StudyKey, trials: dict[str, KeyTrial], path: Path) -> None:
    """See that every answer is one to this study. Raises: DataError."""
    if told.study != key.study:
        raise DataError(f"{path} answers another study ({told.study}) than the key is of ({key.study}).")
    seen: set[tuple[str, str]] = set()
    for answer in told.answers:
        trial = trials.get(answer.trial)
        if trial is None or answer.question not in trial.questions:
            raise DataError(f"{path} answers a question that the study does not ask: leave this file out.")
        sides = {option.id for option in trial.options}
        if answer.first not in sides or answer.choice not in {*sides, "equal"}:
            raise DataError(f"{path} chooses what was not shown: leave this file out.")
        if (answer.trial, answer.question) in seen:
            raise DataError(f"{path} answers a question twice: leave this file out.")
        seen.add((answer.trial, answer.question))
    pairs = {trials[answer.trial].pair for answer in told.answers if not trials[answer.trial].check}
    if len(pairs) > key.pairs:
        raise DataError(
            f"{path} answers about {len(pairs)} pairs, and the page asks about {key.pairs}: leave it out."
        )


def _rater(told: AnswerFile, key: StudyKey, trials: dict[str, KeyTrial], path: Path) -> Rater:
    from statistics import median

    checks = [answer for answer in told.answers if trials[answer.trial].check]
    passed = sum(trials[answer.trial].passed(answer.choice, answer.first) for answer in checks)
    real = [answer for answer in told.answers if not trials[answer.trial].check]
    return Rater(
        id=told.rater,
        file=path,
        finished=told.finished,
        checks=len(checks),
        failed=len(checks) - passed,
        seconds=median(answer.seconds for answer in real) if real else 0.0,
        judgements=tuple(_judgement(told.rater, answer, trials[answer.trial], key) for answer in real),
    )


def _judgement(rater: str, answer: Answer, trial: KeyTrial, key: StudyKey) -> Judgement:
    first, second = sorted(trial.options, key=lambda option: key.methods.index(option.method))
    return Judgement(
        rater=rater,
        trial=trial.id,
        pair=trial.pair,
        question=answer.question,
        first=first.method,
        second=second.method,
        preference={first.id: 1.0, second.id: 0.0}.get(answer.choice, 0.5),
        shown_first=answer.first == first.id,
    )
