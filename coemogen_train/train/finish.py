"""From a run to its adapter: what was learned, the clusters of v, and what there is to say about both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import __version__
from ..adapter.file import Adapter, save_adapter
from ..adapter.info import AdapterInfo, BaseInfo, GuidanceInfo, TextEncoderInfo, VisionInfo, check_no_paths
from ..errors import AdapterError, ConfigError
from ..files import canonical_json
from .items import emotion_counts, of_emotions
from .setup import Run

# Settings that say how an adapter came about; where things lay on the disk is nobody's business.
_TOLD = (
    *("batch_size", "accumulate", "learning_rate", "warmup_steps", "schedule", "weight_decay"),
    *("max_grad_norm", "ema_decay", "min_snr_gamma", "precision", "seed"),
    *("semantic_loss", "semantic_distance", "semantic_weight", "emotion_loras", "polarity_loras"),
    *("content_prompts", "v_dropout", "condition_dropout"),
    *("resolution", "flip", "aspect_buckets", "gaussian_covariance", "gaussian_components"),
)


def make_info(run: Run, steps: int) -> AdapterInfo:
    """Describe the adapter as it is after `steps` optimiser steps.

    Raises:
        ConfigError: the licence or the origin is a path of this machine, which an adapter must not tell.
    """
    config, base, hilora = run.config, run.base, run.objective.hilora
    settings = config.model_dump(mode="json") | {"gaussian_covariance": run.covariance}
    projection = getattr(base.text_encoder, "text_projection", None)
    info = AdapterInfo(
        taxonomy=run.taxonomy,
        base=BaseInfo(
            base.architecture,
            base.prediction_type,
            base.cross_attention_dim,
            base.name,
            base.zero_terminal_snr,
        ),
        text_encoders=(TextEncoderInfo(base.width, base.clip_skip, projection is not None),),
        vision=VisionInfo(run.vision_name, run.vision_width),
        layers=hilora.layers,
        targets=tuple(config.targets),
        rank=hilora.rank,
        alpha=hilora.alpha,
        tokens=config.tokens,
        visual_tokens=config.visual_tokens,
        hidden=config.hidden,
        mapper_input=config.mapper_input,
        guidance=GuidanceInfo(config.guidance, config.hilora_branches),
        training={
            "software": f"coemogen {__version__}",
            "steps": steps,
            "processes": run.accelerator.num_processes,
            **{key: settings[key] for key in _TOLD},
            **_went_on_from(run),
        },
        data=_data_summary(run),
        licence=run.start.terms(config, "licence")[0],
        origin=run.start.terms(config, "origin")[0],
    )
    try:
        check_no_paths(info.to_dict(), "the adapter's description")
        AdapterInfo.from_dict(json.loads(canonical_json(info.to_dict())))  # as its readers will
    except (ValueError, AdapterError) as error:
        raise ConfigError(f"the adapter could not say of itself what it must: {error}") from None
    return info


def _went_on_from(run: Run) -> dict[str, Any]:
    """Name the adapter at the start by its content, and the steps that it had: no file, no folder."""
    start = run.start
    if start.source is None:
        return {}
    steps = start.source.info.training.get("steps")
    return {"init": {"sha256": start.source_sha256, "mode": run.config.init_mode, "steps": steps}}


def _data_summary(run: Run) -> dict[str, Any]:
    """Count the pictures by emotion; those of carried emotions as their own adapter counts them."""
    start = run.start
    per_emotion = emotion_counts(start.samples)
    before = of_emotions(run.training_set.samples("train"), start.trained.names)
    dropped = len(before) - len(before.where(kept_only=True))
    known = start.carried.info.data.get("per_emotion", {}) if start.carried else {}
    return {
        "pictures": sum(per_emotion.values()),
        "dropped_by_filter": dropped,
        "held_out_for_validation": len(start.held_out),
        "per_emotion": {name: per_emotion[name] or known.get(name, 0) for name in run.taxonomy.names},
    }


def make_adapter(run: Run, steps: int) -> Adapter:
    """Give the adapter as it is now, sharing its weights with the run."""
    return Adapter(make_info(run, steps), run.objective.embedder, run.objective.hilora, run.gaussians)


def write_adapter(run: Run, path: Path, steps: int) -> None:
    """Write the adapter, whole or not at all; with the averaged weights, where these are kept.

    Raises:
        AdapterError: weights that are not finite.
    """
    with run.optimiser.averaged():
        save_adapter(make_adapter(run, steps), path)
