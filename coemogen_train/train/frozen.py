"""The frozen base of a run: loaded with the right settings, proved on pictures, put into its precision."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..base.generate import setting_warnings
from ..base.load import load_base
from ..base.prediction import measured_prediction_type
from ..data.images import ImageProblem, load_rgb
from ..data.pixels import square, to_pixels
from ..errors import ConfigError
from .config import TrainConfig
from .precision import dtype_of
from .start import base_settings

if TYPE_CHECKING:
    from ..base.model import BaseModel
    from ..data.samples import Sample
    from .start import Start

logger = logging.getLogger(__name__)

# So many pictures tell epsilon from v; each costs a pass of the VAE.
_PROVING_PICTURES = 4


def load_frozen_base(config: TrainConfig, start: Start, device: torch.device) -> BaseModel:
    """Load the base with the clip skip and the prediction type that it needs.

    What the settings say wins, then what the file says, then what the adapter at the start was trained with.

    Raises:
        UserError: no such base, or one whose U-Net visibly predicts something else than nobody said it does.
    """
    clip_skip, prediction_type, fallback = base_settings(config, start.source)
    base = load_base(config.base, device, torch.float32, clip_skip, prediction_type, fallback)
    if start.source is not None:
        for warning in setting_warnings(base, start.source):
            logger.warning(warning)
    _prove_prediction_type(base, config, start.samples)
    return base


def park_unet(base: BaseModel) -> None:
    """Take the U-Net off the device while the cache is made, which needs the room and not the U-Net."""
    nn.Module.to(base.unet, "cpu")


def set_precision(base: BaseModel, precision: str, device: torch.device, checkpointing: bool) -> None:
    """Put the frozen U-Net on the device in the precision of training, after the cache was made in float32.

    The text encoder stays in float32 (autocast still runs its products in half): it is small, and the cosine
    of the semantic loss is taken on its outputs. The base came with its convolutions in their own layout.
    cuDNN's search for the fastest algorithm stays off: it goes by the clock, and a resumed run would no
    longer end as it would have; TF32 stays as torch has it, so that fp32 is what its name says.
    """
    dtype = dtype_of(precision)
    # nn.Module's own `to`: diffusers' warns of modules that it does not name. First the type, so that the
    # device never holds it whole.
    nn.Module.to(nn.Module.to(base.unet, dtype), device)
    if dtype == torch.bfloat16:  # SD 1.5's VAE overflows in float16
        nn.Module.to(base.vae, dtype)
    if checkpointing:
        base.unet.train()  # older diffusers checkpoint in train mode only; the U-Net has no dropout
        base.unet.enable_gradient_checkpointing()


def _prove_prediction_type(base: BaseModel, config: TrainConfig, samples: Sequence[Sample]) -> None:
    """Compare what the U-Net is said to predict with what it predicts: nothing else would tell for hours."""
    pictures = []
    for sample in samples[:_PROVING_PICTURES]:
        with suppress(ImageProblem):  # gone, but cached: whatever else is wrong with it is told there
            pictures.append(square(load_rgb(sample.image), config.resolution))
    if not pictures:
        return
    mean, _ = base.encode_latents(to_pixels(pictures))
    measured = measured_prediction_type(base, mean)
    if measured is None or measured == base.prediction_type:
        return
    if config.prediction_type == "auto" and base.declared.prediction_type is None:
        raise ConfigError(
            f"{base.name}: the file does not say what its U-Net predicts, and its errors are those of "
            f"{measured}: say --set prediction_type={measured} (or epsilon, if you know better)."
        )
    logger.warning(
        "%s is said to predict %s, but its errors are those of %s: check prediction_type",
        *(base.name, base.prediction_type, measured),
    )
