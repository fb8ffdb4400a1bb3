"""From a run to its adapter: what was learned, the clusters of v, and what there is to say about both."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ..adapter.file import Adapter, save_adapter
from ..adapter.info import AdapterInfo, BaseInfo, GuidanceInfo, TextEncoderInfo, VisionInfo, check_no_paths
from ..errors import ConfigError
from .setup import Run

# Settings that say how an adapter came about; where things lay on the disk is nobody's business.
_TOLD = (
    *(
        "batch_size",
        "accumulate",
        "learning_rate",
        "warmup_steps",
        "weight_decay",
        "max_grad_norm",
        "precision",
    ),
    *("seed", "semantic_loss", "semantic_weight", "content_prompts", "v_dropout", "condition_dropout"),
    *("resolution", "flip", "gaussian_covariance", "gaussian_components"),
)


def make_info(run: Run, steps: int) -> AdapterInfo:
    """Describe the adapter as it is after `steps` optimiser steps.

    Raises:
        ConfigError: the licence or the origin is a path of this machine, which an adapter must not tell.
    """
    config, base, hilora = run.config, run.base, run.objective.hilora
    settings = config.model_dump(mode="json")
    samples = run.training_set.samples("train")
    per_emotion = Counter(sample.emotion for sample in samples if sample.kept)
    projection = getattr(base.text_encoder, "text_projection", None)
    info = AdapterInfo(
        taxonomy=run.taxonomy,
        base=BaseInfo(base.architecture, base.prediction_type, base.cross_attention_dim, base.name),
        text_encoders=(TextEncoderInfo(base.width, projected=projection is not None),),
        vision=VisionInfo(run.vision_name, run.embeds.shape[1]),
        layers=hilora.layers,
        targets=tuple(config.targets),
        rank=hilora.rank,
        alpha=hilora.alpha,
        tokens=config.tokens,
        visual_tokens=config.visual_tokens,
        hidden=config.hidden,
        guidance=GuidanceInfo(config.guidance, config.hilora_branches),
        training={
            "steps": steps,
            "processes": run.accelerator.num_processes,
            **{key: settings[key] for key in _TOLD},
        },
        data={
            "pictures": sum(per_emotion.values()),
            "dropped_by_filter": sum(not sample.kept for sample in samples),
            "per_emotion": {name: per_emotion[name] for name in run.taxonomy.names},
        },
        licence=config.licence if config.licence is not None else run.training_set.info.licence,
        origin=config.origin if config.origin is not None else run.training_set.info.origin,
    )
    try:
        check_no_paths(info.to_dict(), "the adapter's description")
    except ValueError as error:
        raise ConfigError(f"{error} Say it otherwise with --set licence=... or --set origin=...") from None
    return info


def make_adapter(run: Run, steps: int) -> Adapter:
    """Give the adapter as it is now, sharing its weights with the run."""
    return Adapter(make_info(run, steps), run.objective.embedder, run.objective.hilora, run.gaussians)


def write_adapter(run: Run, path: Path, steps: int) -> None:
    """Write the adapter, whole or not at all.

    Raises:
        AdapterError: weights that are not finite.
    """
    save_adapter(make_adapter(run, steps), path)
