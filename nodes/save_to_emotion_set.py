"""The node that saves pictures with their emotion and caption into a set to train with."""

from __future__ import annotations

import io as bytes_io
import json
import math
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io
from torch import Tensor

from ..coemogen_train.adapter.choice import EmotionChoice
from ..coemogen_train.captions import SavedPicture, add_picture, set_folder
from ..coemogen_train.errors import DataError
from .pictures import emotion_words, to_picture
from .types import CATEGORY, EmotionType


class SaveToEmotionSet(io.ComfyNode):
    """Pictures, emotions and captions in; files in ComfyUI's output folder out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveToEmotionSet",
            display_name="Save to Emotion Set",
            category=CATEGORY,
            description=(
                "Saves pictures with their emotion and caption into a set that coemogen_train can train on: "
                "output/<set>/<emotion>, and a table of all of them, output/<set>/samples.jsonl. Every run "
                "adds; nothing is ever written over."
            ),
            is_output_node=True,
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The pictures to keep."),
                io.MultiType.Input(
                    io.String.Input("emotion", default="awe"),
                    types=[EmotionType],
                    tooltip=(
                        "The emotion that the pictures are kept under. Write it (awe; or one per picture: "
                        "awe; fear), or connect the emotion of Load Emotion (HiLoRA); of a mixture the "
                        "strongest counts."
                    ),
                ),
                io.String.Input(
                    "set_name",
                    default="my_emotion_set",
                    tooltip="The set's folder in ComfyUI's output folder. An existing set grows.",
                ),
                io.String.Input(
                    "caption",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip=(
                        "What the pictures show: connect the Emotion Captioner, or write one sentence for "
                        "all. Empty is fine too: captions can be written later."
                    ),
                ),
                io.Float.Input(
                    "similarity",
                    optional=True,
                    force_input=True,
                    tooltip="The Emotion Captioner's similarity, kept in the table for sorting out later.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def validate_inputs(cls, set_name: list[str | None]) -> bool | str:
        try:
            for name in set_name:
                if name is not None:  # else it comes over a wire, and is not known yet
                    set_folder(Path(folder_paths.get_output_directory()), str(name))
        except DataError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        images: list[Tensor],
        emotion: list[EmotionChoice | str],
        set_name: list[str],
        caption: list[str] | None = None,
        similarity: list[float] | None = None,
    ) -> io.NodeOutput:
        pictures = [picture for batch in images for picture in batch]
        labels = labels_of(emotion, [len(batch) for batch in images])
        captions = one_each(caption or [""], len(pictures), "captions")
        scores = one_each(similarity or [math.nan], len(pictures), "similarities")
        root = Path(folder_paths.get_output_directory())
        saved, progress = [], ProgressBar(len(pictures))
        counts: dict[Path, int] = {}
        for picture, (label, mixture), text, score in zip(pictures, labels, captions, scores, strict=True):
            throw_exception_if_processing_interrupted()
            saved.append(
                add_picture(root, set_name[0], cls._png(picture), label, text, float(score), mixture, counts)
            )
            progress.update(1)
        return io.NodeOutput(ui={"images": [shown(picture) for picture in saved]})

    @classmethod
    def _png(cls, picture: Tensor) -> bytes:
        """A picture's file, with the workflow in it as Save Image has it, unless ComfyUI was told not to."""
        from PIL.PngImagePlugin import PngInfo

        notes = PngInfo()
        if not args.disable_metadata:
            for name, value in {"prompt": cls.hidden.prompt, **(cls.hidden.extra_pnginfo or {})}.items():
                if value is not None:
                    notes.add_text(name, json.dumps(value))
        buffer = bytes_io.BytesIO()
        to_picture(picture).save(buffer, "PNG", pnginfo=notes, compress_level=4)
        return buffer.getvalue()


def labels_of(emotions: list[EmotionChoice | str], batches: list[int]) -> list[tuple[str, str]]:
    """The label and the mixture ("" where there is none) of every picture.

    One emotion goes round over all pictures; of several, each belongs to its batch, the last to the rest.
    """
    labels, first = [], 0
    for number, count in enumerate(batches):
        emotion = emotions[min(number, len(emotions) - 1)]
        start = first if len(emotions) == 1 else 0
        if isinstance(emotion, EmotionChoice):
            labels += [_strongest(emotion, picture) for picture in range(start, start + count)]
        else:
            labels += [(words, "") for words in emotion_words(emotion, count, start)]
        first += count
    return labels


def one_each(values: list[Any], count: int, what: str) -> list[Any]:
    """A value per picture: as many as there are, or one for all.

    Raises:
        DataError: neither.
    """
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise DataError(
            f"there are {len(values)} {what} for {count} pictures: connect the captioner to the very "
            "pictures that are saved."
        )
    return values


def shown(saved: SavedPicture) -> dict[str, str]:
    """A saved picture, as the node shows it."""
    return {"filename": saved.name, "subfolder": saved.folder, "type": "output"}


def _strongest(choice: EmotionChoice, picture: int) -> tuple[str, str]:
    row = choice.rows[picture % len(choice.rows)].tolist()
    label = choice.adapter.info.taxonomy.names[row.index(max(row))]
    return label, choice.mixture(picture) if sum(weight > 0 for weight in row) > 1 else ""
