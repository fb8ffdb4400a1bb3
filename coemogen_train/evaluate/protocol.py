"""The two protocols: which pairs are drawn, and what the instruments are shown.

"fixed" is right and the default. "published" is the arithmetic of the scripts behind the published tables, so
that figures can be set beside theirs:

* pairs: their list of pictures is never emptied between emotions, so that the pairs of a later emotion are
  drawn from all emotions so far; ten per emotion. Theirs are unseeded, ours are Python's `random.sample` from
  a seed. Fixed: as many pairs as pictures, within an emotion, every picture in equally many.
* LPIPS: the network gets 0..1 where it expects -1..1, and pictures as large as they are. Fixed: at most 512
  pixels. Under both, thumbnails, in which the network finds nothing, are brought up to 64.
* Sem-D: CLIP gets pixels that were rescaled twice, almost black, and the pairs are those of LPIPS.
* FID: every picture is squashed to 299 x 299, against all real pictures, training pictures included (which
  ones is the caller's choice); fixed: the shorter side to 299, and the middle.

Their scripts leave out, in silence, whatever does not end in .jpg. Here every format counts under both
protocols, and the observations tell how many theirs would have left out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..base.vision import ClipEncoder
from .encoders import PerceptualDistance
from .instruments import EncodePictures, Features, Instruments

ProtocolName = Literal["fixed", "published"]
PROTOCOLS: tuple[ProtocolName, ...] = ("fixed", "published")
PUBLISHED_PAIRS = 10
_FID_SIDE = 299


def pairs_of(
    emotions: Sequence[str], protocol: ProtocolName, seed: int, pairs_each: int = 1
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Draw the pairs of pictures.

    Arguments:
        emotions: [n], sorted by emotion.
        pairs_each: under "fixed", pairs per picture.

    Returns:
        (pairs [p, 2], turns [p]: the emotion for which each was drawn).
    """
    if protocol == "published":
        return _published_pairs(emotions, seed)
    generator = np.random.default_rng(seed)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    turns: list[str] = []
    for name, rows in _by_emotion(emotions).items():
        found = _ring(generator.permutation(rows), pairs_each)
        pairs.append(found)
        turns += [name] * len(found)
    return np.concatenate(pairs), tuple(turns)


def _ring(rows: NDArray[np.int64], pairs_each: int) -> NDArray[np.int64]:
    """The pictures in a ring, each with its next `pairs_each` neighbours: every picture is in equally many
    pairs, no pair is there twice."""
    count = len(rows)
    found = [
        np.stack([rows, np.roll(rows, -step)], axis=1) for step in range(1, min(pairs_each, count // 2) + 1)
    ]
    if count % 2 == 0 and len(found) == count // 2:
        found[-1] = found[-1][: count // 2]  # opposite neighbours meet from both sides
    return np.concatenate(found) if found else np.empty((0, 2), dtype=np.int64)


def _published_pairs(emotions: Sequence[str], seed: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    rng = random.Random(seed)
    so_far: list[int] = []
    pairs, turns = [], []
    for name, rows in _by_emotion(emotions).items():
        so_far += rows  # never emptied
        for _ in range(PUBLISHED_PAIRS if len(so_far) > 1 else 0):
            pairs.append(rng.sample(so_far, 2))
            turns.append(name)
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), tuple(turns)


def _by_emotion(emotions: Sequence[str]) -> dict[str, list[int]]:
    return {
        name: [row for row, emotion in enumerate(emotions) if emotion == name]
        for name in dict.fromkeys(emotions)
    }


def published_instruments(instruments: Instruments) -> Instruments:
    """The instruments as the published scripts hold them. The probes and the classifiers stay as they are.

    Raises:
        TypeError: the published arithmetic is not known for such instruments.
    """
    if not isinstance(instruments.perceptual, PerceptualDistance):
        raise TypeError("the published LPIPS needs a PerceptualDistance")
    if not isinstance(instruments.clip, ClipEncoder):
        raise TypeError("the published Sem-D needs a ClipEncoder")
    return replace(
        instruments,
        inception=_squashed(instruments.inception),
        perceptual=replace(instruments.perceptual, unit_range=True, most=None),
        clip=twice_rescaled(instruments.clip),
        fingerprint=f"{instruments.fingerprint} published",
    )


def twice_rescaled(clip: ClipEncoder) -> ClipEncoder:
    """The CLIP, its pixels divided by 255 twice: (p / 255 - mean) / std = (p - 255 mean) / (255 std)."""
    transform = clip.transform
    mean, std = (tuple(255 * value for value in values) for values in (transform.mean, transform.std))
    return replace(clip, transform=replace(transform, mean=mean, std=std))


def _squashed(encode: EncodePictures) -> EncodePictures:
    def encode_squashed(pictures: Sequence[Image.Image]) -> Features:
        size = (_FID_SIDE, _FID_SIDE)
        return encode([picture.resize(size, Image.Resampling.BILINEAR) for picture in pictures])

    return encode_squashed
