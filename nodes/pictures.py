"""ComfyUI's pictures as Pillow's, and the emotion of each, for the nodes that look at finished pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..coemogen_train.adapter.choice import EmotionChoice
from ..coemogen_train.captions import emotions_of

if TYPE_CHECKING:
    from PIL import Image


def to_picture(image: Tensor) -> Image.Image:
    """One picture [H, W, C] in 0 .. 1, C at least 3, with the rounding of ComfyUI's Save Image."""
    from PIL import Image

    values = image[..., :3].detach().float().cpu().nan_to_num().mul(255).clamp(0, 255)
    return Image.fromarray(values.byte().numpy())


def emotion_words(emotion: EmotionChoice | str, count: int, first: int = 0) -> list[str]:
    """The emotions of pictures first .. first + count - 1, as a sentence says them; they come round again.

    Raises: CaptionError for a text that names none.
    """
    if isinstance(emotion, EmotionChoice):
        return [emotion.words(picture) for picture in range(first, first + count)]
    named = emotions_of(str(emotion))
    return [named[picture % len(named)] for picture in range(first, first + count)]
