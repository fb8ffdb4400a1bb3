"""The settings of a training run: one flat, strict TOML table, over a preset, under `--set key=value`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_jsonable_python

from ..errors import ConfigError, quoted
from .written_settings import override, read_preset, read_settings

# What may differ between a run and its resumption: nothing here changes a step that is still to come.
FREE_ON_RESUME = {
    *("out", "set", "init", "steps", "save_every", "keep_checkpoints", "log_every", "max_bad_steps"),
    *("preview_every", "preview_columns", "preview_steps", "preview_prompt", "guidance", "hilora_branches"),
    *("validate_every", "validation_pictures", "validation_split", "log_with", "lost_after"),
    *("gaussian_covariance", "gaussian_components", "licence", "origin"),
    *("gradient_checkpointing", "memory_gib"),  # exchanges time for memory, and gives the same gradients
}
_PARTS_OF_A_BATCH = ("batch_size", "accumulate")
# What a user may change on purpose between two parts of a run; told when it happens.
CHANGEABLE_ON_RESUME = {"learning_rate", "weight_decay", "max_grad_norm", "compile"}

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, lt=2**63)]
Period = Annotated[int, Field(ge=0, lt=2**63)]


class TrainConfig(BaseModel):
    """Everything that decides a training run. Paths start at the current folder; 0 turns a period off."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # What is trained, on what, and where to.
    base: str = Field(
        description="base model: diffusers folder, Hugging Face id, single-file checkpoint, or toy"
    )
    vision: str = Field(description="CLIP vision model: folder, open_clip name, clip_vision file, or toy")
    clip_skip: Literal["auto"] | Count = Field(
        "auto",
        description="text encoder layer that is read: 1 the last, 2 the one before it; auto = the file's",
    )
    prediction_type: Literal["auto", "epsilon", "v_prediction", "sample"] = Field(
        "auto", description="what the base's U-Net predicts; auto = what its file says, else epsilon"
    )
    set: Path = Field(description="the prepared training set")
    emotions: tuple[str, ...] | None = Field(None, description="those of the set to train; None = all")
    init: Path | None = Field(None, description="an adapter file to go on from")
    init_mode: Literal["continue", "add"] = Field(
        "continue", description="continue = train all of it on; add = only new emotions, what is there stays"
    )
    out: Path = Field(description="folder of the run: checkpoints, previews, history, adapter")

    # How long, how fast. An effective batch is batch_size x accumulate x processes.
    steps: Count = 10_000
    batch_size: Count = 1
    accumulate: Count = 1
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: Period = 100
    schedule: Literal["constant", "cosine"] = Field("constant", description="of the rate, after the warm-up")
    weight_decay: float = Field(1e-2, ge=0)
    max_grad_norm: float = Field(1.0, ge=0, description="gradients are scaled down to this norm; 0 = never")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="of the averaged weights; 0 = none are kept")
    min_snr_gamma: float = Field(
        0.0, ge=0, description="caps the weight of easy timesteps; 5 is usual, 0 = off"
    )
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_checkpointing: Literal["auto"] | bool = Field(
        "auto", description="less memory for a third more time; auto = where the estimate does not fit"
    )
    compile: bool = Field(
        False, description="torch.compile for the U-Net's blocks: minutes at the start, then faster on a GPU"
    )
    memory_gib: float | None = Field(None, gt=0, description="the device's memory; None = ask the device")
    seed: int = Field(0, ge=0, lt=2**63)

    # The method. Where the paper is silent, the defaults are ours.
    semantic_loss: Literal["sequence", "pooled"] = "sequence"
    semantic_distance: Literal["cosine", "mae", "mse", "kl"] = Field(
        "cosine", description="of the condition and the caption's encoding"
    )
    semantic_weight: float = Field(1.0, ge=0)
    rank: int = Field(4, ge=1, le=1024)
    alpha: float | None = Field(None, gt=0, description="None = rank, so that the scale is 1")
    tokens: int = Field(4, ge=1, le=1024, description="pseudo-words (descriptor tokens) per emotion")
    visual_tokens: int = Field(4, ge=1, le=1024)
    hidden: int = Field(512, ge=1, le=65_536)
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    mapper_input: Literal["one_hot", "learned", "name"] = Field(
        "one_hot",
        description="what stands for an emotion: one-hot, a learned vector, its name's text embedding",
    )
    emotion_loras: bool = True
    polarity_loras: bool = True
    content_prompts: Share = Field(
        0.3, description="share of samples with the pseudo-words in a neutral prompt"
    )
    v_dropout: Share = Field(0.0, description="share of samples whose v becomes their emotion's mean")
    condition_dropout: Share = Field(0.1, description="share of samples with the empty prompt as condition")

    # The pictures.
    resolution: int = Field(512, ge=8, multiple_of=8)
    flip: bool = True
    aspect_buckets: bool = Field(
        False, description="train pictures in the shape nearest to their own, not as centre squares"
    )
    cache_captions: bool | Literal["float32"] = Field(
        False,
        description="keep what the text encoder makes of captions: with SD 1.5 118 KB each, for less than 1% "
        'of the time; true in half precision, "float32" in full',
    )

    # The Gaussian clusters, fitted on the kept training pictures.
    gaussian_covariance: Literal["full", "diagonal"] = "full"
    gaussian_components: Literal["auto"] | Count = "auto"

    # What the adapter recommends, and what its previews use.
    guidance: float = Field(7.5, gt=0)
    hilora_branches: Literal["both", "conditional"] = "both"

    # Losses on held-out pictures, from the same noise every time.
    validate_every: Period = 500
    validation_pictures: Count = Field(16, description="of each emotion")
    validation_split: Literal["val", "test"] = "val"

    # The run's own records.
    save_every: Period = 1000
    keep_checkpoints: Count = 2
    log_every: Count = Field(10, description="steps between two readings of the losses from the device")
    max_bad_steps: Count = Field(5, description="non-finite steps in a row that end the run")
    preview_every: Period = 1000
    preview_columns: Count = 4
    preview_steps: Count = 20
    preview_prompt: str = "{emotion}"
    log_with: tuple[Literal["tensorboard", "wandb"], ...] = ()
    lost_after: float = Field(
        600.0,
        ge=1,
        le=30 * 86400,
        description="seconds after which another process that does not answer counts as lost",
    )
    licence: str | None = None
    origin: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if not self.targets:
            raise ValueError("targets is empty: HiLoRA needs at least one kind of layer")
        if self.init_mode == "add" and not (self.emotion_loras and self.polarity_loras):
            raise ValueError('init_mode = "add" keeps the adapter\'s LoRAs: none can be left out')
        if self.init_mode == "add" and self.init is None:
            raise ValueError('init_mode = "add" adds emotions to an adapter: name it by init')
        if "{emotion}" not in self.preview_prompt:
            raise ValueError("preview_prompt must contain {emotion}, the place of the pseudo-words")
        return self

    @property
    def caches_captions(self) -> bool:
        """Whether T(c) is read from the cache: where it is asked for, and a loss takes it."""
        return bool(self.cache_captions) and self.semantic_weight > 0


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a run's settings.

    Arguments:
        path: a TOML file, the name of a preset (`8gb`), or None for overrides alone. A file may build
            on a preset by `preset = "toy"`.
        overrides: `key=value` pairs that win over the file; values are TOML (`0.1`, `true`, `["to_q"]`), bare
            text is text, `none` is None. `preset=toy` is allowed here too.

    Raises:
        ConfigError: no such file, not TOML, an unknown key (named with the nearest), an impossible value.
    """
    where = "--set"
    table: dict[str, Any] = {}
    if path is not None:
        table, where = read_settings(path), str(path)
    table |= dict(override(pair) for pair in overrides)
    if (preset := table.pop("preset", None)) is not None:
        table = read_preset(str(preset)) | table
    return make_config(table, where)


def make_config(table: Mapping[str, Any], where: str = "the settings") -> TrainConfig:
    """Check a table of settings; `where` is what an error names as its place.

    Raises:
        ConfigError: an unknown key (named with the nearest valid one), a missing or an impossible value.
    """
    for key in table:
        if key not in TrainConfig.model_fields:
            raise ConfigError(f"{where}: unknown setting {key!r}; {_nearest(key)}.")
    missing = [
        key for key, field in TrainConfig.model_fields.items() if field.is_required() and key not in table
    ]
    if missing:
        raise ConfigError(f"{where}: the setting {missing[0]!r} is missing ({_describe(missing[0])}).")
    try:
        return TrainConfig.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:1])
        what = first["msg"].removeprefix("Value error, ")
        given = f" (given: {quoted(first['input'])})" if key else ""
        raise ConfigError(f"{where}: {key + ': ' if key else ''}{what}{given}.") from None


def check_resume(
    stored: Mapping[str, Any], config: TrainConfig, where: Path, was: int = 1, processes: int = 1
) -> list[str]:
    """Refuse to go on with settings under which the run would no longer be the one that was begun.

    A setting that the version which began the run did not have yet was, in effect, at its default.

    Arguments:
        was, processes: how many processes trained with the stored settings, and are to train with these.

    Returns:
        What was changed on purpose (`CHANGEABLE_ON_RESUME`), a clause each.

    Raises:
        ConfigError: settings that must not change on resumption, with both values.
    """
    now = config.model_dump(mode="json")
    stored = _defaults() | dict(stored)
    if was * _whole(stored) == processes * _whole(now):
        stored |= {key: now[key] for key in _PARTS_OF_A_BATCH}  # how it is divided changes no draw
    free = FREE_ON_RESUME - ({"steps"} if config.schedule == "cosine" else set())  # its end shapes its rates
    changed = {
        key: f"{key} was {stored[key]!r} and is now {now[key]!r}"
        for key in now
        if key not in free and key in stored and stored[key] != now[key]
    }
    if refused := [told for key, told in changed.items() if key not in CHANGEABLE_ON_RESUME]:
        raise ConfigError(
            f"{where}: the run cannot go on with other settings: {', '.join(refused)}; set them back, or "
            f"choose a new --out (free to change: {', '.join(sorted(free | CHANGEABLE_ON_RESUME))})."
        )
    return list(changed.values())


def _defaults() -> dict[str, Any]:
    """The settings that have a default, as a checkpoint stores them."""
    fields = TrainConfig.model_fields.items()
    return {name: to_jsonable_python(field.default) for name, field in fields if not field.is_required()}


def _whole(table: Mapping[str, Any]) -> int:
    """The effective batch of one process."""
    return math.prod(int(table[key]) for key in _PARTS_OF_A_BATCH)


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(
        key.casefold().replace("-", "_"), TrainConfig.model_fields, n=1, cutoff=0.0
    )
    return f"the nearest one is {near[0]!r}"


def _describe(key: str) -> str:
    return TrainConfig.model_fields[key].description or key
