"""Studies with tiny pictures, and raters whose preference is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from coemogen_train.evaluate.pictures import LabelledPictures
from coemogen_train.evaluate.study import Design, Study, StudyKey, build_study, load_questions

METHODS = ("method-of-ours", "baseline-one", "baseline-two")
EMOTIONS = ("awe", "fear")
Chance = Callable[[str, str, str], float]
"""(question, first method, second method) -> the chance that the first is preferred."""


def make_pictures(folder: Path, count: int = 6) -> dict[str, LabelledPictures]:
    dice = np.random.default_rng(0)
    for number, method in enumerate(METHODS):
        for emotion in EMOTIONS:
            (folder / method / emotion).mkdir(parents=True)
            for i in range(count):
                values = dice.integers(0, 256, (3, 4, 3), dtype=np.uint8)
                picture = Image.fromarray(values).resize((64, 48), Image.Resampling.BICUBIC)
                picture.save(folder / method / emotion / f"{number}{i}.png")
    return {method: LabelledPictures.from_folder(folder / method) for method in METHODS}


def make_study(pictures: Mapping[str, LabelledPictures], **design: Any) -> Study:
    return build_study(pictures, Design(**{"pairs": 12, "side": 32, "seed": 3} | design), load_questions())


def answered(
    key: StudyKey,
    rater: int,
    chance: Chance,
    *,
    careful: bool = True,
    ties: float = 0.0,
    swapped: bool = False,
) -> dict[str, Any]:
    """What the page would save of a rater who prefers by chance, and passes checks if careful."""
    dice = np.random.default_rng([7, rater])
    answers = []
    for trial in key.trials:
        sides = list(trial.options)[:: -1 if (dice.random() < 0.5) != swapped else 1]
        for question in trial.questions:
            if trial.check and careful:
                right = (o.id for o in sides if trial.passed(o.id, sides[0].id))
                choice = next(right)
            elif trial.check:
                choice = sides[int(dice.integers(2))].id
            else:
                first, second = sorted(trial.options, key=lambda option: key.methods.index(option.method))
                likes = dice.random() < chance(question, first.method, second.method)
                choice = "equal" if dice.random() < ties else (first if likes else second).id
            answers.append(
                {
                    "trial": trial.id,
                    "question": question,
                    "choice": choice,
                    "first": sides[0].id,
                    "seconds": 2.5,
                }
            )
    return {
        "format": 1,
        "study": key.study,
        "rater": f"{rater:016x}",
        "finished": True,
        "answers": answers,
    }


def by_strength(strength: Mapping[str, float]) -> Chance:
    return lambda _, first, second: float(1 / (1 + np.exp(strength[second] - strength[first])))


def write(folder: Path, *told: Mapping[str, Any]) -> list[Path]:
    paths = []
    for number, answers in enumerate(told):
        paths.append(folder / f"answers-{number}.json")
        paths[-1].write_text(json.dumps(answers), encoding="utf-8")
    return paths
