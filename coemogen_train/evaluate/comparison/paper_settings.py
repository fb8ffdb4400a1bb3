"""The settings of the real table: rows, pictures, seeds and samples, in one strict TOML table."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...errors import ConfigError
from ...train.config import TrainConfig, load_config
from .arena import HELD_IN
from .variants import TABLE, Variant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGED = Path(__file__).parent / "configs" / "paper.toml"

MOST_EACH = 10_000
"""Pictures of an emotion at most: two seeds' noise lies as far apart as a hundred emotions then need."""

Count = Annotated[int, Field(ge=1)]
Scale = Annotated[float, Field(gt=0)]


class PaperSettings(BaseModel):
    """What the table consists of; what a fit is, its training preset says."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    preset: str = Field(description="of `train`: base, CLIP, resolution, precision, rates")
    fit: Mapping[str, Any] = Field(
        default_factory=dict, description="settings of every fit over the preset's"
    )
    budget: Count = Field(description="training samples of a fit, all emotions together")
    rows: tuple[str, ...] = Field(min_length=1, description="names of variants of the experiment 'table'")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    each: Count = Field(description="pictures of each emotion for every row, seed and scale")
    guidances: tuple[Scale, ...] = Field(min_length=1)
    sampler_steps: Count
    drawn_together: Count = Field(8, description="pictures that are drawn at a time")
    second: str = Field(description="backbone of the second emotion probe")

    @model_validator(mode="after")
    def _known(self) -> PaperSettings:
        known = [variant.name for variant in TABLE]
        for name in self.rows:
            if name not in known:
                raise ValueError(f"there is no row {name!r}: choose of {', '.join(known)}")
        if HELD_IN in self.seeds:
            raise ValueError(f"seed {HELD_IN} is the one on which settings are chosen: give seeds other ones")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("the same seed twice tells nothing new: name each of seeds once")
        if self.each > MOST_EACH:
            raise ValueError(f"of more than {MOST_EACH:,} pictures two seeds share noise: make each smaller")
        return self

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The rows, in their order."""
        by_name = {variant.name: variant for variant in TABLE}
        return tuple(by_name[name] for name in self.rows)

    @property
    def leaders(self) -> tuple[Variant, ...]:
        """The variants whose settings are tried: rows, and those whose settings rows take, named or not."""
        by_name = {variant.name: variant for variant in TABLE}
        leading = dict.fromkeys(variant.like or variant.name for variant in self.variants)
        return tuple(by_name[name] for name in leading)

    def fit_config(
        self,
        training_set: str | Path,
        out: str | Path,
        base: str | None = None,
        vision: str | None = None,
        seed: int = 0,
    ) -> TrainConfig:
        """The settings that all fits of a seed share.

        base, vision: in the place of the preset's.

        Raises:
            ConfigError: a setting that `train` does not know, or a budget that is no whole number of steps.
        """
        named = {"base": base, "vision": vision}
        told = {**self.fit, **{key: value for key, value in named.items() if value is not None}}
        told |= {"set": str(training_set), "out": str(out), "seed": seed}
        config = load_config(self.preset, [f"{key}={json.dumps(value)}" for key, value in told.items()])
        together = config.batch_size * config.accumulate
        if self.budget % together:
            raise ConfigError(
                f"a budget of {self.budget:,} samples is no whole number of steps of {together}: change "
                "budget, or batch_size and accumulate under fit."
            )
        return config.model_copy(update={"steps": self.budget // together})


def paper_settings(file: Path | None = None) -> PaperSettings:
    """Read a file of such settings; None: the package's own.

    Raises:
        ConfigError: it cannot be read, is no TOML, or says what nobody understands.
    """
    path = file or PACKAGED
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        for key in told.keys() - PaperSettings.model_fields.keys():
            near = difflib.get_close_matches(key, PaperSettings.model_fields, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{path}: no setting is called {key!r}; the nearest one is {near!r}.")
        return PaperSettings.model_validate(told)
    except OSError as error:
        raise ConfigError(f"{path}: the settings of the table cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML in UTF-8: {error}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        fault = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{path}: {where}: {fault}.") from None
