"""`evaluate` at full size without real weights: `python -m benchmarks.evaluate_size --work DIR`.

Writes Inception, AlexNet, two ResNet-50s and a CLIP ViT-L/14 with random weights into DIR/weights (1.5 GB),
crops 200 pictures out of the photographs that scikit-image carries, and runs `evaluate` on them with both
emotion probes, offline and in a process of its own. Prints seconds, peak memory and the figures. These are of
random networks: they show that the sizes fit and what they cost, nothing else.
"""

from __future__ import annotations

import argparse
import io
import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .photographs import PHOTOGRAPHS, run

EMOTIONS = ("amusement", "awe", "contentment", "excitement", "anger")
EACH = 20


def write_weights(folder: Path) -> None:
    """All files of `weights.WEIGHTS`, random."""
    from safetensors.torch import save_file
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchvision import models
    from transformers import CLIPConfig, CLIPModel

    from coemogen_train.evaluate.weights import ALEXNET, CLIP, IMAGENET, INCEPTION, PLACES

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: object, **__: object) -> None:  # type: ignore[override]
            """Stays as it was made."""

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    inception = Blank("inception", ["2048"], feature_extractor_weights_path=empty)
    for module in inception.modules():
        if isinstance(module, torch.nn.Conv2d):  # as usually made, its features would be all but the same
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(inception.state_dict(), folder / INCEPTION.name)
    torch.save(models.alexnet(weights=None).state_dict(), folder / ALEXNET.name)
    torch.save(models.resnet50(weights=None).state_dict(), folder / IMAGENET.name)
    places = models.resnet50(weights=None, num_classes=365).state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in places.items()}}, folder / PLACES.name)
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 14}
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768}
    config = CLIPConfig(
        vision_config={**vision, "num_attention_heads": 16, "projection_dim": 768},
        text_config=text,
        projection_dim=768,
    )
    clip = CLIPModel(config).half().state_dict()
    save_file({name: tensor.contiguous() for name, tensor in clip.items()}, folder / CLIP.aliases[0])


def write_probes(folder: Path) -> None:
    """A random probe on CLIP, and one on ResNet-50."""
    from coemogen_train.evaluate.probe_file import save_probe
    from coemogen_train.evaluate.probes import EmotionProbe

    generator = np.random.default_rng(0)
    for name, backbone, width in (
        ("clip", "CLIP ViT-L/14", 768),
        ("second", "torchvision:resnet50@IMAGENET1K_V1", 2048),
    ):
        weight = generator.normal(0, 0.1, (len(EMOTIONS), width))
        zeros, ones = np.zeros(width), np.ones(width)
        probe = EmotionProbe(EMOTIONS, weight, np.zeros(len(EMOTIONS)), zeros, ones, backbone, trained_on=0)
        save_probe(probe, folder / f"{name}.safetensors")


def write_photographs(folder: Path, side: int, seed: int) -> None:
    """`EACH` square crops per emotion."""
    import skimage

    rng = random.Random(seed)
    data = Path(skimage.__file__).parent / "data"
    photographs = [
        Image.open(data / name).convert("RGB") for rows in PHOTOGRAPHS.values() for name, _ in rows
    ]
    for emotion in EMOTIONS:
        (folder / emotion).mkdir(parents=True, exist_ok=True)
        for number in range(EACH):
            picture = rng.choice(photographs)
            crop = int(min(picture.size) * rng.uniform(0.5, 1.0))
            left, top = rng.randrange(picture.width - crop + 1), rng.randrange(picture.height - crop + 1)
            cut = picture.resize((side, side), box=(left, top, left + crop, top + crop))
            cut.save(folder / emotion / f"{number:03d}.jpg", quality=92)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work.absolute()
    weights = work / "weights"
    if not weights.exists():
        write_weights(weights)
        write_probes(work)
        write_photographs(work / "pictures", 512, 0)
        write_photographs(work / "real", 448, 1)
    told = run(
        *("evaluate", str(work / "pictures"), "--real", str(work / "real"), "--out", str(work / "out")),
        *("--weights-dir", str(weights), "--probe", str(work / "clip.safetensors")),
        *("--second-probe", str(work / "second.safetensors"), "--prompt", "a street, {emotion}"),
    )
    answer = told.pop("answer")
    print(json.dumps({**told, "metrics": answer["metrics"], "notes": answer["notes"]}, indent=1))  # type: ignore[index]


if __name__ == "__main__":
    main()
