"""CLIP similarity of a caption and a picture: the cosine of their projected embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import CaptionError

# A trained projection's largest value is near 1.
_SMALLEST, _LARGEST = 1e-4, 1e3


def check_text_projection(projection: Tensor) -> None:
    """Refuse a text projection that was never loaded: a score by it would mean nothing.

    projection: [P, W]. A checkpoint of Stable Diffusion 1.5 holds none; what stands in its place after
    loading is whatever the memory held, mostly zeros, or an identity.

    Raises: CaptionError
    """
    plain = projection.detach().cpu().float()
    largest = float(plain.abs().max())  # not a number where any value is none
    is_identity = plain.shape[0] == plain.shape[1] and torch.equal(plain, torch.eye(len(plain)))
    if not _SMALLEST < largest < _LARGEST or is_identity:
        raise CaptionError(
            "the connected CLIP has no text projection, so it cannot score captions: connect the whole CLIP "
            "with Load CLIP (type stable_diffusion) and a file such as clip-vit-large-patch14."
        )


def clip_similarity(text_state: Tensor, projection: Tensor, image_embeds: Tensor) -> float:
    """cos(projection s, v), in -1 .. 1; matching pairs of ViT-L/14 lie near 0.25.

    text_state: [W], the text encoder's state at EOS, before the projection. projection: [P, W].
    image_embeds: [P], projected.

    Raises: CaptionError where text and picture are not embedded alike.
    """
    if projection.shape[1] != len(text_state) or projection.shape[0] != len(image_embeds):
        raise CaptionError(
            f"the connected CLIP embeds captions {projection.shape[0]} wide and the CLIP Vision model "
            f"pictures {len(image_embeds)} wide, so they cannot be compared: connect both halves of one CLIP."
        )
    text = projection.detach().cpu().double() @ text_state.detach().cpu().double()
    image = image_embeds.detach().cpu().double()
    return float(torch.nn.functional.cosine_similarity(text, image, dim=0))
