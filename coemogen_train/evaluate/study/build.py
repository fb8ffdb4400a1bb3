"""A study as one page that anybody can open, and its key, which nobody else needs to see."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...data.images import ImageProblem, load_rgb, quiet_pillow
from ...errors import DataError
from ...pages import Html, data_uri, page, style_sheet, tag, thumbnail
from ..pictures import LabelledPictures
from .key import KeyOption, KeyTrial, StudyKey
from .plan import Design, Option, Trial, plan
from .questions import Questionnaire

TITLE = "Which picture?"
_SET_SHARE = 0.5  # a picture of a set is shown at this part of the width of a single one


@dataclass(frozen=True)
class Study:
    """page: HTML, UTF-8 text. key: of it. pictures: how many different ones are inside."""

    page: str
    key: StudyKey
    pictures: int


def build_study(
    methods: Mapping[str, LabelledPictures], design: Design, questionnaire: Questionnaire
) -> Study:
    """Lay out a study and its page; equal arguments give equal bytes.

    methods: pictures by the method that made them; no name of a method or of a file gets into the page.

    Raises: DataError for methods that cannot be compared, or a picture that cannot be read.
    """
    trials = plan(methods, design, questionnaire)
    with quiet_pillow():
        pictures, trials_told = _told(trials, design)
    pairs = min(design.pairs, design.pool or design.pairs)
    content = {"pairs": pairs, "trials": trials_told}
    told = json.dumps([content, pictures], sort_keys=True).encode("utf-8")
    identifier = hashlib.sha256(told).hexdigest()[:16]
    key = StudyKey(
        study=identifier,
        methods=tuple(methods),
        questions=questionnaire.question,
        pairs=pairs,
        seed=design.seed,
        trials=tuple(_key_trial(trial) for trial in trials),
    )
    data = {"study": identifier, **content, "pictures": pictures}
    return Study(study_page(data), key, len(pictures))


def study_page(data: Mapping[str, Any]) -> str:
    """The page with its own script, which is the only one that its policy lets run."""
    templates = files(__package__) / "templates"
    script = Html((templates / "study.js").read_text(encoding="utf-8"))
    body = Html((templates / "study.html").read_text(encoding="utf-8"))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'"
    )
    # Within a script's element nothing is unescaped, and "<" is what could end it.
    held = Html(json.dumps(data, sort_keys=True).replace("<", "\\u003c"))
    return page(
        TITLE,
        style_sheet(__package__, "study.css"),
        body,
        tag("script", held, type="application/json", id="study"),
        tag("script", script),
        policy=policy,
    )


def _told(trials: tuple[Trial, ...], design: Design) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """(pictures by opaque name, trials as the page reads them)."""
    wanted: dict[tuple[Path | None, str, int], None] = {}
    for trial in trials:
        for option in trial.options:
            wanted |= dict.fromkeys(_shown(option, design))
    order = np.random.default_rng([design.seed, 1]).permutation(len(wanted))
    names = {what: str(number) for what, number in zip(wanted, order.tolist(), strict=True)}
    pictures = {name: _picture(what, design.seed) for what, name in names.items()}
    told = [
        {
            "id": trial.id,
            "pair": trial.pair,
            "always": trial.check != "",
            "options": [
                {"id": option.id, "pictures": [names[what] for what in _shown(option, design)]}
                for option in trial.options
            ],
            "questions": [vars(asked) for asked in trial.asked],
        }
        for trial in trials
    ]
    return pictures, told


def _shown(option: Option, design: Design) -> Iterator[tuple[Path | None, str, int]]:
    """(file, or None for the noise of an option, side in pixels) of what an option shows."""
    if not option.method:
        yield None, option.id, design.side
    side = design.side if len(option.pictures) < 2 else round(design.side * _SET_SHARE)
    for path in option.pictures:
        yield path, "", side


def _picture(what: tuple[Path | None, str, int], seed: int) -> str:
    path, name, side = what
    if path is None:
        rng = np.random.default_rng([seed, int(name, 16)])
        grains = Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8))
        return data_uri(thumbnail(grains.resize((side, side), Image.Resampling.BICUBIC), side), "image/jpeg")
    try:
        return data_uri(thumbnail(load_rgb(path), side, quality=88), "image/jpeg")
    except ImageProblem as problem:
        raise DataError(f"{path} cannot be shown ({problem.detail}): remove or replace it.") from None


def _key_trial(trial: Trial) -> KeyTrial:
    first, second = (
        KeyOption(id=option.id, method=option.method, pictures=tuple(map(str, option.pictures)))
        for option in trial.options
    )
    return KeyTrial(
        id=trial.id,
        pair=trial.pair,
        emotion=trial.emotion,
        options=(first, second),
        questions=tuple(asked.name for asked in trial.asked),
        check=trial.check,
    )
