"""The emotion condition: pseudo-words inside a prompt, read by the frozen text encoder.

transformers' CLIP text models refuse `inputs_embeds`, keep their layers at different places from version to
version, and pool SD 1.5's outputs at the largest id. So ordinary ids hold the places, a hook on the input
embedding swaps the rows, and the pooling at EOS is our own: where a version keeps what does not matter here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AdapterError, UserError
from .encoder import VisualPerceptionEncoder
from .mapper import NeuroSymbolicMapper

EMOTION_MARK = "{emotion}"
NO_PSEUDO_WORDS = -1
# Tokenizers without a length of their own report 1e30; no text encoder has so many positions.
_LONGEST_PROMPT = 100_000


@dataclass(frozen=True)
class PromptIds:
    """A tokenised prompt of full length: BOS, the words, EOS, padding.

    input_ids: [L], int64; at the pseudo-words' places stand ordinary ids, whose rows are swapped later.
    start: position of the first pseudo-word, or -1 where the prompt has none.
    """

    input_ids: Tensor
    start: int


@dataclass(frozen=True)
class TextStates:
    """What the text encoder makes of a batch of prompts.

    hidden: [B, L, W], the states after the final layer norm, which condition the U-Net; a clip skip has taken
        the last layers out of the encoder before.
    pooled: [B, P], the state at the first EOS, through the text projection where the weights have one.
    eos: [B], int64, the position of the first EOS.
    """

    hidden: Tensor
    pooled: Tensor
    eos: Tensor


class EmotionEmbedder(nn.Module):
    """The mapper and the visual-perception encoder: from emotion and image embedding to pseudo-words."""

    def __init__(self, mapper: NeuroSymbolicMapper, encoder: VisualPerceptionEncoder) -> None:
        super().__init__()
        self.mapper = mapper
        self.encoder = encoder

    def forward(self, emotion: Tensor, image_embeds: Tensor) -> Tensor:
        """The pseudo-words e^v [B, N, W] of `emotion` y [B, E] and `image_embeds` v [B, V]."""
        return self.encoder(self.mapper(emotion), image_embeds)


def prompt_ids(tokenizer: Any, prompt: str, tokens: int, length: int | None = None) -> PromptIds:
    """Tokenise a prompt, with places for `tokens` pseudo-words where it says "{emotion}".

    Args:
        tokenizer: a transformers CLIP tokenizer, or one like it: callable, with bos_token_id, eos_token_id,
            pad_token_id and model_max_length.
        prompt: at most one "{emotion}"; "{emotion}" alone is the trained form.
        tokens: N, the number of pseudo-words.
        length: L, positions of the text encoder; None: the tokenizer's model_max_length.

    A prompt that is too long loses its last words; the pseudo-words stay, wherever they stand.

    Raises:
        UserError: more than one "{emotion}".
        AdapterError: the tokenizer has no BOS, EOS or length, or the pseudo-words alone do not fit.
    """
    length = tokenizer.model_max_length if length is None else length
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    pad = eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    if bos is None or eos is None or length > _LONGEST_PROMPT:
        raise AdapterError("the base model's tokenizer names no start, end or length: use a CLIP tokenizer.")
    before, *after = prompt.split(EMOTION_MARK)
    if len(after) > 1:
        raise UserError(f"the prompt holds {EMOTION_MARK} {len(after)} times: write it once.")
    words = [_ids(tokenizer, part) for part in (before, *after)]
    places = tokens if after else 0
    budget = length - 2 - places
    if budget < 0:
        raise AdapterError(f"{tokens} pseudo-words do not fit into the text encoder's {length} positions.")
    head = words[0][:budget]
    tail = words[1][: budget - len(head)] if after else []
    # Any id but these will do: its row is swapped, and the first EOS must be the prompt's own.
    place = next(number for number in range(4) if number not in (bos, eos, pad))
    ids = [bos, *head, *[place] * places, *tail, eos]
    ids += [pad] * (length - len(ids))
    return PromptIds(torch.tensor(ids, dtype=torch.long), 1 + len(head) if after else NO_PSEUDO_WORDS)


def plain_prompt(prompt: str) -> str:
    """The prompt without its pseudo-words, as intensity 0 shows it: no "{emotion}", no comma left over."""
    text = re.sub(r"\s+", " ", prompt.replace(EMOTION_MARK, " "))
    text = re.sub(r"\s*,(\s*,)+", ",", text)
    return re.sub(r"\s+([,.;:!?])", r"\1", text).strip(" ,") if EMOTION_MARK in prompt else prompt


def encode_text(
    text_encoder: nn.Module,
    input_ids: Tensor,
    eos_token_id: int,
    pseudo_words: Tensor | None = None,
    start: Tensor | None = None,
) -> TextStates:
    """Run the frozen text encoder, with pseudo-words in the places that the prompts keep for them.

    Args:
        text_encoder: transformers' CLIPTextModel or CLIPTextModelWithProjection.
        input_ids: [B, L], int64.
        eos_token_id: the tokenizer's (SD 1.5's text encoder config names a wrong one).
        pseudo_words: [B, N, W], any float dtype; gradients flow to them.
        start: [B], int64, position of the first pseudo-word; -1 leaves a row as it is. None: all at 1.

    Raises:
        AdapterError: the pseudo-words have another width than the text encoder's vocabulary.
    """
    with _swapped_rows(text_encoder, pseudo_words, start):
        hidden = text_encoder(input_ids=input_ids, return_dict=True).last_hidden_state
    eos = (input_ids == eos_token_id).int().argmax(dim=1)  # the first: padding may be EOS too
    pooled = hidden[torch.arange(hidden.shape[0], device=hidden.device), eos]
    projection = getattr(text_encoder, "text_projection", None)
    return TextStates(hidden, pooled if projection is None else projection(pooled), eos)


def vocabulary_row_norm(text_encoder: nn.Module) -> float:
    """The mean length of the rows of the text encoder's token embedding; about 0.4 for CLIP ViT-L/14."""
    return float(_input_embedding(text_encoder).weight.detach().float().norm(dim=1).mean())


@torch.no_grad()
def emotion_name_embeddings(
    text_encoder: nn.Module, tokenizer: Any, names: Sequence[str], length: int | None = None
) -> Tensor:
    """What stands for each emotion where the mapper's input is "name": sqrt(W) (s - s0) / |s - s0|.

    Args:
        text_encoder, tokenizer: the frozen base model's, as `encode_text` and `prompt_ids` take them.
        names: E names; an underscore is read as a space.
        length: L, positions of the text encoder; None: the tokenizer's.

    Returns:
        [E, W], float32, on the text encoder's device: s is the state at EOS of the name alone, before any
        text projection, and s0 that of the empty prompt, a part that all of CLIP's states share and that
        would drown the names. A row hangs on its own name alone, so that emotions can be added to an adapter.
        Numbers of mean square 1 suit the layer that reads them.

    Raises:
        AdapterError: a name in which the text encoder reads nothing, or two that it reads alike.
    """
    device = _input_embedding(text_encoder).weight.device
    seen: dict[tuple[int, ...], str] = {(): ""}
    states = []
    # One by one: a batch may be summed in another order, and a row should be the same in any company.
    for name in ("", *names):
        ids = prompt_ids(tokenizer, name.replace("_", " "), 0, length).input_ids
        state = encode_text(text_encoder, ids[None].to(device), tokenizer.eos_token_id)
        words = tuple(ids[1 : int(state.eos)].tolist())
        if name and words in seen:
            fault = (
                f"the names '{seen[words]}' and '{name}' alike" if words else f"nothing in the name '{name}'"
            )
            raise AdapterError(
                f"the base model's tokenizer reads {fault}: rename, or use --set mapper_input=learned."
            )
        seen[words] = name
        states.append(state.hidden[0, int(state.eos)].float())
    offsets = torch.stack(states[1:]) - states[0]
    return offsets * (offsets.shape[1] ** 0.5 / offsets.norm(dim=1, keepdim=True))


def at_intensity(plain: Tensor, with_emotion: Tensor, intensity: float) -> Tensor:
    """plain + t (with_emotion - plain), of a prompt's encodings [B, L, W] without and with pseudo-words.

    t = 0 is `plain` bit for bit and t = 1 `with_emotion` bit for bit; beyond 1 extrapolates.
    """
    if intensity == 0:
        return plain
    if intensity == 1:
        return with_emotion
    return plain + intensity * (with_emotion - plain)


def _ids(tokenizer: Any, text: str) -> list[int]:
    # Half surrogates, which a shell's arguments and JSON can hold, are no text to some tokenizers.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    # Not truncated by the tokenizer, which would count neither the pseudo-words nor the other half.
    return list(tokenizer(whole, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])


def _input_embedding(text_encoder: nn.Module) -> nn.Embedding:
    model: Any = text_encoder  # get_input_embeddings is transformers', unknown to nn.Module
    return model.get_input_embeddings()


@contextmanager
def _swapped_rows(
    text_encoder: nn.Module, pseudo_words: Tensor | None, start: Tensor | None
) -> Iterator[None]:
    """Within the block, the token embedding gives the pseudo-words at their places."""
    if pseudo_words is None:
        yield
        return
    embedding = _input_embedding(text_encoder)
    if pseudo_words.shape[-1] != embedding.embedding_dim:
        raise AdapterError(
            f"the text encoder is {embedding.embedding_dim} wide, the adapter's pseudo-words "
            f"{pseudo_words.shape[-1]}: use the base model that the adapter names."
        )
    tokens = pseudo_words.shape[1]

    def swap(_module: nn.Module, _inputs: tuple[Any, ...], rows: Tensor) -> Tensor:
        first = torch.ones(rows.shape[0], dtype=torch.long) if start is None else start
        first = first.to(rows.device)
        offset = torch.arange(rows.shape[1], device=rows.device) - first[:, None]  # [B, L]
        inside = (offset >= 0) & (offset < tokens) & (first >= 0)[:, None]
        index = offset.clamp(0, tokens - 1)[:, :, None].expand(-1, -1, rows.shape[2])
        return torch.where(inside[:, :, None], pseudo_words.to(rows.dtype).gather(1, index), rows)

    hook = embedding.register_forward_hook(swap)
    try:
        yield
    finally:
        hook.remove()
