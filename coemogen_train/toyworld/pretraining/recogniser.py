"""Training the story recogniser on freshly drawn scenes, blurred and noisy as generated pictures are."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

from ..narratives import EMOTION_OF, Story
from ..recogniser import HEADS, StoryRecogniser, picture_pixels
from ..scenes import draw_scene, sample_any_story, sample_stage
from .resumable import Schedule, fit

BATCH = 64


def _draw(rng: random.Random) -> tuple[Image.Image, Story]:
    story = rng.choice(tuple(EMOTION_OF)) if rng.random() < 0.6 else sample_any_story(rng)
    picture = draw_scene(sample_stage(story, rng.random() < 0.5, rng), rng)
    if rng.random() < 0.6:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1)))
    return picture, story


def _batch(seed: int, step: int) -> tuple[Tensor, dict[str, Tensor]]:
    rng = random.Random(f"recogniser {seed} {step}")
    drawn = [_draw(rng) for _ in range(BATCH)]
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    pixels = picture_pixels([picture for picture, _ in drawn])
    level = torch.rand(BATCH, 1, 1, 1, generator=generator) * 0.08
    pixels = (pixels + level * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)
    targets = {
        name: torch.tensor([classes.index(getattr(story, name)) for _, story in drawn])
        for name, classes in HEADS.items()
    }
    return pixels, targets


def train_recogniser(steps: int, seed: int, checkpoint: Path, log: Callable[[str], None]) -> StoryRecogniser:
    recogniser = StoryRecogniser()

    def loss_of(step: int) -> Tensor:
        recogniser.train()
        pixels, targets = _batch(seed, step)
        return sum(
            (F.cross_entropy(logits, targets[name]) for name, logits in recogniser(pixels).items()),
            torch.zeros(()),
        )

    fit("recogniser", recogniser, loss_of, Schedule(steps, 3e-3), checkpoint, log, ema_decay=0.99)
    pixels, targets = _batch(seed + 1, 0)
    with torch.no_grad():
        right = [(logits.argmax(1) == targets[name]) for name, logits in recogniser(pixels).items()]
    log(f"recogniser: whole stories read on fresh scenes {torch.stack(right).all(dim=0).float().mean():.3f}")
    return recogniser
