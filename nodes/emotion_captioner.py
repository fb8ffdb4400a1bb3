"""The node that puts into a sentence what in a picture evokes its emotion."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from comfy import model_management
from comfy.utils import ProgressBar
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..coemogen_train.adapter.choice import EmotionChoice
from ..coemogen_train.captions import (
    Caption,
    Captioner,
    CaptionStopped,
    ServerCaptioner,
    Wording,
    write_caption,
)
from ..coemogen_train.errors import CaptionError
from . import captioner_models
from .captioner_models import SERVER
from .clip_score import ClipScore, is_from_checkpoint
from .pictures import emotion_words, to_picture
from .types import CATEGORY, SEED_STAYS, EmotionType

# With the seed at 0 the likeliest words; else drawn as freely as writing well allows.
_TEMPERATURE = 0.7
Done = TypeVar("Done")


class EmotionCaptioner(io.ComfyNode):
    """Pictures and their emotion in; one sentence per picture out."""

    def __init__(self) -> None:
        super().__init__()
        self.keeper = captioner_models.Keeper()

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmotionCaptioner",
            display_name="Emotion Captioner",
            category=CATEGORY,
            description=(
                "Writes one sentence per picture on what in it evokes the emotion: light, colours, scene, "
                "objects, faces, actions. For captions to train with, or as a prompt. A model in "
                "models/coemogen_captioners writes it, or a server such as Ollama or LM Studio."
            ),
            inputs=[
                io.Image.Input(
                    "image", lazy=True, tooltip="The picture, or a batch; each gets its own sentence."
                ),
                io.MultiType.Input(
                    io.String.Input("emotion", default="awe"),
                    types=[EmotionType],
                    tooltip=(
                        "What the picture should make people feel. Write it (awe; or one per picture: awe; "
                        "fear), or connect the emotion of Load Emotion (HiLoRA)."
                    ),
                ),
                io.Combo.Input(
                    "captioner",
                    options=captioner_models.captioner_options(),
                    tooltip=(
                        "Who writes. 'server': the address below. The others are model folders in "
                        "models/coemogen_captioners; put one there and press R to see it here."
                    ),
                ),
                io.String.Input(
                    "server_url",
                    default="http://127.0.0.1:11434/v1",
                    tooltip=(
                        "Only for 'server'. Ollama as it is; LM Studio: http://127.0.0.1:1234/v1. A key, "
                        "where one is needed, goes into the environment variable COEMOGEN_CAPTION_KEY, never "
                        "into a workflow."
                    ),
                ),
                io.String.Input(
                    "server_model",
                    default="",
                    tooltip=(
                        "Only for 'server': the model's name there, one that can see pictures, such as "
                        "qwen2.5vl. Empty takes the first one that the server lists."
                    ),
                ),
                io.Int.Input(
                    "max_tokens",
                    default=256,
                    min=16,
                    max=4096,
                    tooltip=(
                        "Where to cut off a model that does not stop. A sentence has some 60 tokens; models "
                        "that think before they answer need 1000 and more."
                    ),
                ),
                io.Int.Input(
                    "server_timeout",
                    default=120,
                    min=5,
                    max=3600,
                    tooltip="Only for 'server': how many seconds one sentence may take.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=SEED_STAYS,
                    tooltip="0: the plainest wording, each time the same. Any other number: another wording.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip=(
                        "For the similarity: Load CLIP with a whole CLIP such as clip-vit-large-patch14 (the "
                        "CLIP of a checkpoint lacks a part of it)."
                    ),
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="For the similarity: Load CLIP Vision with the same CLIP's other half.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "caption",
                    display_name="caption",
                    is_output_list=True,
                    tooltip="A sentence per picture; empty where the model refused one of them.",
                ),
                io.Float.Output(
                    "similarity",
                    display_name="similarity",
                    is_output_list=True,
                    tooltip=(
                        "How well each sentence fits its picture, by CLIP: about 0.15 for a wrong one, 0.25 "
                        "for a good one. Needs clip and clip_vision."
                    ),
                ),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, captioner: str | None) -> bool | str:
        if captioner is None or captioner == SERVER:  # None: it comes over a wire, and is not known yet
            return True
        try:
            captioner_models.check_captioner(captioner)
        except CaptionError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, captioner: str | None, **_others: object) -> str | float:
        if captioner is None:
            return float("nan")  # made anew it equals nothing; math.nan is one object, equal to itself
        return SERVER if captioner == SERVER else captioner_models.fingerprint(captioner)

    @classmethod
    def check_lazy_status(
        cls,
        captioner: str,
        server_url: str,
        server_model: str,
        emotion: EmotionChoice | str,
        image: Tensor | None = None,
        clip: Any = None,
        clip_vision: Any = None,
        **_others: object,
    ) -> list[str]:
        """Before the picture is made: would there be a caption for it?"""
        if image is not None:
            return []
        emotion_words(emotion, 1)
        cls._judge(clip, clip_vision)
        if captioner == SERVER:
            with_cancel(
                lambda: ServerCaptioner(server_url, server_model).check(
                    model_management.processing_interrupted
                )
            )
        else:
            captioner_models.check_captioner_kind(captioner)
        return ["image"]

    @classmethod
    def execute(
        cls,
        image: Tensor,
        emotion: EmotionChoice | str,
        captioner: str,
        server_url: str,
        server_model: str,
        max_tokens: int,
        server_timeout: int,
        seed: int,
        clip: Any = None,
        clip_vision: Any = None,
    ) -> io.NodeOutput:
        judge = cls._judge(clip, clip_vision)
        wording = Wording(max_tokens, _TEMPERATURE if seed else 0.0, seed)
        writer: Captioner
        if captioner == SERVER:
            writer = ServerCaptioner(server_url, server_model, timeout=server_timeout)
        else:
            writer = captioner_models.open_captioner(captioner)
        captions = with_cancel(lambda: written(writer, image, emotion, wording))
        if judge is None:
            return io.NodeOutput(captions, ExecutionBlocker(_NO_SCORE))
        return io.NodeOutput(captions, judge.scores(captions, image))

    @classmethod
    def _judge(cls, clip: Any, clip_vision: Any) -> ClipScore | None:
        """Who scores, where both CLIP models are connected."""
        if clip is None or clip_vision is None:
            return None
        return ClipScore(clip, clip_vision, is_from_checkpoint(cls.hidden.dynprompt, cls.hidden.unique_id))


_NO_SCORE = (
    "the similarity needs both CLIP models: connect clip (Load CLIP, with a whole CLIP) and clip_vision "
    "(Load CLIP Vision), or disconnect the similarity"
)


def written(writer: Captioner, image: Tensor, emotion: EmotionChoice | str, wording: Wording) -> list[str]:
    """A caption per picture of [B, H, W, C], "" where an attempt failed for one of several.

    Raises:
        CaptionError: there is no caption at all. CaptionStopped: the user pressed Cancel.
    """
    bar = ProgressBar(len(image) * wording.max_tokens)
    captions = []
    for number, words in enumerate(emotion_words(emotion, len(image))):
        done = number * wording.max_tokens
        caption = write_caption(
            writer,
            to_picture(image[number]),
            words,
            wording=wording,
            should_stop=model_management.processing_interrupted,
            on_token=partial(_show_progress, bar, done, wording.max_tokens),
        )
        _show_progress(bar, done, wording.max_tokens, wording.max_tokens)
        _tell(caption, number)
        captions.append(caption)
    if not any(caption.text for caption in captions):
        raise CaptionError(
            f"the model '{captions[0].model}' gave no caption: its answer cannot be used, "
            f"{captions[0].why()} ({captions[0].attempts} attempts); choose another model, one that can see "
            "pictures."
        )
    return [caption.text for caption in captions]


def with_cancel(work: Callable[[], Done]) -> Done:
    """Do `work`; where the user stopped it, tell ComfyUI in its own way."""
    try:
        return work()
    except CaptionStopped:
        model_management.throw_exception_if_processing_interrupted()
        raise model_management.InterruptProcessingException from None


def _show_progress(bar: ProgressBar, done: int, most: int, count: int) -> None:
    """`count` tokens of a caption with `most` at most, after `done` tokens of the captions before it."""
    bar.update_absolute(done + min(count, most))


def _tell(caption: Caption, number: int) -> None:
    if caption.faults:
        kept = "kept all the same" if caption.text else "left empty"
        logging.warning("CoEmoGen: the caption of picture %d is %s: %s", number + 1, kept, caption.why())
