"""Textual Inversion (Gal et al., arXiv 2208.01618): a word of its own for each emotion, all else frozen.

As in the paper: learned rows of the token embedding, L_LDM alone, a handful of neutral templates, and the
start at the embedding of a word that says it, here the emotion's name (the mean of its tokens). Other than
there, all emotions are trained at once in mixed batches, so that the budget is one for all; a word whose
emotion is not in the batch keeps its bits, its moments and its step count, as if it were trained alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..adapter.condition import EMOTION_MARK, encode_text, prompt_ids
from ..base.generate import encode_prompts
from ..base.model import BaseModel
from ..train.batches import Batch
from ..train.config import TrainConfig
from ..train.objective import Losses
from .conditions import encode_with
from .cost import measured
from .learned import Learned, reading
from .loop import Ground, Objective, losses_of, prepare, settings_of, train_steps
from .method import Condition, Drawer, FitRecord, Method
from .prompts import spoken

TOKENS = 1
"""Learned rows per emotion; one in the paper."""
TEMPLATES = (f"an image of {EMOTION_MARK}", f"a picture of {EMOTION_MARK}", f"a scene of {EMOTION_MARK}")
"""The first is what pictures are drawn with."""


class TextualInversionObjective(Objective):
    """The emotions' words, [E * k, W], stacked by emotion for `GroupedAdamW`."""

    def __init__(self, ground: Ground, tokens: int = TOKENS) -> None:
        super().__init__(ground.base, ground.config.min_snr_gamma)
        base = ground.base
        start = torch.stack([_name_embedding(base, name) for name in ground.names])
        words: Any = nn.Parameter(start.repeat_interleave(tokens, dim=0))
        words.hilora_group_dim, words.hilora_rank = 0, tokens
        self.words: nn.Parameter = words
        self.tokens = tokens
        prompts = [prompt_ids(base.tokenizer, text, tokens, base.max_length) for text in TEMPLATES]
        ids = torch.stack([prompt.input_ids for prompt in prompts]).to(base.device)
        starts = torch.tensor([prompt.start for prompt in prompts], device=base.device)
        self.register_buffer("template_ids", ids, persistent=False)
        self.register_buffer("template_starts", starts, persistent=False)

    template_ids: Tensor
    template_starts: Tensor

    def forward(self, batch: Batch) -> Losses:
        words = self.words.unflatten(0, (-1, self.tokens))[batch.emotion.argmax(1)]
        # The timestep was drawn for the sample anyway; its remainder chooses the template.
        template = batch.timesteps % len(TEMPLATES)
        states = encode_text(
            self.base.text_encoder,
            self.template_ids[template],
            int(self.base.tokenizer.eos_token_id),
            words,
            self.template_starts[template],
        )
        ldm = self.denoise(batch, states.hidden)
        return losses_of(self.weighted(batch, ldm), ldm, presence=batch.emotion.sum(0))


class TextualInversionDrawer(Drawer):
    """words: [E, k, W]."""

    def __init__(self, base: BaseModel, names: Sequence[str], words: Tensor) -> None:
        super().__init__(base, names)
        self.words = words

    def condition(self, intended: Sequence[str], seed: int, prompt: str = EMOTION_MARK) -> Condition:
        words = self.words[[self.names.index(name) for name in intended]]
        around = TEMPLATES[0] if prompt == EMOTION_MARK else prompt
        return Condition(encode_with(self.base, around, words), encode_prompts(self.base, [""]))


class TextualInversion(Method):
    """tokens: learned rows per emotion."""

    key, title, version = "textual_inversion", "Textual Inversion", 1
    # A row has the length of 0.4 or so, and nothing else moves: it takes a higher rate than networks do.
    tried: Sequence[Mapping[str, Any]] = ({"learning_rate": 5e-3}, {"learning_rate": 2e-2})

    def __init__(self, tokens: int = TOKENS) -> None:
        self.tokens = tokens

    def fit(self, config: TrainConfig, folder: Path, device: str | None = None) -> FitRecord:
        if known := FitRecord.finished(settings_of(config, folder), folder):
            return known
        with measured(folder, device) as cost:
            ground = prepare(config, folder, device)
            objective = TextualInversionObjective(ground, self.tokens)
            train_steps(ground, objective, ground.batches(self.tokens))
            Learned({"words": objective.words}, {"names": ground.names, "tokens": self.tokens}).write(folder)
        record = FitRecord(
            cost.seconds, objective.words.numel(), cost.peak_bytes, ground.config.steps * ground.whole
        )
        record.write(folder)
        return record

    def open(self, config: TrainConfig, folder: Path, base: BaseModel) -> TextualInversionDrawer:
        with reading(folder) as learned:
            names, tokens = learned.facts["names"], learned.facts["tokens"]
            words = learned.tensors["words"].reshape(len(names), tokens, base.width)
        return TextualInversionDrawer(base, names, words)


def _name_embedding(base: BaseModel, name: str) -> Tensor:
    """[W]: the mean row of the tokens of an emotion's name."""
    ids = base.tokenizer(spoken(name), add_special_tokens=False)["input_ids"]
    rows: Tensor = base.text_encoder.get_input_embeddings().weight.detach().float()
    return rows[ids].mean(0)
