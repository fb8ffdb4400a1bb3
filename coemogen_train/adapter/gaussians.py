"""The Gaussian clusters: for each emotion, weighted Gaussians over its pictures' embeddings, to draw from.

At inference there is no picture to start from, so v is drawn: CoEmoGen (arXiv 2508.03535) fits one Gaussian
per emotion. One Gaussian blends an emotion's different stories, so here an emotion may have K of them.
`gaussian_fit` fits them; this module holds them and draws, on the CPU in fp32, so that a seed means the same
picture whatever the device and the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

_SEEDS = 2**64


@dataclass(frozen=True)
class EmotionGaussians:
    """K weighted Gaussians for each of E emotions over embeddings of width V, on the CPU.

    weights: [E, K], float32; rows sum to 1, and emotions with fewer components end in weights of 0.
    mean: [E, K, V], float32.
    factor: [E, K, V, V], L with L L^T the covariance ("full"), or [E, K, V], the standard deviations
        ("diagonal"); stored in half precision and used in float32.
    """

    weights: Tensor
    mean: Tensor
    factor: Tensor

    @property
    def covariance(self) -> Literal["full", "diagonal"]:
        """The covariances' form, "full" or "diagonal"."""
        return "full" if self.factor.dim() == 4 else "diagonal"

    @property
    def width(self) -> int:
        """V, the width of the embeddings."""
        return self.mean.shape[2]

    @property
    def components(self) -> tuple[int, ...]:
        """For each emotion the number of its Gaussians."""
        return tuple((self.weights > 0).sum(dim=1).tolist())

    def mean_embedding(self) -> Tensor:
        """[E, V], float32: each emotion's mean over its Gaussians."""
        return (self.weights[:, :, None] * self.mean).sum(dim=1)

    def sample(self, emotion: Tensor, seed: int, truncation: float = 1.0) -> Tensor:
        """Draw one embedding per picture: sum_e w_e (mean_e + t L_e z).

        Args:
            emotion: [B, E], the weights w of each picture's emotions; any device.
            seed: picture i draws from a generator of its own, seeded `seed + i` (modulo 2^64): first z [V],
                then one number per emotion, which chooses that emotion's Gaussian.
            truncation: t; 0 gives the chosen Gaussians' means, 1 their full spread.

        Returns:
            [B, V], float32, on the CPU. On one machine equal to the bit for any split into batches:
            `sample(rows[k:], seed + k)` is `sample(rows, seed)[k:]`.
        """
        rows = emotion.detach().to("cpu", torch.float32)
        if rows.dim() != 2 or rows.shape[1] != self.weights.shape[0]:
            raise ValueError(f"emotion is [batch, {self.weights.shape[0]}], not {list(rows.shape)}")
        pictures = [self._draw(row, (seed + i) % _SEEDS, truncation) for i, row in enumerate(rows)]
        return torch.stack(pictures) if pictures else torch.empty(0, self.width)

    def _draw(self, row: Tensor, seed: int, truncation: float) -> Tensor:
        """[V]: one picture's embedding, multiplied alone so that its neighbours cannot change its bits."""
        # Said aloud, since a host program may have changed torch's default device and dtype.
        generator = torch.Generator("cpu").manual_seed(seed)
        z = torch.randn(self.width, generator=generator, dtype=torch.float32, device="cpu")
        choice = torch.rand(len(row), generator=generator, dtype=torch.float64, device="cpu")
        embedding = torch.zeros_like(z)
        # All emotions draw their number, so that one picture's choice does not hang on the mixture.
        for emotion in row.nonzero().flatten().tolist():
            component = self._component(emotion, float(choice[emotion]))
            factor = self.factor[emotion, component].float()
            spread = factor @ z if self.covariance == "full" else factor * z
            embedding += row[emotion] * (self.mean[emotion, component] + truncation * spread)
        return embedding

    def _component(self, emotion: int, choice: float) -> int:
        """The Gaussian at `choice` in [0, 1) of the cumulative weights; one of weight 0 is never chosen."""
        cumulative = self.weights[emotion].double().cumsum(0)
        return int(torch.searchsorted(cumulative / cumulative[-1], choice, right=True))
