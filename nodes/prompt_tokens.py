"""ComfyUI's own tokens of a prompt, with the pseudo-words in the place of "{emotion}".

ComfyUI takes vectors among the token ids, as textual inversion needs them; its parser stays in charge of
weights, embeddings and long prompts. A token group is what one stretch of equal weight, or one embedding,
became; groups shorter than eight tokens are kept in one chunk, as ComfyUI does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..coemogen_train.adapter.condition import EMOTION_MARK
from ..coemogen_train.errors import UserError

# Letters, so that any version of the tokenizer keeps them; spaces keep them apart from what stands beside.
_STAND_IN = "zqxwvjqz"
_LONG_GROUP = 8

# A token id or a vector [W], and its weight.
Token = tuple[Any, float]
Chunk = list[Token]


@dataclass(frozen=True)
class Frame:
    """What stands around the words of a chunk: [start, words ..., end, padding ...], `length` in all."""

    start: Token
    end: Token
    padding: Token
    length: int

    def chunk(self, words: list[Token]) -> Chunk:
        """A full chunk of at most `length` - 2 words."""
        tokens = [self.start, *words, self.end]
        return tokens + [self.padding] * (self.length - len(tokens))


def with_place(prompt: str) -> str:
    """The prompt, with the place of the emotion at its end where it names none.

    Raises:
        UserError: it names the place more than once.
    """
    places = prompt.count(EMOTION_MARK)
    if places > 1:
        raise UserError(f"the prompt holds {EMOTION_MARK} {places} times: write it once.")
    if places:
        return prompt
    return f"{prompt.rstrip(' ,')}, {EMOTION_MARK}" if prompt.strip() else EMOTION_MARK


class EmotionalPrompt:
    """A prompt with one place for the pseudo-words, tokenised once for all pictures.

    Args:
        clip: ComfyUI's CLIP.
        prompt: with one "{emotion}"; weights and embeddings in ComfyUI's syntax.
        part: the key of the text encoder's tokens, "l" for Stable Diffusion 1.5.
    """

    def __init__(self, clip: Any, prompt: str, part: str = "l") -> None:
        self.part = part
        start, end, padding, *_ = clip.tokenize("")[part][0]
        self.frame = Frame(start, end, padding, len(clip.tokenize("")[part][0]))
        stand_in = [token for token, _, word in _tokens(clip, _STAND_IN, part) if word]
        tokens = list(_tokens(clip, prompt.replace(EMOTION_MARK, f" {_STAND_IN} "), part))
        words = [token for token in tokens if token[2]]
        self.place = _find([token for token, _, _ in words], stand_in)
        self.weight = float(words[self.place][1])
        self.words = words[: self.place] + words[self.place + len(stand_in) :]

    def tokens(self, pseudo_words: Tensor) -> dict[str, list[Chunk]]:
        """ComfyUI's tokens with one picture's `pseudo_words` [N, W] in their place."""
        emotion = [(vector, self.weight) for vector in pseudo_words]
        groups = [*_groups(self.words[: self.place]), emotion, *_groups(self.words[self.place :])]
        chunks: list[list[Token]] = [[]]
        room = self.frame.length - 2
        for group in groups:
            together = group is emotion or len(group) < _LONG_GROUP
            if together and len(chunks[-1]) + len(group) > room and chunks[-1]:
                chunks.append([])
            for token in group:
                if len(chunks[-1]) == room:
                    chunks.append([])
                chunks[-1].append(token)
        return {self.part: [self.frame.chunk(chunk) for chunk in chunks]}

    def padded(self, tokens: dict[str, list[Chunk]], chunks: int) -> dict[str, list[Chunk]]:
        """Tokens of another prompt with empty chunks behind, so that both become equally long."""
        own = tokens[self.part]
        return {self.part: [*own, *[self.frame.chunk([])] * (chunks - len(own))]}


def _tokens(clip: Any, text: str, part: str) -> Iterator[tuple[Any, float, int]]:
    """All (token, weight, group), special tokens being of group 0."""
    for chunk in clip.tokenize(text, return_word_ids=True)[part]:
        yield from chunk


def _find(tokens: list[Any], wanted: list[Any]) -> int:
    """Where `wanted` begins; vectors among the tokens equal nothing."""
    plain = [token if isinstance(token, int) else None for token in tokens]
    for place in range(len(plain) - len(wanted) + 1):
        if plain[place : place + len(wanted)] == wanted:
            return place
    raise UserError(f"the connected CLIP lost the place of {EMOTION_MARK}: connect a CLIP of SD 1.5.")


def _groups(words: list[tuple[Any, float, int]]) -> list[list[Token]]:
    """The words of each group together."""
    groups: list[list[Token]] = []
    last = None
    for token, weight, group in words:
        if group != last:
            groups.append([])
            last = group
        groups[-1].append((token, weight))
    return groups
