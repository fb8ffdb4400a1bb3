"""What a base model's files say of themselves, and what holds where they say nothing.

A U-Net does not show what it predicts, nor from which layer of the text encoder it was taught; some files
say so, in one of the ways that are read here.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..adapter.info import PREDICTION_TYPES
from ..errors import UserError

# Layers of the text encoder that Stable Diffusion 1.5 uses, CLIP ViT-L/14, by its width.
_WHOLE_DEPTH = {768: 12}
_SPELLINGS = {
    **dict.fromkeys(("epsilon", "eps"), "epsilon"),
    **dict.fromkeys(("v", "v_prediction", "v_pred", "vpred"), "v_prediction"),
    **dict.fromkeys(("sample", "x0"), "sample"),
}
_YES_NO = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Declared:
    """What the files themselves say; None where they are silent.

    prediction_type: "epsilon", "v_prediction" or "sample".
    clip_skip: the layer that the U-Net was taught from, counted from the end: 1 is the last.
    zero_terminal_snr: whether the noise schedule ends in pure noise.
    """

    prediction_type: str | None = None
    clip_skip: int | None = None
    zero_terminal_snr: bool | None = None


@dataclass(frozen=True)
class BaseSettings:
    """How a base is used: as `Declared`, but decided; `layers`: of the text encoder, those that are kept."""

    prediction_type: str
    clip_skip: int
    zero_terminal_snr: bool
    layers: int

    def schedule(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler's configuration with these settings in it."""
        changed = {**config, "prediction_type": self.prediction_type}
        if self.zero_terminal_snr:
            changed["rescale_betas_zero_snr"] = True
            # Other spacings leave out the last step, which is the one that is pure noise.
            changed.setdefault("timestep_spacing", "trailing")
        elif config.get("rescale_betas_zero_snr"):
            changed["rescale_betas_zero_snr"] = False
        return changed


def declared_in_file(metadata: Mapping[str, str], names: Container[str], width: int, layers: int) -> Declared:
    """What a checkpoint file says, by its metadata and by the markers among its tensors' names.

    Args:
        metadata: of the safetensors header; ModelSpec's, kohya's and ComfyUI's keys are known.
        names: of the tensors; `v_pred` and `ztsnr` are the empty tensors that people mark v-prediction with.
        width, layers: of the text encoder in the file.
    """
    told = {key: str(value).strip().lower() for key, value in metadata.items()}
    prediction_type = _SPELLINGS.get(told.get("modelspec.prediction_type", "").replace("-", "_"))
    # ComfyUI calls every Stable Diffusion 1.5 "epsilon" when it saves one, so that only its "v" is a word.
    if prediction_type is None and told.get("modelspec.predict_key") == "v":
        prediction_type = "v_prediction"
    if prediction_type is None and (v := _YES_NO.get(told.get("ss_v_parameterization", ""))) is not None:
        prediction_type = "v_prediction" if v else "epsilon"
    if "v_pred" in names:
        prediction_type = "v_prediction"
    zero_terminal_snr = True if "ztsnr" in names else _YES_NO.get(told.get("ss_zero_terminal_snr", ""))

    baked = layers_left_out(width, layers)
    clip_skip = baked + 1 if baked else None
    for key in ("modelspec.encoder_layer", "ss_clip_skip"):
        value = told.get(key, "")
        if clip_skip is None and value.isdecimal() and 1 <= int(value) <= layers:
            clip_skip = int(value)
    return Declared(prediction_type, clip_skip, zero_terminal_snr)


def declared_in_folder(
    scheduler: Mapping[str, Any], width: int, layers: int, path: Path | None = None
) -> Declared:
    """What a diffusers folder says: its scheduler's configuration, and how deep its text encoder is.

    Raises:
        UserError: it says that its U-Net predicts something unheard of; `path` is the folder.
    """
    prediction_type = scheduler.get("prediction_type")
    if prediction_type is not None and prediction_type not in PREDICTION_TYPES:
        raise UserError(
            f"{path}: its scheduler says that the U-Net predicts '{prediction_type}', which is not "
            "supported: use a base as Stable Diffusion 1.5."
        )
    zero_terminal_snr = scheduler.get("rescale_betas_zero_snr")
    baked = layers_left_out(width, layers)
    return Declared(
        prediction_type,
        baked + 1 if baked else None,
        None if zero_terminal_snr is None else bool(zero_terminal_snr),
    )


@dataclass(frozen=True)
class Wanted:
    """How a base is asked for.

    clip_skip, prediction_type: as in `Declared`; None: as the files say.
    fallback: for where the files are silent; what it says None to is 1, "epsilon" and False.
    """

    clip_skip: int | None = None
    prediction_type: str | None = None
    fallback: Declared = Declared()

    def settle(self, path: str | Path, declared: Declared, width: int, layers: int) -> BaseSettings:
        """Decide: what is given wins over what the files say, and that over the fallback.

        Args:
            path: named in errors.
            width, layers: of the text encoder in the files.

        Raises:
            UserError: the text encoder has not so many layers, or that layer is not in the files; or there
                is no such prediction type.
        """
        predicted = self.prediction_type or declared.prediction_type or self.fallback.prediction_type
        predicted = predicted or "epsilon"
        if predicted not in PREDICTION_TYPES:
            raise UserError(
                f"there is no prediction type '{predicted}': choose one of {', '.join(PREDICTION_TYPES)}."
            )
        zero = declared.zero_terminal_snr
        zero = self.fallback.zero_terminal_snr if zero is None else zero
        # From pure noise a picture cannot be told by predicting that noise: samplers would divide by zero.
        zero_terminal_snr = bool(zero) and predicted != "epsilon"
        least = layers_left_out(width, layers) + 1
        clip_skip = self._clip_skip(path, declared, least, layers)
        return BaseSettings(predicted, clip_skip, zero_terminal_snr, layers - (clip_skip - least))

    def _clip_skip(self, path: str | Path, declared: Declared, least: int, layers: int) -> int:
        most = least + layers - 1
        if self.clip_skip is None:
            advised = declared.clip_skip or self.fallback.clip_skip or least
            return advised if least <= advised <= most else least
        if 1 <= self.clip_skip < least:
            raise UserError(
                f"{path}: its text encoder was saved without its last layers, clip skip {least} is built "
                f"in, so that clip skip {self.clip_skip} cannot be had: take {least}, or a base with all "
                "layers."
            )
        if not least <= self.clip_skip <= most:
            raise UserError(
                f"{path}: there is no clip skip {self.clip_skip} in its text encoder of {layers} layers: "
                f"choose {least} to {most}."
            )
        return self.clip_skip


def layers_left_out(width: int, layers: int) -> int:
    """Layers of a known text encoder that whoever saved it has left away at its end: clip skip, built in."""
    missing = _WHOLE_DEPTH.get(width, layers) - layers
    return missing if 0 < missing < layers else 0  # with half of them gone it is another text encoder
