"""The Neuro-symbolic Mapper: from an emotion's symbol to a descriptor in the text encoder's space."""

from __future__ import annotations

from torch import Tensor, nn


class NeuroSymbolicMapper(nn.Module):
    """e = FC_2(SiLU(FC_1(y))): the one-hot emotion y through two fully connected layers.

    Args:
        num_emotions: E.
        width: W, the text encoder's embedding width.
        tokens: N, the number of descriptor tokens.
        hidden: width between the layers.

    CoEmoGen (arXiv 2508.03535) fixes one-hot input, fully connected layers with a non-linearity and the
    hidden width 512; two layers, SiLU and N = 4 are our choice.
    """

    def __init__(self, num_emotions: int, width: int, tokens: int = 4, hidden: int = 512) -> None:
        super().__init__()
        self.tokens = tokens
        self.width = width
        self.layers = nn.Sequential(
            nn.Linear(num_emotions, hidden),
            nn.SiLU(),
            nn.Linear(hidden, tokens * width),
        )

    def forward(self, emotion: Tensor) -> Tensor:
        """The descriptor e [B, N, W] of `emotion` [B, E], one-hot or a weighted mixture."""
        return self.layers(emotion).unflatten(1, (self.tokens, self.width))
