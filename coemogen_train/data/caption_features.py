"""T(c) computed once: what the frozen text encoder of a base makes of a caption.

Worth it where the text encoder is a large part of a step. With Stable Diffusion 1.5 it is not: a caption
takes 118 KB of disk in half precision (77 states of 768 numbers, and one at EOS), 14 GB for EmoSet, and saves
the forward pass of the text encoder, which is less than 1% of the operations of a step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..adapter.condition import EMOTION_MARK, encode_text, prompt_ids
from ..base.model import BaseModel, module_fingerprint
from ..files import canonical_json
from .digests import Digests, from_hex, text_digest
from .rows import SampleRows


class TextEncoder(Protocol):
    """What the cache needs of a base model's text encoder (`CaptionEncoder` has it)."""

    @property
    def fingerprint(self) -> str:
        """Differs whenever the features of a caption would."""

    def encode_captions(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """n texts -> "hidden" [n, L, W] and "pooled" [n, P], float32."""


def caption_text(caption: str | None) -> str:
    """A caption as it is encoded: it has no pseudo-words, whatever it says."""
    return (caption or "").replace(EMOTION_MARK, " ")


def caption_digests(samples: SampleRows) -> Digests:
    """The digest by which each sample's caption is known in the cache: [n], those without a caption alike."""
    chunks = samples.columns("caption")["caption"].chunks
    found = [from_hex([text_digest(caption_text(text.as_py())) for text in chunk]) for chunk in chunks]
    return np.concatenate(found) if found else from_hex(())


class CaptionEncoder:
    """The frozen text encoder of a base, as the semantic loss reads captions with it: `clip_skip` and all."""

    def __init__(self, base: BaseModel):
        self._base = base

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, clip skip, vocabulary and length."""
        tokenizer = self._base.tokenizer
        vocabulary = canonical_json(tokenizer.get_vocab())
        told = {
            "clip_skip": self._base.clip_skip,
            "length": self._base.max_length,
            "marks": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
            "vocabulary": hashlib.sha256(vocabulary.encode("utf-8")).hexdigest(),
        }
        return module_fingerprint(self._base.text_encoder, told)

    @torch.no_grad()
    def encode_captions(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """n texts, as `caption_text` gives them -> "hidden" [n, L, W] and "pooled" [n, P], float32."""
        tokenizer, encoder = self._base.tokenizer, self._base.text_encoder
        ids = torch.stack([prompt_ids(tokenizer, text, 0, self._base.max_length).input_ids for text in texts])
        device = next(encoder.parameters()).device
        states = encode_text(encoder, ids.to(device), int(tokenizer.eos_token_id))
        return {"hidden": states.hidden.float().cpu(), "pooled": states.pooled.float().cpu()}
