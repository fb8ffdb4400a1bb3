"""Pictures from an adapter: emotion rows to conditions, conditions to pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from ..adapter.condition import at_intensity, encode_text, plain_prompt, prompt_ids
from ..errors import AdapterError
from .declared import Declared
from .model import BaseModel
from .sampling import Progress, SamplingSettings, generate_images, noise_seeds

if TYPE_CHECKING:
    from ..adapter.file import Adapter

# Rows per pass of the text encoder, so that a thousand pictures' conditions need no more memory than these.
_TEXT_BATCH = 32


@torch.no_grad()
def encode_prompts(base: BaseModel, prompts: Sequence[str]) -> Tensor:
    """The text encoder's states [n, L, W] of plain prompts, float32 on the CPU: the base's own conditions."""
    rows = []
    for start in range(0, len(prompts), _TEXT_BATCH):
        ids = [
            prompt_ids(base.tokenizer, prompt, 0, base.max_length).input_ids
            for prompt in prompts[start:][:_TEXT_BATCH]
        ]
        states = encode_text(base.text_encoder, torch.stack(ids).to(base.device), base.tokenizer.eos_token_id)
        rows.append(states.hidden.float().cpu())
    return torch.cat(rows) if rows else torch.empty(0, base.max_length, base.width)


@torch.no_grad()
def emotion_conditions(
    base: BaseModel,
    adapter: Adapter,
    emotion_rows: Tensor,
    image_embeds: Tensor,
    prompt: str = "{emotion}",
    intensity: float = 1.0,
    negative_prompt: str = "",
) -> tuple[Tensor, Tensor]:
    """What the U-Net listens to, for each picture, and what guidance leads away from.

    Args:
        emotion_rows: [n, E], weights of the emotions.
        image_embeds: [n, V], unnormalised: a picture's, or drawn from the adapter's Gaussians.
        prompt: text in which "{emotion}" is the place of the pseudo-words.
        intensity: t; 0 is the prompt without the pseudo-words, 1 as trained, beyond 1 extrapolates.

    Returns:
        (prompt_embeds [n, L, W], negative_embeds [1, L, W]), float32 on the CPU.

    Raises:
        UserError: the adapter does not fit the base, or the prompt names the place twice.
    """
    check_fits(base, adapter)
    if image_embeds.shape[1] != adapter.info.vision.width:
        raise AdapterError(
            f"the adapter reads image embeddings {adapter.info.vision.width} wide, but these are "
            f"{image_embeds.shape[1]}: use the image encoder it was trained with, {adapter.info.vision.name}."
        )
    negative = encode_prompts(base, [negative_prompt])
    plain = encode_prompts(base, [plain_prompt(prompt)])
    places = prompt_ids(base.tokenizer, prompt, adapter.info.tokens, base.max_length)
    embedder = adapter.embedder.to(base.device)
    rows = []
    for start in range(0, len(emotion_rows), _TEXT_BATCH):
        emotion = emotion_rows[start : start + _TEXT_BATCH].to(base.device, torch.float32)
        embeds = image_embeds[start : start + _TEXT_BATCH].to(base.device, torch.float32)
        states = encode_text(
            base.text_encoder,
            places.input_ids.to(base.device).expand(len(emotion), -1),
            base.tokenizer.eos_token_id,
            embedder(emotion, embeds),
            torch.full((len(emotion),), places.start, device=base.device),
        )
        rows.append(at_intensity(plain.expand(len(emotion), -1, -1), states.hidden.float().cpu(), intensity))
    return (torch.cat(rows) if rows else plain[:0]), negative


@torch.no_grad()
def generate_from_adapter(
    base: BaseModel,
    adapter: Adapter,
    emotion_rows: Tensor,
    seed: int,
    settings: SamplingSettings,
    prompt: str = "{emotion}",
    intensity: float = 1.0,
    truncation: float = 1.0,
    emotion_strength: float = 1.0,
    polarity_strength: float = 1.0,
    image_embeds: Tensor | None = None,
    negative_prompt: str = "",
    progress: Progress | None = None,
) -> list[Image.Image]:
    """Draw one picture per row of `emotion_rows` [n, E].

    Picture i has seed + i for its image embedding and for its noise (`noise_seeds`), so that pictures do not
    depend on how many are drawn together.

    Args:
        truncation: spread of the drawn image embeddings; 0 gives the Gaussians' means.
        emotion_strength, polarity_strength: factors on the two kinds of HiLoRA; both 0 is the bare U-Net.
        image_embeds: [n, V] to be used instead of drawn ones.

    Raises:
        UserError: the adapter does not fit the base; see also `sample_latents`.
    """
    if image_embeds is None:
        image_embeds = adapter.gaussians.sample(emotion_rows, seed, truncation)
    conditions = emotion_conditions(
        base, adapter, emotion_rows, image_embeds, prompt, intensity, negative_prompt
    )
    hilora = adapter.hilora.to(base.device)
    # Without any strength no gate at all, not zeros: nothing is added, the bare U-Net to the bit.
    bare = emotion_strength == 0 and polarity_strength == 0
    gates = None if bare else hilora.gate(emotion_rows, emotion_strength, polarity_strength)
    with hilora.attach(base.unet) as attached:
        seeds = noise_seeds(seed, len(emotion_rows))
        return generate_images(base, *conditions, seeds, settings, gates, attached, progress)


def trained_settings(adapter: Adapter) -> Declared:
    """How the base was used that the adapter was trained on: what holds for a base that is silent."""
    trained = adapter.info.base
    clip_skip = adapter.info.text_encoders[0].clip_skip
    return Declared(trained.prediction_type, clip_skip, trained.zero_terminal_snr)


def setting_warnings(base: BaseModel, adapter: Adapter) -> list[str]:
    """What is otherwise with this base than with the one that the adapter was trained on; a sentence each.

    Such pictures are drawn: adapters are carried over to relatives of their base on purpose. But a setting
    that is wrong by oversight spoils them, and nothing else would tell.
    """
    trained = trained_settings(adapter)
    like = f"use a base like {adapter.info.base.name}"
    told = []
    if trained.prediction_type != base.prediction_type:
        told.append(
            f"the adapter was trained on a base that predicts {trained.prediction_type}, and {base.name} is "
            f"taken to predict {base.prediction_type}: if it predicts {trained.prediction_type} too, set its "
            f"prediction type to that, else expect less of the emotion, or {like}."
        )
    if trained.clip_skip != base.clip_skip:
        told.append(
            f"the adapter was trained at clip skip {trained.clip_skip}, and {base.name} is read at clip skip "
            f"{base.clip_skip}: set the clip skip to {trained.clip_skip}, or {like}."
        )
    if trained.zero_terminal_snr != base.zero_terminal_snr:
        schedules = ("goes on to pure noise", "stops short of pure noise")
        wanted, found = schedules if trained.zero_terminal_snr else schedules[::-1]
        told.append(
            f"the adapter was trained on a noise schedule that {wanted}, and that of {base.name} {found}: "
            f"expect other light and contrast, or {like}."
        )
    return told


def check_fits(base: BaseModel, adapter: Adapter, path: Path | None = None) -> None:
    """Refuse an adapter that was trained on another kind of base, before anything is computed.

    Another setting of the same kind of base is no reason; see `setting_warnings`.

    Raises:
        AdapterError: one sentence that names both sides.
    """
    trained, where = adapter.info.base, f"{path}: " if path is not None else ""
    pairs = (
        ("architecture", trained.architecture, base.architecture),
        ("text width", trained.cross_attention_dim, base.cross_attention_dim),
    )
    for what, wanted, found in pairs:
        if wanted != found:
            raise AdapterError(
                f"{where}the adapter was trained on a base of {what} {wanted}, but {base.name} has {found}: "
                f"use a base like {trained.name}."
            )
