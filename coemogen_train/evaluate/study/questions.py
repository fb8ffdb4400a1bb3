"""The questions of a study: data, ours or the researcher's own."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Text = Annotated[str, Field(min_length=1, max_length=300)]
EMOTION, SIDE = "{emotion}", "{side}"


class Question(BaseModel):
    """One question. name: in the results. shows: a picture or a small set of pictures on each side."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    title: Text
    text: Text
    hint: str = Field(default="", max_length=300)
    shows: Literal["one", "several"]


class CheckWords(BaseModel):
    """The words of the attention checks; `told` has the side where {side} stands."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    noise: Text
    noise_hint: str = Field(default="", max_length=300)
    told: Text
    told_hint: str = Field(default="", max_length=300)


class Questionnaire(BaseModel):
    """All that raters are asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    question: tuple[Question, ...] = Field(min_length=1, max_length=12)
    check: CheckWords

    @model_validator(mode="after")
    def _each_once(self) -> Questionnaire:
        names = [question.name for question in self.question]
        if len(set(names)) < len(names) or "all" in names or "check" in names:
            raise ValueError("every question needs a name of its own, other than 'all' and 'check'")
        if SIDE not in self.check.told:
            raise ValueError("check.told does not say which side to choose: write {side} in it")
        return self

    def of(self, shows: Literal["one", "several"]) -> tuple[Question, ...]:
        """The questions about single pictures, or about sets of them."""
        return tuple(question for question in self.question if question.shows == shows)


def load_questions(path: Path | None = None) -> Questionnaire:
    """The questions in a TOML file laid out as `templates/questions.toml`, which is taken for None.

    Raises: ConfigError names the file and what is wrong with it.
    """
    default = files(__package__) / "templates" / "questions.toml"
    try:
        text = (default if path is None else path).read_text(encoding="utf-8")
        return Questionnaire.model_validate(tomllib.loads(text))
    except OSError as error:
        raise ConfigError(f"the questions in {path} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"the questions in {path}: {where}: {first['msg']}.") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise ConfigError(f"the questions in {path} are not in TOML: {error}.") from error
