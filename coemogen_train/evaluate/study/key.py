"""The key of a study: which opaque name on the page stands for which method. It stays with the researcher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ...data.report import printable
from ...errors import DataError
from ...files import atomic_write_text
from .questions import Question

MOST_BYTES = 1 << 26
Identifier = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
Model = TypeVar("Model", bound=BaseModel)


class KeyOption(BaseModel):
    """A side of a trial. method: "" for the noise of a check. pictures: the files that it shows."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: Identifier
    method: str
    pictures: tuple[str, ...]


class KeyTrial(BaseModel):
    """A pair of sides.

    pair: of which pair of pictures it asks, equal for a pair and the pair of sets that comes with it. check:
    "noise" where one side shows nothing, "A" or "B" where that side is to be chosen, "" for a real question.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: Identifier
    pair: int = Field(ge=0)
    emotion: str
    options: tuple[KeyOption, KeyOption]
    questions: tuple[str, ...] = Field(min_length=1)
    check: Literal["", "noise", "A", "B"] = ""

    def passed(self, choice: str, first: str) -> bool:
        """Whether a choice (an option's id or "equal") passes this check; first: the option shown as A."""
        if self.check == "noise":
            return any(option.id == choice and option.method for option in self.options)
        wanted = first if self.check == "A" else next(o.id for o in self.options if o.id != first)
        return choice == wanted


class StudyKey(BaseModel):
    """What a study is. pairs: of pictures that each rater sees; methods: in the order in which they were
    named."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal[1] = 1
    study: Identifier
    methods: tuple[str, ...] = Field(min_length=2)
    questions: tuple[Question, ...] = Field(min_length=1)
    pairs: int = Field(ge=1)
    seed: int
    trials: tuple[KeyTrial, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> StudyKey:
        """See that trials speak of the key's own methods and questions, as scoring takes for granted."""
        if len(set(self.methods)) < len(self.methods):
            raise PydanticCustomError("key", "two methods have one name")
        if len({trial.id for trial in self.trials}) < len(self.trials):
            raise PydanticCustomError("key", "two trials have one id")
        for trial in self.trials:
            _check_trial(trial, self.methods, {question.name for question in self.questions})
        return self

    def save(self, path: Path) -> None:
        """Write it, atomically.

        Raises: DataError where the file is the key of another study, whose answers nobody could read then.
        """
        if path.exists() and load_key(path).study != self.study:
            raise DataError(
                f"{path} is the key of another study, and its answers cannot be scored without it: give "
                "another --out, or move it away."
            )
        atomic_write_text(path, self.model_dump_json(indent=1) + "\n")


def _check_trial(trial: KeyTrial, methods: tuple[str, ...], questions: set[str]) -> None:
    shown = [option.method for option in trial.options if option.method]
    if unknown := [method for method in shown if method not in methods]:
        told = {"method": unknown[0][:60], "trial": trial.id}
        raise PydanticCustomError("key", "trial {trial} shows {method}, which is none of the methods", told)
    if trial.check:
        return
    told = {"trial": trial.id}
    if len(set(shown)) < 2:
        raise PydanticCustomError("key", "trial {trial} does not compare two methods", told)
    if not questions.issuperset(trial.questions):
        raise PydanticCustomError("key", "trial {trial} asks what is none of the questions", told)


def load_key(path: Path) -> StudyKey:
    """Read a key that `StudyKey.save` wrote. Raises: DataError names the file and what is wrong with it."""
    return read_model(path, StudyKey, MOST_BYTES, "the key of a study")


def read_model(path: Path, model: type[Model], most_bytes: int, what: str) -> Model:
    """Read JSON from anybody as a model.

    Raises: DataError, one sentence with the file's name, for whatever is not exactly that.
    """
    try:
        if not path.is_file():
            raise DataError(f"{path} is no file: give {what}.")
        if path.stat().st_size > most_bytes:
            raise DataError(f"{path} has more than {most_bytes >> 20} MB: this is not {what}.")
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        detail = f"{where}: {first['msg']}" if where else first["msg"]
        raise DataError(f"{path} is not {what}: {printable(detail, 200)}.") from error
