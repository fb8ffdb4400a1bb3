"""The node that imagines what pictures of the emotion look like: a CLIP image embedding for each."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..coemogen_train.adapter.choice import EmotionChoice, cycled
from ..coemogen_train.errors import AdapterError
from .types import CATEGORY, SEED_STAYS, EmbedsType, EmotionType


class GaussianEmotionSampler(io.ComfyNode):
    """An emotion and a seed in; one image embedding per picture out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GaussianEmotionSampler",
            display_name="Gaussian Emotion Sampler",
            category=CATEGORY,
            description=(
                "Imagines a scene that evokes the emotion: draws, for each picture, an image embedding from "
                "what the adapter learned of that emotion's pictures. Another seed is another scene. Connect "
                "a CLIP Vision output to start from a picture of your own instead."
            ),
            inputs=[
                EmotionType.Input("emotion", tooltip="The emotion, from Load Emotion (HiLoRA)."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=SEED_STAYS,
                    tooltip=(
                        "The scene. Picture i of a batch has the scene of seed + i. The noise has a seed of "
                        "its own, in the KSampler: keep one and change the other."
                    ),
                ),
                io.Int.Input(
                    "batch_size",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip=(
                        "How many pictures. 0: as many as there are emotions (one, or one for each row of "
                        "the mixture). With more pictures than emotions, they come round again."
                    ),
                ),
                io.Float.Input(
                    "truncation",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip=(
                        "How far from the typical. 0: the emotion's most typical scenes, again and again; 1: "
                        "as varied as the training pictures; above 1: odder."
                    ),
                ),
                io.ClipVisionOutput.Input(
                    "clip_vision_output",
                    optional=True,
                    tooltip=(
                        "A picture of your own to start from (CLIP Vision Encode). It takes the place of the "
                        "drawn scenes; seed and truncation then change nothing."
                    ),
                ),
            ],
            outputs=[
                EmbedsType.Output(
                    "embeds",
                    display_name="embeds",
                    tooltip="One scene per picture, for the Emotion Conditioner.",
                ),
                io.Int.Output(
                    "count",
                    display_name="count",
                    tooltip="How many pictures these are: connect it to batch_size of Empty Latent Image.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        emotion: EmotionChoice,
        seed: int,
        batch_size: int,
        truncation: float,
        clip_vision_output: Any = None,
    ) -> io.NodeOutput:
        if clip_vision_output is None:
            rows = cycled(emotion.rows, batch_size or len(emotion.rows))
            embeds = emotion.adapter.gaussians.sample(rows, seed, truncation)
        else:
            seen = picture_embeds(clip_vision_output, emotion)
            embeds = cycled(seen, batch_size or max(len(seen), len(emotion.rows)))
        return io.NodeOutput(embeds, len(embeds))


def picture_embeds(clip_vision_output: Any, choice: EmotionChoice) -> Tensor:
    """[n, V], float32, on the CPU: the pictures' pooled, projected embeddings.

    Raises:
        AdapterError: they are not as wide as those that the adapter was trained on.
    """
    vision = choice.adapter.info.vision
    embeds: Tensor | None = getattr(clip_vision_output, "image_embeds", None)
    width = None if embeds is None else embeds.shape[-1]
    if embeds is None or width != vision.width:
        raise AdapterError(
            f"{choice.name}: the adapter reads image embeddings {vision.width} wide, and the connected CLIP "
            f"Vision model gives {width or 'none'}: load the one it was trained with, {vision.name}."
        )
    return embeds.detach().float().cpu().reshape(-1, vision.width)
