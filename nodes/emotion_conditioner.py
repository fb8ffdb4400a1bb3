"""The node that says the emotion to the text encoder, alone or inside a prompt of the user's own."""

from __future__ import annotations

import logging
from typing import Any

import comfy.utils
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import io
from torch import Tensor

from ..coemogen_train.adapter.choice import EmotionChoice, cycled
from ..coemogen_train.adapter.condition import at_intensity, plain_prompt
from ..coemogen_train.errors import AdapterError
from .model_layers import wanted_base
from .prompt_tokens import EmotionalPrompt, with_place
from .routing import KEY
from .types import CATEGORY, EmbedsType, EmotionType

# ComfyUI's name for the one CLIP of Stable Diffusion 1.5.
_PART = "l"
_POOLED = "pooled_output"
Entry = list[Any]  # [cond [B, L, W], {"pooled_output": [B, P], ...}], ComfyUI's own


class EmotionConditioner(io.ComfyNode):
    """CLIP, emotion and prompt in; a conditioning for the sampler out, one row per picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmotionConditioner",
            display_name="Emotion Conditioner",
            category=CATEGORY,
            description=(
                "Turns the emotion into words that only the model understands, and puts them into your "
                "prompt. Takes the CLIP, the emotion and the drawn scenes; gives the positive conditioning "
                "for a KSampler (or a negative one: what to lead away from)."
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of the same Stable Diffusion 1.5 checkpoint."),
                EmotionType.Input("emotion", tooltip="The emotion, from Load Emotion (HiLoRA)."),
                io.String.Input(
                    "prompt",
                    default="{emotion}",
                    multiline=True,
                    tooltip=(
                        "{emotion} is the place of the emotion. Alone it paints what evokes it; 'a street at "
                        "night, {emotion}' keeps the street. Left out, the emotion goes to the end. Weights "
                        "such as ({emotion}:1.2) and embeddings work as usual."
                    ),
                ),
                io.Float.Input(
                    "intensity",
                    default=1.0,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    tooltip=(
                        "0 is your prompt without the emotion, 1 the emotion as trained; in between it fades "
                        "in, above 1 it is overdrawn. HiLoRA has strengths of its own, in the loader."
                    ),
                ),
                EmbedsType.Input(
                    "embeds",
                    optional=True,
                    tooltip=(
                        "The scenes, from the Gaussian Emotion Sampler: one per picture. Not connected: the "
                        "emotion's most typical scene, one per emotion."
                    ),
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning",
                    display_name="conditioning",
                    tooltip="For the KSampler's positive: one row per picture. A larger batch repeats them.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, clip: Any, emotion: EmotionChoice, prompt: str, intensity: float, embeds: Tensor | None = None
    ) -> io.NodeOutput:
        check_clip(clip, emotion)
        _warn_of_clip_skip(clip, emotion)
        embeds = _scenes(emotion, embeds)
        entries = emotional_entries(clip, emotion, prompt, intensity, embeds)
        gates = {emotion.adapter.checksum: cycled(emotion.gates(), len(embeds))}
        # Beside the gates that another of our conditionings may have left in what it was made of.
        return io.NodeOutput(
            [[cond, {**extra, KEY: {**extra.get(KEY, {}), **gates}}] for cond, extra in entries]
        )


def check_clip(clip: Any, choice: EmotionChoice) -> None:
    """Refuse the CLIP of another kind of model before it encodes anything.

    Raises:
        AdapterError: one sentence that says what to connect.
    """
    parts = set(clip.tokenize(""))
    wanted = choice.adapter.info.text_encoders[0].width
    width = None
    encoder = getattr(clip.cond_stage_model, "clip_l", None)
    if parts == {_PART} and encoder is not None:
        width = encoder.transformer.get_input_embeddings().weight.shape[1]
    if width != wanted:
        there = f"is {width} wide" if width else f"has the parts {', '.join(sorted(parts))}"
        raise AdapterError(
            f"{choice.name}: the adapter speaks to one CLIP {wanted} wide, and the connected CLIP {there}: "
            f"connect the CLIP of a {wanted_base(choice)} checkpoint."
        )


def _warn_of_clip_skip(clip: Any, choice: EmotionChoice) -> None:
    """Log a clip skip that is not the adapter's: it may be meant so, and nothing else would tell."""
    trained = choice.adapter.info.text_encoders[0].clip_skip
    found = -(getattr(clip, "layer_idx", None) or -1)  # ComfyUI counts -1, -2; None is the last layer
    if found != trained:
        logging.warning(
            "%s: the adapter was trained at clip skip %d, and this CLIP is read at %d: put CLIP Set Last "
            "Layer with %d before the Emotion Conditioner.",
            choice.name,
            trained,
            found,
            -trained,
        )


def _scenes(choice: EmotionChoice, embeds: Tensor | None) -> Tensor:
    """[B, V]: the drawn scenes, or the emotions' typical ones."""
    if embeds is None:
        return choice.rows @ choice.adapter.gaussians.mean_embedding()
    wanted = choice.adapter.info.vision.width
    if embeds.shape[1] != wanted:
        raise AdapterError(
            f"{choice.name}: the connected embeds are {embeds.shape[1]} wide, the adapter reads {wanted}: "
            "draw them with a Gaussian Emotion Sampler that has this loader's emotion."
        )
    return embeds


@torch.no_grad()
def emotional_entries(
    clip: Any, choice: EmotionChoice, prompt: str, intensity: float, embeds: Tensor
) -> list[Entry]:
    """ComfyUI's conditioning of `prompt` for the pictures of `embeds` [B, V]: usually one entry, of batch B.

    Intensity 0 is CLIP Text Encode of the plain prompt, bit for bit.
    """
    plain_tokens = clip.tokenize(plain_prompt(prompt))
    prompt = with_place(prompt)
    if intensity == 0:
        plain = clip.encode_from_tokens_scheduled(plain_tokens)
        return [_stacked([entry] * len(embeds)) for entry in plain]
    template = EmotionalPrompt(clip, prompt, _PART)
    rows = cycled(choice.rows, len(embeds))
    progress = comfy.utils.ProgressBar(len(embeds))
    pictures: list[list[Entry]] = []
    plain = None
    for row, scene in zip(rows, embeds, strict=True):
        throw_exception_if_processing_interrupted()
        # Alone, so that a picture's words do not hang on its neighbours.
        pseudo_words = choice.adapter.embedder(row[None], scene[None].to(row))[0]
        tokens = template.tokens(pseudo_words)
        entries = clip.encode_from_tokens_scheduled(tokens)
        if intensity != 1:
            if plain is None:
                plain = clip.encode_from_tokens_scheduled(template.padded(plain_tokens, len(tokens[_PART])))
            entries = [_between(one, other, intensity) for one, other in zip(plain, entries, strict=True)]
        pictures.append(entries)
        progress.update(1)
    return [_stacked(list(of_schedule)) for of_schedule in zip(*pictures, strict=True)]


def _between(plain: Entry, emotional: Entry, intensity: float) -> Entry:
    cond, extra = emotional
    extra = dict(extra)
    if extra.get(_POOLED) is not None and plain[1].get(_POOLED) is not None:
        extra[_POOLED] = at_intensity(plain[1][_POOLED], extra[_POOLED], intensity)
    return [at_intensity(plain[0], cond, intensity), extra]


def _stacked(entries: list[Entry]) -> Entry:
    """The pictures' entries, [1, L, W] each, as one of batch B; what is not pooled is the first's."""
    extra = dict(entries[0][1])
    if extra.get(_POOLED) is not None:
        extra[_POOLED] = torch.cat([other[_POOLED] for _, other in entries])
    return [torch.cat([cond for cond, _ in entries]), extra]
