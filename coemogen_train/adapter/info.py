"""What an adapter says of itself: the metadata that travels in its file, and its strict reading."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ..emotions import Taxonomy
from ..errors import AdapterError, TaxonomyError
from .hilora import ATTENTION_TARGETS

HILORA_BRANCHES = ("both", "conditional")
MAPPER_INPUTS = ("one_hot", "learned", "name")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
# Far above any model in use; what bounds the work that a hostile file can ask for.
_MAX_WIDTH = 65_536
_MAX_LAYERS = 2_000
_MAX_TEXT = 20_000
_MAX_DEPTH = 8


@dataclass(frozen=True)
class BaseInfo:
    """The base model that the adapter was trained on.

    architecture: such as "stable-diffusion-v1"; cross_attention_dim: the U-Net's; name: never a path.
    zero_terminal_snr: whether its noise schedule ends in pure noise, as many v-prediction bases' do.
    """

    architecture: str
    prediction_type: str
    cross_attention_dim: int
    name: str
    zero_terminal_snr: bool = False


@dataclass(frozen=True)
class TextEncoderInfo:
    """A text encoder: its width W, its clip skip, and whether pooled states were projected.

    clip_skip: the layer that is read, counted from the end, as people and ComfyUI count it (there with
        a minus) count it: 1 is the last, 2 the one before it.
    """

    width: int
    clip_skip: int = 1
    projected: bool = False


@dataclass(frozen=True)
class VisionInfo:
    """The image encoder whose pooled, projected embeddings v are read: its name, never a path, and V."""

    name: str
    width: int


@dataclass(frozen=True)
class GuidanceInfo:
    """The recommended guidance scale, and the branches on which HiLoRA runs: "both" or "conditional"."""

    scale: float = 7.5
    hilora_branches: str = "both"


@dataclass(frozen=True)
class AdapterInfo:
    """Everything that an adapter file says beside its tensors.

    taxonomy: the emotions, in the order of every axis E.
    base, text_encoders (one today), vision: the models it was trained with.
    layers: module path in a diffusers U-Net -> (in_features, out_features), what HiLoRA adapts.
    targets: the suffixes by which these layers were chosen.
    rank, alpha: HiLoRA's; tokens N, hidden, mapper_input: the mapper's; visual_tokens K: the encoder's.
    guidance: what to sample with.
    training: the settings it was trained with, plain JSON values by name, never a path.
    data: counts of the training data, numbers by name (or by emotion within a name), never a path.
    licence, origin: under which terms the weights may be used, and what they come from.
    """

    taxonomy: Taxonomy
    base: BaseInfo
    text_encoders: tuple[TextEncoderInfo, ...]
    vision: VisionInfo
    layers: Mapping[str, tuple[int, int]]
    targets: tuple[str, ...] = ATTENTION_TARGETS
    rank: int = 4
    alpha: float = 4.0
    tokens: int = 4
    visual_tokens: int = 4
    hidden: int = 512
    mapper_input: str = "one_hot"
    guidance: GuidanceInfo = GuidanceInfo()
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    origin: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The metadata as JSON holds it."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "taxonomy": self.taxonomy.to_dict(),
            "base": asdict(self.base),
            "text_encoders": [asdict(encoder) for encoder in self.text_encoders],
            "vision": asdict(self.vision),
            "layers": {key: list(size) for key, size in sorted(self.layers.items())},
            "targets": list(self.targets),
            "alpha": float(self.alpha),
            "guidance": asdict(self.guidance) | {"scale": float(self.guidance.scale)},
            "training": dict(self.training),
            "data": dict(self.data),
        }

    @staticmethod
    def from_dict(plain: Any) -> AdapterInfo:
        """Read what `to_dict` wrote; every field must be there, known, and of a possible value.

        Raises:
            AdapterError: otherwise, naming the field.
        """
        _check_fields(plain, AdapterInfo, "the adapter's metadata")
        encoders = _list(plain["text_encoders"], "text_encoders")
        if len(encoders) != 1:
            raise AdapterError(
                f"it needs {len(encoders)} text encoders, this version knows one; update coemogen."
            )
        layers = plain["layers"]
        if not isinstance(layers, dict) or not 1 <= len(layers) <= _MAX_LAYERS:
            raise AdapterError("its metadata names no layers, or too many.")
        guidance = _check_fields(plain["guidance"], GuidanceInfo, "'guidance'")
        try:
            taxonomy = Taxonomy.from_dict(plain["taxonomy"])
        except TaxonomyError as error:
            raise AdapterError(f"its list of emotions is broken: {error}") from None
        return AdapterInfo(
            taxonomy=taxonomy,
            base=_base(plain["base"]),
            text_encoders=tuple(_text_encoder(encoder) for encoder in encoders),
            vision=_vision(plain["vision"]),
            layers={_module_path(key): _size(size, key) for key, size in layers.items()},
            targets=tuple(_module_path(target) for target in _list(plain["targets"], "targets")),
            rank=_count(plain["rank"], "rank", 1024),
            alpha=_number(plain["alpha"], "alpha", above=0),
            tokens=_count(plain["tokens"], "tokens", 1024),
            visual_tokens=_count(plain["visual_tokens"], "visual_tokens", 1024),
            hidden=_count(plain["hidden"], "hidden"),
            mapper_input=_one_of(plain.get("mapper_input", "one_hot"), MAPPER_INPUTS, "mapper_input"),
            guidance=GuidanceInfo(
                _number(guidance["scale"], "guidance scale", above=0),
                _one_of(guidance["hilora_branches"], HILORA_BRANCHES, "hilora_branches"),
            ),
            training=_summary(plain["training"], "training"),
            data=_summary(plain["data"], "data"),
            licence=check_text(plain["licence"], "licence"),
            origin=check_text(plain["origin"], "origin"),
        )


def check_no_paths(value: Any, where: str = "info") -> None:
    """Adapters are shared: metadata that holds a path of the trainer's machine is a fault of ours.

    Raises:
        ValueError: an absolute path, or one below the home folder, anywhere in `value`.
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            check_no_paths(key, where)
            check_no_paths(part, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for part in value:
            check_no_paths(part, where)
    elif isinstance(value, str):
        absolute = PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
        if absolute or value.startswith(("~/", "~\\")):
            raise ValueError(
                f"{where} holds the path '{value}': an adapter must not tell where it was trained."
            )


# Fields that came after the first files of format version 1: where they are absent, their default is meant.
_LATER_FIELDS = {"mapper_input", "zero_terminal_snr"}


def _check_fields(plain: Any, kind: type, what: str) -> dict[str, Any]:
    names = set(kind.__dataclass_fields__)  # type: ignore[attr-defined]  # every kind here is a dataclass
    if not isinstance(plain, dict):
        raise AdapterError(f"{what} is broken.")
    for name in sorted((names ^ set(plain)) - (_LATER_FIELDS & names)):
        fault = "lacks" if name in names else "has an unknown"
        raise AdapterError(f"{what} {fault} {name[:100]!a}: it was altered, or written by another version.")
    return plain


def _base(plain: Any) -> BaseInfo:
    _check_fields(plain, BaseInfo, "'base'")
    return BaseInfo(
        architecture=check_text(plain["architecture"], "base architecture"),
        prediction_type=_one_of(plain["prediction_type"], PREDICTION_TYPES, "prediction_type"),
        cross_attention_dim=_count(plain["cross_attention_dim"], "cross_attention_dim"),
        name=check_text(plain["name"], "base name"),
        zero_terminal_snr=_flag(plain.get("zero_terminal_snr", False), "zero_terminal_snr"),
    )


def _text_encoder(plain: Any) -> TextEncoderInfo:
    _check_fields(plain, TextEncoderInfo, "a text encoder")
    return TextEncoderInfo(
        _count(plain["width"], "text encoder width"),
        max(1, _count(plain["clip_skip"], "clip_skip", 100, least=0)),  # the first files wrote 0 for none
        _flag(plain["projected"], "projected"),
    )


def _vision(plain: Any) -> VisionInfo:
    _check_fields(plain, VisionInfo, "'vision'")
    return VisionInfo(check_text(plain["name"], "vision name"), _count(plain["width"], "vision width"))


def _size(size: Any, key: str) -> tuple[int, int]:
    if not isinstance(size, list) or len(size) != 2:
        raise AdapterError(f"its layer '{key[:100]}' has no size.")
    return _count(size[0], f"layer '{key[:100]}'"), _count(size[1], f"layer '{key[:100]}'")


def _module_path(name: Any) -> str:
    if not isinstance(name, str) or len(name) > 200 or not re.fullmatch(r"\w+(\.\w+)*", name, re.ASCII):
        raise AdapterError(f"its metadata names an impossible layer, {ascii(name)[:60]}.")
    return name


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_LAYERS:
        raise AdapterError(f"its metadata '{what}' must be a list.")
    return value


def _count(value: Any, what: str, most: int = _MAX_WIDTH, least: int = 1) -> int:
    if type(value) is not int or not least <= value <= most:
        raise AdapterError(f"its metadata {what} must be a whole number from {least} to {most}.")
    return value


def _number(value: Any, what: str, above: float) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e9 or not math.isfinite(value) or value <= above:
        raise AdapterError(f"its metadata {what} must be a number above {above}.")
    return float(value)


def _one_of(value: Any, known: tuple[str, ...], what: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise AdapterError(
            f"its metadata {what} is {ascii(value)[:40]}, this version knows {', '.join(known)}."
        )
    return value


def _flag(value: Any, what: str) -> bool:
    if type(value) is not bool:
        raise AdapterError(f"its metadata '{what}' must be true or false.")
    return value


def check_text(value: Any, what: str) -> str:
    """Give a text that an adapter may carry, as it is.

    Raises:
        AdapterError: too long, or with characters that do not print.
    """
    # Only what prints: a terminal obeys other characters when the text is shown.
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.replace("\n", "").isprintable():
        raise AdapterError(f"its metadata {what} must be a printable text of at most {_MAX_TEXT} characters.")
    return value


def _summary(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise AdapterError(f"its metadata '{what}' must be a table.")
    _check_free(value, what)
    return value


def _check_free(value: Any, what: str, depth: int = 0) -> None:
    """What stands in a file as it likes must still be writable, and readable by functions that recurse."""
    if isinstance(value, dict | list):
        if depth == _MAX_DEPTH:
            raise AdapterError(f"its metadata '{what}' has tables more than {_MAX_DEPTH} deep.")
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_free(part, what, depth + 1)
    elif isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise AdapterError(f"its metadata '{what}' holds a text that is no Unicode.") from None
