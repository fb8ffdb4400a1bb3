"""Prompts with pseudo-words, as the U-Net gets them when pictures are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from ..adapter.condition import encode_text, prompt_ids
from ..base.model import BaseModel

_TEXT_BATCH = 32


@torch.no_grad()
def encode_with(base: BaseModel, prompt: str, pseudo_words: Tensor) -> Tensor:
    """The states [n, L, W], float32 on the CPU, of one prompt with n pictures' pseudo-words [n, N, W] in it.

    Raises:
        UserError: the prompt says "{emotion}" more than once.
    """
    places = prompt_ids(base.tokenizer, prompt, pseudo_words.shape[1], base.max_length)
    rows = [torch.empty(0, base.max_length, base.width)]
    for words in pseudo_words.to(base.device).split(_TEXT_BATCH):
        ids = places.input_ids.to(base.device).expand(len(words), -1)
        start = torch.full((len(words),), places.start, device=base.device)
        states = encode_text(base.text_encoder, ids, int(base.tokenizer.eos_token_id), words, start)
        rows.append(states.hidden.float().cpu())
    return torch.cat(rows)
