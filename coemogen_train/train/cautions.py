"""What is no mistake but may be one: told before a run, and never in its way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..data.buckets import Size, bucket_of, bucket_sizes
from ..data.samples import Sample, SampleRows, TrainingSet
from .config import TrainConfig
from .items import emotion_counts

if TYPE_CHECKING:
    from ..base.shape import BaseShape


def cautions_of(
    config: TrainConfig,
    shape: BaseShape,
    training_set: TrainingSet,
    samples: SampleRows,
    validation: Sequence[Sample],
    going_on: bool = False,
) -> list[str]:
    """Tell what is no mistake but may be one; a sentence each."""
    info = training_set.info
    told = []
    if shape.assumed:
        told.append(f"The sizes of {shape.name} are assumed: {shape.assumed}.")
    elif not going_on and shape.declared.prediction_type is None and config.prediction_type == "auto":
        told.append(
            f"{shape.name} does not say what its U-Net predicts; {shape.prediction_type} is "
            "assumed. If its page says otherwise: --set prediction_type=v_prediction."
        )
    said = {name: getattr(config, name) for name in ("licence", "origin")}
    unknown = [name for name, text in said.items() if not (getattr(info, name) if text is None else text)]
    if unknown:
        settings = " ".join(f"--set {name}=..." for name in unknown)
        told.append(
            f"The {' and the '.join(unknown)} of the pictures {'is' if len(unknown) == 1 else 'are'} not "
            f"known: say under which terms the adapter may be used and what it comes from, {settings}."
        )
    told += _of_validation(config, samples, validation)
    silent = len(samples) - len(samples.captioned())
    if silent:
        told.append(f"{silent} of {len(samples)} training pictures have no caption.")
    return told + _of_sizes(config, shape, samples)


def _of_sizes(config: TrainConfig, shape: BaseShape, samples: SampleRows) -> list[str]:
    """A picture is enlarged where it does not cover the size that it is trained in."""
    sizes: tuple[Size, ...] = ((config.resolution, config.resolution),)
    than = f"{config.resolution} pixels on a side"
    if config.aspect_buckets:
        sizes = bucket_sizes(config.resolution, shape.resolution_multiple)
        width, height = sizes[0]
        than = f"the bucket of their shape (at {config.resolution} pixels such as {width} x {height})"
    sides = samples.columns("width", "height")
    given = np.stack([sides[name].to_numpy() for name in ("width", "height")], axis=1)
    needed = np.array(sizes)[bucket_of(samples, sizes)]
    small = int((given < needed).any(axis=1).sum())
    if not small:
        return []
    return [
        f"{small} of {len(samples)} training pictures are smaller than {than} and are enlarged, which "
        "teaches blur."
    ]


def _of_validation(config: TrainConfig, samples: SampleRows, validation: Sequence[Sample]) -> list[str]:
    if not config.validate_every:
        return []
    if not validation:
        return [
            f"No picture is held out in the split {config.validation_split!r}, so there will be no "
            "validation loss, by which learning by heart is seen."
        ]
    bare = sorted(emotion_counts(samples).keys() - emotion_counts(validation).keys())
    if bare:
        return [f"No picture is held out for {', '.join(bare)}: the validation loss says nothing of them."]
    return []
