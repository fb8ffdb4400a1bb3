"""The Neuro-symbolic Mapper: from an emotion's symbol to a descriptor in the text encoder's space."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NeuroSymbolicMapper(nn.Module):
    """e = FC_2(SiLU(FC_1(s))), with s the symbol of the emotion y: two fully connected layers.

    Args:
        num_emotions: E.
        width: W, the text encoder's embedding width.
        tokens: N, the number of descriptor tokens.
        hidden: width between the layers.
        input: what stands for an emotion. "one_hot": y itself; "learned": y @ table, with a trained row per
            emotion; "name": y @ table, with the fixed embedding of each emotion's name.
        table: for "name" alone: [E, P], float32, `condition.emotion_name_embeddings`.

    A mixture of emotions is y with several weights, whatever the input.

    CoEmoGen (arXiv 2508.03535) fixes one-hot input, fully connected layers with a non-linearity and the
    hidden width 512; two layers, SiLU, N = 4 and the two other inputs are our choice.

    Raises:
        ValueError: an input that is not known, or a table where none belongs, or none, or of another height.
    """

    table: Tensor

    def __init__(
        self,
        num_emotions: int,
        width: int,
        tokens: int = 4,
        hidden: int = 512,
        input: str = "one_hot",
        table: Tensor | None = None,
    ) -> None:
        super().__init__()
        if input not in ("one_hot", "learned", "name"):
            raise ValueError(f"the mapper has no input {input!r}")
        if (input == "name") != (table is not None):
            raise ValueError("the mapper needs a table where its input is 'name', and only there")
        self.tokens = tokens
        self.width = width
        self.input = input
        symbol_width = num_emotions
        if input == "learned":
            symbol_width = hidden
            # nn.Linear divides by the root of its input's width: numbers of size 1 keep the outputs' spread.
            self.table = nn.Parameter(torch.randn(num_emotions, hidden))
        elif table is not None:
            if table.dim() != 2 or len(table) != num_emotions:
                raise ValueError(f"the mapper's table is [{num_emotions}, P], not {list(table.shape)}")
            symbol_width = table.shape[1]
            self.register_buffer("table", table.detach().clone())
        self.layers = nn.Sequential(
            nn.Linear(symbol_width, hidden),
            nn.SiLU(),
            nn.Linear(hidden, tokens * width),
        )

    @property
    def per_emotion(self) -> tuple[str, int]:
        """The one tensor with a part for each emotion: its name in the state dict, and its axis E."""
        return ("layers.0.weight", 1) if self.input == "one_hot" else ("table", 0)

    @property
    def hidden(self) -> int:
        """The width between the layers."""
        return self.layers[0].out_features  # type: ignore[return-value]  # nn.Module's, unknown to mypy

    def forward(self, emotion: Tensor) -> Tensor:
        """The descriptor e [B, N, W] of `emotion` [B, E], one-hot or a weighted mixture."""
        symbol = emotion if self.input == "one_hot" else emotion @ self.table
        return self.layers(symbol).unflatten(1, (self.tokens, self.width))
