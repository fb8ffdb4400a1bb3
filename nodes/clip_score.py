"""How well captions fit their pictures, by the CLIP models that are connected."""

from __future__ import annotations

from typing import Any

from torch import Tensor

import nodes

from ..coemogen_train.captions import check_text_projection, clip_similarity
from ..coemogen_train.errors import CaptionError

_AT_ONCE = 16  # pictures through the vision model
_CHECKPOINT = {"MODEL", "CLIP", "VAE"}  # what a node gives that loads all of a checkpoint


def is_from_checkpoint(dynprompt: Any, node_id: str) -> bool:
    """Whether the graph takes a node's input `clip` from a node that loads a whole checkpoint.

    dynprompt: ComfyUI's hidden input.
    """
    seen: set[str] = set()
    node = dynprompt.get_node(node_id)
    while isinstance(wire := node["inputs"].get("clip"), list) and wire[0] not in seen:
        seen.add(wire[0])
        node = dynprompt.get_node(wire[0])
    kind = nodes.NODE_CLASS_MAPPINGS.get(node["class_type"])
    return set(getattr(kind, "RETURN_TYPES", ())) >= _CHECKPOINT


class ClipScore:
    """A CLIP and a CLIP Vision model as a judge.

    from_checkpoint: whether the CLIP was loaded as a part of one. Stable Diffusion 1.5's hold no text
        projection, and ComfyUI leaves the memory in its place as it was found: its values may be another
        model's, and do not tell.

    Raises:
        CaptionError: the CLIP is of another kind, or has no text projection, as in checkpoints of SD 1.5.
    """

    def __init__(self, clip: Any, clip_vision: Any, from_checkpoint: bool = False):
        self._clip, self._clip_vision = clip, clip_vision
        names = list(clip.tokenize(""))
        encoder = getattr(clip.cond_stage_model, f"clip_{names[0]}", None) if len(names) == 1 else None
        self._transformer: Any = getattr(encoder, "transformer", None)
        if not hasattr(self._transformer, "text_projection"):
            raise CaptionError(
                "the connected CLIP is not a single CLIP text encoder, so it cannot score captions: connect "
                "Load CLIP (type stable_diffusion) with a file such as clip-vit-large-patch14."
            )
        self._key = names[0]
        if from_checkpoint and self._key == "l":
            raise CaptionError(
                "the connected CLIP is a checkpoint's and has no text projection, so it cannot score: "
                "connect Load CLIP (type stable_diffusion) with a file such as clip-vit-large-patch14."
            )
        check_text_projection(self._projection)

    def scores(self, captions: list[str], images: Tensor) -> list[float]:
        """The similarity of each caption and its picture, [B, H, W, C]; not a number without a caption."""
        embeds = [
            embed
            for start in range(0, len(images), _AT_ONCE)
            for embed in self._picture_embeds(images[start : start + _AT_ONCE])
        ]
        return [
            clip_similarity(self._text_state(caption), self._projection, embed) if caption else float("nan")
            for caption, embed in zip(captions, embeds, strict=True)
        ]

    @property
    def _projection(self) -> Tensor:
        return self._transformer.text_projection.weight

    def _picture_embeds(self, images: Tensor) -> Tensor:
        embeds = getattr(self._clip_vision.encode_image(images[..., :3]), "image_embeds", None)
        if embeds is None or embeds.ndim != 2:
            raise CaptionError(
                "the connected CLIP Vision model gives no embedding of the whole picture: connect one such "
                "as clip-vit-large-patch14."
            )
        return embeds

    def _text_state(self, caption: str) -> Tensor:
        """[W], the state at EOS of as much of the caption as CLIP reads at once, 75 tokens."""
        # A caption is no prompt: brackets are not weights, and nothing in it names an embedding file.
        plain = (
            caption.replace("\\", " ")
            .replace("(", "\\(")
            .replace(")", "\\)")
            .replace("embedding:", "embedding")
        )
        tokens = {self._key: self._clip.tokenize(plain)[self._key][:1]}
        _, state = self._clip.encode_from_tokens(tokens, return_pooled="unprojected")
        return state[0]
