"""What can be found wrong before minutes are lost: settings, set, pictures, sizes, packages, folders.

Everything here looks at names, tables and headers only; not a weight is read and nothing is written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapter.info import check_no_paths, check_text
from ..data.buckets import bucket_sizes
from ..data.samples import Sample, SampleRows, TrainingSet
from ..emotions import Taxonomy
from ..errors import AdapterError, ConfigError, TaxonomyError
from .cautions import cautions_of
from .config import TrainConfig
from .disk import CacheStock, cache_stock, nearest_existing
from .pictures import check_pictures, check_variety, training_samples, validation_samples
from .trackers import check_trackers

if TYPE_CHECKING:
    from ..adapter.info import AdapterInfo
    from ..base.shape import BaseShape


@dataclass(frozen=True)
class Checked:
    """What `check_run` found in order.

    taxonomy: the emotions that this run trains. samples: what is trained on, sorted by id. validation: what
    is held out for the validation loss, sorted by id. stock: what the set's cache holds already. warnings:
    one sentence each, of what is no mistake but may be one.
    """

    taxonomy: Taxonomy
    samples: SampleRows
    validation: list[Sample]
    stock: CacheStock
    warnings: list[str]


def check_run(
    config: TrainConfig,
    base_shape: BaseShape,
    training_set: TrainingSet,
    *,
    resume: bool = False,
    device: str = "cpu",
    source: AdapterInfo | None = None,
    vision_width: int | None = None,
) -> Checked:
    """Find every mistake that needs no weights, the cheapest first.

    Arguments:
        config: the run's settings. base_shape: of `config.base`. training_set: of `config.set`.
        resume: whether `config.out` may hold a run.
        device: the type of the device to train on, "cpu", "cuda" or "mps".
        source: what the adapter at `config.init` says of itself.
        vision_width: V of `config.vision`; None: unknown, and then not compared.

    Raises:
        ConfigError, DataError: the first mistake, one sentence with the file's name and what to do.
    """
    check_folder(config.out, resume)
    check_told(config, training_set)
    check_trackers(config.log_with)
    check_precision(config.precision, device)
    check_resolution(config.resolution, base_shape)
    taxonomy = selected_taxonomy(training_set, config)
    if source is not None:
        check_source(config, source, base_shape, vision_width)
        if config.init_mode == "add":
            taxonomy = added_emotions(taxonomy, source.taxonomy, training_set.root)
    samples = training_samples(training_set, taxonomy, captions_needed=config.semantic_weight > 0)
    check_variety(training_set, samples)
    validation = validation_samples(training_set, taxonomy, config)
    stock = cache_stock(
        training_set.cache_folder, latent_sizes(config, base_shape), config.flip, config.aspect_buckets
    )
    check_pictures(training_set, validation, stock)
    warnings = cautions_of(config, base_shape, training_set, samples, validation, going_on=source is not None)
    return Checked(taxonomy, samples, validation, stock, warnings)


def latent_sizes(config: TrainConfig, base_shape: BaseShape) -> set[tuple[int, int]]:
    """Height and width of the latents that a run trains on, and of those it is measured by."""
    sizes = {(config.resolution, config.resolution)}
    if config.aspect_buckets:
        sizes |= {*bucket_sizes(config.resolution, base_shape.resolution_multiple)}
    return {(height // base_shape.vae_factor, width // base_shape.vae_factor) for width, height in sizes}


def selected_taxonomy(training_set: TrainingSet, config: TrainConfig) -> Taxonomy:
    """Give the set's taxonomy, restricted to `config.emotions` where these are named; in the set's order.

    Raises:
        ConfigError: a name that the set lacks; the message lists its emotions, the nearest first.
    """
    taxonomy = training_set.taxonomy
    if config.emotions is None:
        return taxonomy
    if not config.emotions:
        raise ConfigError(
            f"emotions is empty: name some of {training_set.root} ({', '.join(taxonomy.names)}), or leave it "
            "out to train them all."
        )
    try:
        chosen = {taxonomy.index(name) for name in config.emotions}
    except TaxonomyError as error:
        raise ConfigError(f"emotions: {training_set.root}: {error}") from None
    return Taxonomy(taxonomy.name, tuple(taxonomy.emotions[index] for index in sorted(chosen)))


def added_emotions(selected: Taxonomy, source: Taxonomy, where: Path) -> Taxonomy:
    """Give those of `selected` that the adapter to add to does not have yet.

    Raises:
        ConfigError: it has them all.
    """
    new = tuple(emotion for emotion in selected.emotions if not has_emotion(source, emotion.name))
    if not new:
        raise ConfigError(
            f"{where}: the adapter to add to has all emotions of this set already "
            f"({', '.join(source.names)}): add others, or train it on with --set init_mode=continue."
        )
    return Taxonomy(selected.name, new)


def check_told(config: TrainConfig, training_set: TrainingSet) -> None:
    """Refuse a licence or an origin that an adapter cannot carry.

    Raises:
        ConfigError: a path of this machine, or characters that do not print.
    """
    for name in ("licence", "origin"):
        said = getattr(config, name)
        text = getattr(training_set.info, name) if said is None else said
        try:
            check_no_paths(text, name)
            check_text(text, name)
        except (ValueError, AdapterError) as error:
            raise ConfigError(f"{str(error).rstrip('.')}: say it otherwise with --set {name}=...") from None


def check_folder(out: Path, resume: bool) -> None:
    """Refuse a folder that holds a run already, or in which nothing can be written.

    Raises:
        ConfigError: otherwise.
    """
    if not resume and any(path.exists() for path in (out / "checkpoints", out / "history.jsonl")):
        raise ConfigError(f"{out} already holds a run: go on with --resume, or choose another --out.")
    parent = nearest_existing(out)
    if not parent.is_dir():
        raise ConfigError(f"{out}: {parent} is a file, not a folder: choose another --out.")
    if not os.access(parent, os.W_OK):
        raise ConfigError(f"{out}: nothing can be written in {parent}: choose another --out.")


def check_precision(precision: str, device: str) -> None:
    """Refuse half precision where the device cannot train in it.

    Raises:
        ConfigError: fp16 on a CPU.
    """
    if precision == "fp16" and device == "cpu":
        raise ConfigError("precision fp16 needs a GPU; on the CPU take fp32 or bf16.")
    if precision == "bf16" and device == "cuda":
        import torch

        if torch.cuda.get_device_capability() < (8, 0):
            raise ConfigError("this GPU computes bf16 only by detours: take --set precision=fp16.")


def check_resolution(resolution: int, base_shape: BaseShape) -> None:
    """Refuse a resolution that the base cannot halve as often as it must and get back whole.

    Raises:
        ConfigError: with the nearest one that it can.
    """
    multiple = base_shape.resolution_multiple
    if resolution % multiple:
        near = max(multiple, round(resolution / multiple) * multiple)
        raise ConfigError(
            f"resolution {resolution} does not suit {base_shape.name}, which needs a multiple of {multiple}: "
            f"take {near}."
        )


def check_source(
    config: TrainConfig, source: AdapterInfo, base_shape: BaseShape, vision_width: int | None
) -> None:
    """Refuse to go on from an adapter that was made for another base or another CLIP.

    Raises:
        ConfigError: what differs, with both sides.
    """
    if base_shape.assumed is None and (
        source.base.architecture != base_shape.architecture
        or source.text_encoders[0].width != base_shape.width
    ):
        raise ConfigError(
            f"{config.init}: the adapter to go on from was trained on {source.base.name} "
            f"({source.base.architecture}), and {base_shape.name} is {base_shape.architecture}: take a base "
            "of that architecture."
        )
    if vision_width is not None and vision_width != source.vision.width:
        raise ConfigError(
            f"{config.init}: the adapter to go on from reads pictures by {source.vision.name}, "
            f"{source.vision.width} wide, and {config.vision} is {vision_width} wide: take that CLIP model."
        )


def has_emotion(taxonomy: Taxonomy, name: str) -> bool:
    """Say whether the taxonomy has an emotion, spelling forgiven as `Taxonomy.index` does."""
    try:
        taxonomy.index(name)
    except TaxonomyError:
        return False
    return True
