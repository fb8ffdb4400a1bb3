"""An emotion as it was chosen: from one adapter, a mixture per picture, at two strengths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..emotions import format_mixture
from .file import Adapter


def cycled(rows: Tensor, count: int) -> Tensor:
    """`count` of the rows [R, ...], from the first on and again from the first: [count, ...]."""
    return rows[torch.arange(count, device=rows.device) % len(rows)]


@dataclass(frozen=True, eq=False)
class EmotionChoice:
    """What the loader chose and every node after it reads.

    adapter: the file's content; its `checksum` is its identity.
    name: the file's name, for messages.
    rows: [R, E], float32, the emotions' weights of picture 0 .. R - 1; picture i takes row i mod R.
    emotion_strength, polarity_strength: factors on the two kinds of HiLoRA; 1 is as trained.
    """

    adapter: Adapter
    name: str
    rows: Tensor
    emotion_strength: float = 1.0
    polarity_strength: float = 1.0

    def gates(self) -> Tensor:
        """The routing of each row, [R, G * rank]; 0 where both strengths are 0."""
        return self.adapter.hilora.gate(self.rows, self.emotion_strength, self.polarity_strength)

    def words(self, picture: int) -> str:
        """The emotions of a picture as a sentence says them, the strongest first: "fear and awe"."""
        row = self.rows[picture % len(self.rows)].tolist()
        names = self.adapter.info.taxonomy.names
        found = sorted((index for index, weight in enumerate(row) if weight), key=lambda index: -row[index])
        said = [names[index].replace("_", " ") for index in found]
        return " and ".join(said) if len(said) < 3 else f"{', '.join(said[:-1])} and {said[-1]}"

    def mixture(self, picture: int) -> str:
        """The weights of a picture as `parse_mixture` reads them."""
        row = self.rows[picture % len(self.rows)].tolist()
        return format_mixture(row, self.adapter.info.taxonomy)
