"""Pictures drawn on the spot, and stand-ins for the encoders: as small as the seams allow."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


def noise_image(seed: int, width: int = 24, height: int = 20) -> Image.Image:
    """An RGB picture whose bytes no other seed gives."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


class TinyBase:
    """Encodes like a VAE: each value depends on its own picture and, in the last bits, on the batch size."""

    def __init__(self, fingerprint: str = "vae-1"):
        self.vae_fingerprint = fingerprint
        self.vae_factor = 4
        self.resolution = 16
        self.batches: list[int] = []

    def encode_latents(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.batches.append(len(pixels))
        mean = torch.nn.functional.avg_pool2d(pixels, 4) + len(pixels) * 1e-3
        return mean, mean.abs() * 0.1 + 0.01


class TinyClip:
    """Pictures to their mean colours and a little more, sentences to a vector made from their bytes."""

    def __init__(self, fingerprint: str = "clip-1"):
        self.fingerprint = fingerprint
        self.images_seen = 0

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        self.images_seen += len(images)
        rows = [np.asarray(image.resize((2, 2)), dtype=np.float32).reshape(-1) - 100 for image in images]
        return torch.from_numpy(np.stack(rows))

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        seeds = [zlib.crc32(text.encode("utf-8")) for text in texts]
        return torch.stack([torch.randn(12, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@pytest.fixture
def base() -> TinyBase:
    return TinyBase()


@pytest.fixture
def clip() -> TinyClip:
    return TinyClip()


@pytest.fixture
def draw() -> Callable[..., Image.Image]:
    return noise_image


@pytest.fixture
def sorted_folder(tmp_path: Path) -> Path:
    """Ten pictures each of awe and fear, a subfolder per emotion."""
    for number, emotion in enumerate(("awe", "fear")):
        folder = tmp_path / "photos" / emotion
        folder.mkdir(parents=True)
        for index in range(10):
            noise_image(100 * number + index).save(folder / f"{index}.png")
    return tmp_path / "photos"


@pytest.fixture
def captioned_table(sorted_folder: Path) -> Path:
    """A CSV over `sorted_folder`, all of it for training, with a caption per picture."""
    table = sorted_folder.parent / "table.csv"
    rows = ["image,emotion,caption,split"]
    for picture in sorted(sorted_folder.rglob("*.png")):
        name = picture.relative_to(table.parent).as_posix()
        rows.append(f"{name},{picture.parent.name},what {picture.stem} shows of {picture.parent.name},train")
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its path."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    return tree_bytes
