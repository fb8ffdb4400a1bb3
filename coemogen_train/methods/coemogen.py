"""CoEmoGen (arXiv 2508.03535) behind the methods' interface; the method itself is `train` and `adapter`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..adapter.file import Adapter, load_adapter
from ..base.generate import emotion_conditions
from ..base.model import BaseModel
from ..train.config import TrainConfig
from ..train.loop import train
from .cost import measured
from .method import Condition, Drawer, FitRecord, Method

ADAPTER = "adapter.safetensors"

EmbedsOf = Callable[[Sequence[str], int], Tensor]
"""(n intended emotions, seed) -> v [n, V], unnormalised; row i hangs on seed + i alone."""

Embeds = Literal["gaussians", "mean"] | EmbedsOf


class CoEmoGenDrawer(Drawer):
    """An adapter on its base.

    Arguments:
        embeds: where v comes from: drawn from the adapter's "gaussians", their "mean", or a function.
        label_of: the emotion that is told to the mapper and to HiLoRA, for those intended emotions where it
            is another than the one whose v is drawn; the swap table's rows.
        emotion_strength, polarity_strength: factors on the two kinds of HiLoRA; both 0 is the bare U-Net.
        intensity: 0 is the prompt without the pseudo-words, 1 as trained, beyond 1 extrapolates.
    """

    def __init__(
        self,
        base: BaseModel,
        adapter: Adapter,
        embeds: Embeds = "gaussians",
        label_of: Mapping[str, str] | None = None,
        emotion_strength: float = 1.0,
        polarity_strength: float = 1.0,
        intensity: float = 1.0,
    ) -> None:
        super().__init__(base, adapter.info.taxonomy.names, adapter.hilora.to(base.device))
        self.adapter, self.embeds, self.label_of = adapter, embeds, dict(label_of or {})
        self.strengths, self.intensity = (emotion_strength, polarity_strength), intensity

    def condition(self, intended: Sequence[str], seed: int, prompt: str = "{emotion}") -> Condition:
        rows = self._rows([self.label_of.get(name, name) for name in intended])
        embeds = self._embeds(intended, seed)
        conditions = emotion_conditions(self.base, self.adapter, rows, embeds, prompt, self.intensity)
        # Without any strength no gate at all, not zeros: the bare U-Net to the bit.
        gates = self.adapter.hilora.gate(rows, *self.strengths) if any(self.strengths) else None
        return Condition(*conditions, gates)

    def _embeds(self, intended: Sequence[str], seed: int) -> Tensor:
        """v [n, V]."""
        if callable(self.embeds):
            return self.embeds(intended, seed)
        rows = self._rows(intended)
        if self.embeds == "mean":
            return rows @ self.adapter.gaussians.mean_embedding()
        return self.adapter.gaussians.sample(rows, seed)

    def _rows(self, names: Sequence[str]) -> Tensor:
        """One-hot [n, E]."""
        return torch.eye(len(self.names))[[self.names.index(name) for name in names]]


class CoEmoGen(Method):
    """This package's own method, trained by `train.loop.train`; so also its ablations, by configuration."""

    key, title, version = "coemogen", "CoEmoGen", 1
    tried: Sequence[Mapping[str, Any]] = ({}, {"learning_rate": 3e-3})

    def fit(self, config: TrainConfig, folder: Path, device: str | None = None) -> FitRecord:
        config = config.model_copy(update={"out": folder})
        if known := FitRecord.finished(config, folder):
            return known
        with measured(folder, device) as cost:
            train(config, resume=True, progress=False, device=device)
            adapter = load_adapter(folder / ADAPTER)
        record = FitRecord(
            seconds=cost.seconds,
            parameters=_trained_parameters(adapter, config),
            peak_bytes=cost.peak_bytes,
            samples=config.steps * config.batch_size * config.accumulate,
        )
        record.write(folder)
        return record

    def open(
        self,
        config: TrainConfig,
        folder: Path,
        base: BaseModel,
        embeds: Embeds = "gaussians",
        **drawing: Any,
    ) -> CoEmoGenDrawer:
        """Read the adapter; embeds, drawing: as `CoEmoGenDrawer` takes them."""
        return CoEmoGenDrawer(base, load_adapter(folder / ADAPTER), embeds, **drawing)


def _trained_parameters(adapter: Adapter, config: TrainConfig) -> int:
    """How many numbers the run moved: of HiLoRA, only those groups that the settings train."""
    hilora = adapter.hilora
    emotions, groups = hilora.num_emotions, hilora.num_groups
    trained = config.emotion_loras * emotions + config.polarity_loras * (groups - emotions)
    embedder = sum(parameter.numel() for parameter in adapter.embedder.parameters())
    return embedder + sum(parameter.numel() for parameter in hilora.parameters()) * trained // groups
