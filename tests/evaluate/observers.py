"""Pictures of plain colours, and instruments that see their colours: small enough for any test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from coemogen_train.base.vision import ClipEncoder, ImageTransform
from coemogen_train.evaluate.encoders import PerceptualDistance
from coemogen_train.evaluate.instruments import Features, Instruments, PictureProbe
from coemogen_train.evaluate.probes import EmotionProbe

EMOTIONS = ("awe", "fear")
COLOURS = {"awe": (210, 190, 90), "fear": (60, 50, 120)}
SIZE = (24, 20)


def write_pictures(
    folder: Path, each: int, suffix: str = ".png", seed: int = 0, emotions: Sequence[str] = EMOTIONS
) -> Path:
    """`each` pictures per emotion, noise around the emotion's colour; lossless formats keep it."""
    generator = np.random.default_rng(seed)
    for emotion in emotions:
        (folder / emotion).mkdir(parents=True)
        for number in range(each):
            shade = np.array(COLOURS.get(emotion, (128, 128, 128))) + generator.normal(0, 25, 3)
            pixels = np.clip(shade + generator.normal(0, 30, (SIZE[1], SIZE[0], 3)), 0, 255)
            picture = Image.fromarray(pixels.astype(np.uint8))
            picture.save(
                folder / emotion / f"{number:03d}{suffix}",
                **({"lossless": True} if suffix == ".webp" else {}),
            )
    return folder


def colours(pictures: Sequence[Image.Image]) -> Features:
    """[n, 6]: mean and deviation of each channel, 0..1."""
    arrays = [np.asarray(picture, dtype=np.float32) / 255 for picture in pictures]
    return np.stack([np.concatenate([a.mean((0, 1)), a.std((0, 1))]) for a in arrays])


def tiny_clip() -> ClipEncoder:
    """A random linear map of 8 x 8 pixels, and of the letters of a text."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(192, 5, bias=False)
    model.weight.data = torch.randn(5, 192, generator=generator) / 14
    letters = torch.randn(256, 5, generator=generator)

    def embed_texts(texts: list[str]) -> Tensor:
        return torch.stack([letters[list(text.encode("utf-8"))].mean(0) for text in texts])

    transform = ImageTransform(shortest_edge=8, crop=(8, 8))
    return ClipEncoder("tiny", model, 5, 5, transform, lambda pixels: model(pixels.flatten(1)), embed_texts)


def compare_pixels(first: Tensor, second: Tensor) -> Tensor:
    """A distance that tells 0..1 from -1..1."""
    return (first.sin() - second.sin()).square().mean(dim=(1, 2, 3))


def brightness_probe(classes: tuple[str, ...] = EMOTIONS) -> EmotionProbe:
    """Bright is the first class, dark the second, by the mean colours."""
    weight = np.zeros((len(classes), 6))
    weight[0, :3], weight[1, :3] = 9.0, -9.0
    bias = np.array([-12.0, 12.0, *[-99.0] * (len(classes) - 2)])
    return EmotionProbe(classes, weight, bias, np.zeros(6), np.ones(6), "colours", trained_on=0)


def tiny_instruments(classes: tuple[str, ...] = EMOTIONS) -> Instruments:
    clip = tiny_clip()
    return Instruments(
        inception=colours,
        perceptual=PerceptualDistance(compare_pixels, least=1),
        clip=clip,
        classifiers={
            "red": lambda pictures: colours(pictures)[:, 0],
            "blue": lambda pictures: colours(pictures)[:, 2],
        },
        probes={"clip": PictureProbe(brightness_probe(classes), colours)},
        fingerprint="tiny",
    )
