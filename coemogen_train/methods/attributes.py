"""EmoGen's attributes: what a set's annotations name, and how far each is an emotion's own.

The emotion confidence of EmoGen (arXiv 2401.04608) tells how firmly an attribute is tied to an emotion. Its
authors publish the finished table only; ours follows from the annotations: the share of an attribute's
pictures that show the emotion, 0 at what chance would give and 1 where no other emotion has the attribute.
Emotions count alike however many pictures they have, and one more picture of each is added to every
attribute, so that one seen once is not taken to be an emotion's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.samples import Sample

MOST = 1000
"""Attributes that are kept, the most frequent; EmoSet's annotations know 663 scenes and objects."""


@dataclass(frozen=True)
class Attributes:
    """names: [A], as texts. confidence: [A, E] float32, 0..1. of_picture: [n, A] bool."""

    names: tuple[str, ...]
    confidence: Tensor
    of_picture: Tensor


def shared_confidence(of_picture: Tensor, confidence: Tensor, labels: Tensor) -> Tensor:
    """The confidence of pictures' attributes for their emotion, over the attributes' number: [B, A] float32.

    A row's sum is the picture's mean confidence: 0 where it has no attribute.

    Arguments:
        of_picture: [B, A] bool. confidence: [A, E]. labels: [B] int64.
    """
    return of_picture * confidence.T[labels] / of_picture.sum(1, keepdim=True).clamp(min=1)


def read_attributes(samples: Sequence[Sample], labels: Tensor, emotions: int) -> Attributes:
    """Read the objects and scenes of the annotations; labels: [n] int64, each picture's emotion."""
    told = [
        {_text(word) for word in (*sample.objects, *([sample.scene] if sample.scene else []))} - {""}
        for sample in samples
    ]
    counts = Counter(word for words in told for word in words)
    names = tuple(sorted(sorted(counts), key=counts.__getitem__, reverse=True)[:MOST])
    places = {name: number for number, name in enumerate(names)}
    of_picture = torch.zeros(len(told), len(names), dtype=torch.bool)
    for row, words in enumerate(told):
        of_picture[row, [places[word] for word in words if word in places]] = True
    return Attributes(names, emotion_confidence(of_picture, labels, emotions), of_picture)


def emotion_confidence(of_picture: Tensor, labels: Tensor, emotions: int) -> Tensor:
    """How far each attribute is each emotion's own: [A, E] float32, 0..1.

    Arguments:
        of_picture: [n, A] bool. labels: [n] int64.
    """
    if emotions == 1:
        return torch.zeros(of_picture.shape[1], 1)
    shown = torch.nn.functional.one_hot(labels, emotions).double()  # [n, E]
    balance = len(labels) / (emotions * shown.sum(0).clamp(min=1))
    seen = of_picture.T.double() @ shown * balance + 1
    share = seen / seen.sum(1, keepdim=True)
    return ((share * emotions - 1) / (emotions - 1)).clamp(min=0).float()


def _text(word: str) -> str:
    return " ".join(word.replace("_", " ").split()).casefold()
