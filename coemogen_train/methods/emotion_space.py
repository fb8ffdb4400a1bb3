"""EmoGen's emotion space: the features of a ResNet that learned to tell the emotions apart.

As published: a ResNet-50 (torchvision's), its averaged features through a linear layer to 768 numbers, which
are the space, and a classifier behind ReLU and dropout 0.5 on top of it, trained by cross-entropy. Below 128
pixels it is a ResNet-18.

Unless it is given ImageNet's weights, as published, it starts from nothing and has its share of the budget to
learn to see in. That is a handicap against CoEmoGen, which reads a pretrained CLIP's features that cost it no
step, and at a short budget a large one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.images import load_rgb
from ..data.pixels import square, to_pixels
from ..data.samples import Sample
from ..errors import DataError
from ..train.batches import BalancedOrder
from ..train.items import Labels
from ..train.objective import Losses
from .loop import losses_of

WIDTH = 768
_LARGEST, _SMALL = 224, 128  # pixels: what a ResNet sees at most, and from where on it is a ResNet-50
_DECODERS = 4
_TOGETHER = 32
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of 0..1


@dataclass(frozen=True)
class Pictures:
    """pixels: [B, 3, S, S] float32, -1..1. labels: [B] int64, the emotions."""

    pixels: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Pictures:
        return Pictures(self.pixels.to(device, non_blocking=True), self.labels.to(device, non_blocking=True))

    def pin_memory(self) -> Pictures:
        return Pictures(self.pixels.pin_memory(), self.labels.pin_memory())


class PictureBatches:
    """Batches of pictures, balanced over the emotions, for `train_steps`.

    Arguments:
        samples, labels: [n]. size: of the square that is seen. flip: mirror half of them.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: Labels,
        emotions: int,
        batch_size: int,
        size: int,
        seed: int,
        flip: bool,
    ) -> None:
        self._samples, self._labels = samples, labels
        self.effective_batch, self._size, self._seed, self._flip = batch_size, size, seed, flip
        self._order = BalancedOrder(labels, emotions, seed)

    def sample_ids(self, step: int) -> list[str]:
        return [self._samples[self._index(step, place)].id for place in range(self.effective_batch)]

    def micro_batches(self, step: int, size: int, process: int, processes: int) -> list[list[int]]:
        """All of a step at once: a batch norm wants to see it whole."""
        return [list(range(self.effective_batch))]

    def batch(self, step: int, positions: Iterable[int]) -> Pictures:
        places = list(positions)
        rows = [self._index(step, place) for place in places]
        pixels = read_pixels([self._samples[row] for row in rows], self._size)
        if self._flip:
            drawn = [random.Random(f"mirror {self._seed} {step} {place}").random() for place in places]
            mirrored = torch.tensor(drawn)[:, None, None, None] < 0.5
            pixels = torch.where(mirrored, pixels.flip(3), pixels)
        return Pictures(pixels, torch.from_numpy(self._labels[rows]))

    def _index(self, step: int, place: int) -> int:
        return self._order.index(step * self.effective_batch + place)


class EmotionSpace(nn.Module):
    """The ResNet up to the space, and the classifier that shapes it.

    Arguments:
        weights: a file with the state of torchvision's ResNet-50 of ImageNet; None, or pictures below 128
            pixels: it starts from nothing.

    Raises:
        DataError: the file cannot be read, or is of another network.
    """

    def __init__(self, emotions: int, resolution: int, weights: Path | None = None) -> None:
        super().__init__()
        from torchvision.models import resnet18, resnet50
        from torchvision.transforms import Normalize

        self.size = min(resolution, _LARGEST)
        self.backbone: nn.Module = (resnet18 if resolution < _SMALL else resnet50)(
            weights=None, num_classes=WIDTH
        )
        if weights is not None and resolution >= _SMALL:
            _read_imagenet(self.backbone, weights)
            # From -1..1 to what those weights are used to.
            mean, std = ([2 * m - 1 for m in _IMAGENET_MEAN], [2 * s for s in _IMAGENET_STD])
            self.backbone = nn.Sequential(Normalize(mean, std), self.backbone)
        self.classifier = nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.Linear(WIDTH, emotions))

    def forward(self, batch: Pictures) -> Losses:
        """The cross-entropy of the emotions, as a training step reads it."""
        logits = self.classifier(self.backbone(batch.pixels))
        wrong = F.cross_entropy(logits.float(), batch.labels, reduction="none")
        return losses_of(wrong, wrong)

    @torch.no_grad()
    def features(self, samples: Sequence[Sample], device: torch.device) -> Tensor:
        """Where pictures lie in the space: [n, WIDTH] float32, on the CPU."""
        self.eval()
        rows = [torch.empty(0, WIDTH)]
        for start in range(0, len(samples), _TOGETHER):
            part = [samples[i] for i in range(start, min(start + _TOGETHER, len(samples)))]
            rows.append(self.backbone(read_pixels(part, self.size).to(device)).float().cpu())
        return torch.cat(rows)


def _read_imagenet(network: nn.Module, file: Path) -> None:
    """Take a file's weights for all but the last layer, which has other outputs here."""
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)
        kept = {name: tensor for name, tensor in stored.items() if not name.startswith("fc.")}
        lost = network.load_state_dict(kept, strict=False)
        if strange := [*lost.unexpected_keys, *(n for n in lost.missing_keys if not n.startswith("fc."))]:
            raise ValueError(f"its weights differ by {strange[0]}")
    except (OSError, RuntimeError, ValueError, AttributeError, EOFError, UnpicklingError) as error:
        fault = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{file}: it does not hold torchvision's ResNet-50 of ImageNet ({fault}): download it again."
        ) from None


def read_pixels(samples: Sequence[Sample], size: int) -> Tensor:
    """Centre squares [n, 3, size, size], -1..1."""
    with ThreadPoolExecutor(_DECODERS) as pool:
        return to_pixels(list(pool.map(lambda sample: square(load_rgb(sample.image), size), samples)))
