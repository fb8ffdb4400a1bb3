"""The story recogniser: reads subject, relation and object off a toy picture, so that a story counts only if
it is told.

A small convolutional network trained on drawn scenes, blurred and noisy too. Its features serve a second
emotion probe, on a backbone that neither conditions the generator nor filters the data.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .cast import OBJECTS
from .narratives import Story
from .relations import RELATIONS

FEATURES = 96
HEADS = {"subject": OBJECTS, "relation": tuple(RELATIONS), "object": OBJECTS}


class StoryRecogniser(nn.Module):
    """pixels [B, 3, 64, 64] in 0..1 -> logits of subject, relation and object."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 40, 64, 80)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.backbone = nn.Sequential(*layers, nn.Flatten(), nn.Linear(80 * 16, FEATURES))
        self.heads = nn.ModuleDict(
            {name: nn.Linear(FEATURES, len(classes)) for name, classes in HEADS.items()}
        )

    def features(self, pixels: Tensor) -> Tensor:
        """[B, FEATURES]"""
        return self.backbone(pixels * 2 - 1)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = torch.relu(self.features(pixels))
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def read_stories(self, pictures: Sequence[Image.Image]) -> list[Story]:
        """The most likely story of each picture, whether an emotion's narrative or not."""
        best = {name: logits.argmax(dim=1) for name, logits in self(picture_pixels(pictures)).items()}
        rows = zip(best["relation"], best["subject"], best["object"], strict=True)
        return [Story(HEADS["relation"][r], OBJECTS[s], OBJECTS[o]) for r, s, o in rows]

    @torch.no_grad()
    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Features for a probe, [n, FEATURES] float32."""
        return self.features(picture_pixels(pictures)).numpy()


def picture_pixels(pictures: Sequence[Image.Image]) -> Tensor:
    """[n, 3, 64, 64] float32 in 0..1"""
    arrays = np.stack([np.asarray(picture.convert("RGB"), dtype=np.float32) / 255 for picture in pictures])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous()


def save_recogniser(recogniser: StoryRecogniser, path: Path) -> None:
    tensors = {
        key: value.half() if value.is_floating_point() else value
        for key, value in recogniser.state_dict().items()
    }
    save_file(tensors, path)


def load_recogniser(path: Path) -> StoryRecogniser:
    recogniser = StoryRecogniser()
    recogniser.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    )
    return recogniser.eval()
