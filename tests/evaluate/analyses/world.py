"""A world of four emotions whose pictures say outright what is in them: red the emotion, green the thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image

from coemogen_train.emotions import Emotion, Taxonomy
from coemogen_train.evaluate.analyses.drawing import BareOrder, Eyes, Observer, Order
from coemogen_train.evaluate.instruments import PictureProbe
from coemogen_train.evaluate.probes import EmotionProbe

NAMES = ("joy", "calm", "rage", "gloom")
TAXONOMY = Taxonomy("four", tuple(Emotion(n, "up" if i < 2 else "down") for i, n in enumerate(NAMES)))
CONTENTS = ("a street", "a cup", "a dog")
STEP = 40


def picture(emotion: int, content: int = 0, blue: int = 0) -> Image.Image:
    return Image.new("RGB", (4, 4), (STEP * emotion, STEP * content, blue))


def _one_hot(places: Sequence[int], width: int) -> np.ndarray:
    return np.eye(width, dtype=np.float32)[list(places)]


class Clip:
    """Features are the content; a text is the content that it ends in."""

    name, fingerprint = "fake", "fake"

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        places = [image.getpixel((0, 0))[1] // STEP for image in images]
        return torch.from_numpy(_one_hot(places, len(CONTENTS)))

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        places = [next(i for i, c in enumerate(CONTENTS) if text.endswith(c)) for text in texts]
        return torch.from_numpy(_one_hot(places, len(CONTENTS)))


def probe(classes: Sequence[str] = NAMES, backbone: str = "red") -> PictureProbe:
    """Sees the emotion in red, by a head whose classes stand in any order."""
    weight = 4 * np.stack([np.eye(8)[NAMES.index(name) if name in NAMES else 7] for name in classes])
    zeros = np.zeros(len(classes))
    head = EmotionProbe(tuple(classes), weight, zeros, np.zeros(8), np.ones(8), backbone, 1)

    def encode(images: Sequence[Image.Image]) -> np.ndarray:
        return _one_hot([min(image.getpixel((0, 0))[0] // STEP, 7) for image in images], 8)

    return PictureProbe(head, encode)


class Painter:
    """Draws by a rule; counts what it draws."""

    taxonomy = TAXONOMY

    def __init__(self, rule: Callable[[Order | BareOrder, int], Image.Image]) -> None:
        self.rule, self.orders = rule, 0

    def embeds(self, emotions: Sequence[str], seed: int) -> torch.Tensor:
        return torch.from_numpy(_one_hot([NAMES.index(name) for name in emotions], 8))

    def draw(self, order: Order | BareOrder) -> list[Image.Image]:
        self.orders += 1
        count = len(order.prompts if isinstance(order, BareOrder) else order.words)
        return [self.rule(order, i) for i in range(count)]


def observer(rule: Callable[[Order | BareOrder, int], Image.Image], **options: object) -> Observer:
    probes = {"clip": probe(), "second": probe(("gloom", "boredom", "calm", "rage", "joy"), "red too")}
    return Observer(Painter(rule), Eyes(Clip(), probes), **options)
