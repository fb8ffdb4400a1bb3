"""The Visual-perception Encoder: what the emotion's descriptor takes up from a picture's embedding."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class VisualPerceptionEncoder(nn.Module):
    """e^v = LayerNorm(e + Softmax(e Wq (v Wk)^T / sqrt(W)) v Wv).

    Args:
        width: W, the text encoder's embedding width (d0 in the paper).
        vision_width: V, the width of the pooled, projected image embedding v.
        visual_tokens: K, the number of tokens that v is projected to.
        row_norm: mean length of the text encoder's vocabulary rows (`condition.vocabulary_row_norm`).

    CoEmoGen (arXiv 2508.03535) gives the attention alone. With one pooled v there is one key, the softmax is
    1, the output no longer depends on e, and the mapper gets no gradient at all. So, of our own, v is first
    projected to K tokens, and the block has a residual path and a norm whose gain starts at the size of the
    vocabulary's rows: a plain LayerNorm gives rows of length sqrt(W), 28 for W = 768; CLIP's are near 0.4.
    """

    def __init__(self, width: int, vision_width: int, visual_tokens: int = 4, row_norm: float = 1.0) -> None:
        super().__init__()
        self.width = width
        self.visual_tokens = visual_tokens
        self.to_tokens = nn.Linear(vision_width, visual_tokens * width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        nn.init.constant_(self.norm.weight, row_norm / math.sqrt(width))

    def forward(self, descriptor: Tensor, image_embeds: Tensor) -> Tensor:
        """The pseudo-words e^v [B, N, W] of `descriptor` e [B, N, W] and `image_embeds` v [B, V]."""
        visual = self.to_tokens(image_embeds).unflatten(1, (self.visual_tokens, self.width))  # [B, K, W]
        query, key, value = self.to_q(descriptor), self.to_k(visual), self.to_v(visual)
        attention = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(self.width), dim=-1)  # [B, N, K]
        return self.norm(descriptor + attention @ value)
