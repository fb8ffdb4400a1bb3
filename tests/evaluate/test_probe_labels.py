"""Pictures labelled by a probe, and heads that others published read as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from coemogen_train.base.vision import ClipEncoder, load_vision
from coemogen_train.errors import DataError
from coemogen_train.evaluate import EmotionProbe, ProbeLabeller, load_linear_head, save_probe

NAMES = ("fear", "awe", "contentment")


@pytest.fixture(scope="module")
def clip() -> ClipEncoder:
    return load_vision("toy")


@pytest.fixture(scope="module")
def probe(clip: ClipEncoder) -> EmotionProbe:
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(3, clip.image_width))
    return EmotionProbe(
        NAMES,
        weight,
        generator.normal(size=3),
        generator.normal(size=clip.image_width) * 0.1,
        generator.uniform(0.5, 2, clip.image_width),
        clip.name,
        trained_on=9,
        encoder=clip.fingerprint,
    )


def noise(count: int) -> list[Image.Image]:
    generator = np.random.default_rng(1)
    return [Image.fromarray(generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)) for _ in range(count)]


def test_label_is_the_likeliest_emotion_with_its_softmax(clip: ClipEncoder, probe: EmotionProbe) -> None:
    pictures = noise(7)
    answers = ProbeLabeller(probe, clip).label(pictures)
    features = clip.encode_images(pictures).double()
    standard = (features - torch.tensor(probe.mean)) / torch.tensor(probe.scale)
    logits = standard @ torch.tensor(probe.weight).T + torch.tensor(probe.bias)
    confidence, best = torch.softmax(logits, dim=1).max(dim=1)
    assert [name for name, _ in answers] == [NAMES[i] for i in best.tolist()]
    assert [share for _, share in answers] == pytest.approx(confidence.tolist(), rel=1e-9)
    assert len({name for name, _ in answers}) > 1


def test_no_pictures_have_no_labels(clip: ClipEncoder, probe: EmotionProbe) -> None:
    assert ProbeLabeller(probe, clip).label([]) == []


def test_fingerprint_changes_with_all_that_decides_a_label(
    clip: ClipEncoder, probe: EmotionProbe, tmp_path: Path
) -> None:
    first = ProbeLabeller(probe, clip).fingerprint
    save_probe(probe, tmp_path / "probe.safetensors")
    assert ProbeLabeller.open(tmp_path / "probe.safetensors", clip).fingerprint == first
    others = [
        ProbeLabeller(probe, clip, floor=0.5),
        ProbeLabeller(replace(probe, bias=probe.bias + 1e-9), clip),
        ProbeLabeller(replace(probe, classes=NAMES[::-1]), clip),
        ProbeLabeller(replace(probe, encoder=""), replace(clip, _fingerprint="another")),
    ]
    assert len({first, *(labeller.fingerprint for labeller in others)}) == 5


def test_probe_of_another_encoder_is_refused(clip: ClipEncoder, probe: EmotionProbe) -> None:
    with pytest.raises(DataError, match=r"was trained on the features of .* --vision"):
        ProbeLabeller(probe, replace(clip, _fingerprint="another"))


@pytest.mark.parametrize("floor", [-0.1, 1.1, float("nan")])
def test_impossible_floor_is_refused(clip: ClipEncoder, probe: EmotionProbe, floor: float) -> None:
    with pytest.raises(DataError, match="from 0 to 1"):
        ProbeLabeller(probe, clip, floor)


def test_features_that_are_no_numbers_are_not_labelled(clip: ClipEncoder, probe: EmotionProbe) -> None:
    broken = replace(clip, embed_pixels=lambda pixels: clip.embed_pixels(pixels) * float("nan"))
    with pytest.raises(DataError, match="not finite"):
        ProbeLabeller(probe, broken).label(noise(2))


def head(width: int = 12, classes: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    layer = torch.nn.Linear(width, classes)
    return {"fc.weight": layer.weight.detach(), "fc.bias": layer.bias.detach()}


@pytest.mark.parametrize("wrap", ["plain", "safetensors", "nested", "data parallel", "half"])
def test_published_head_gives_its_own_logits(tmp_path: Path, wrap: str) -> None:
    tensors = head()
    path = tmp_path / ("head.safetensors" if wrap == "safetensors" else "head.pth")
    saved: Any = {"module." + k: v for k, v in tensors.items()} if wrap == "data parallel" else tensors
    if wrap == "half":
        saved = tensors = {key: value.half() for key, value in tensors.items()}
    if wrap == "safetensors":
        save_file(saved, path)
    else:
        torch.save({"state_dict": saved, "epoch": 3} if wrap == "nested" else saved, path)
    probe = load_linear_head(path, [" awe", "fear ", "sadness"])
    features = torch.randn(5, 12, dtype=torch.float64)
    expected = torch.nn.functional.linear(
        features, tensors["fc.weight"].double(), tensors["fc.bias"].double()
    )
    assert probe.classes == ("awe", "fear", "sadness")
    assert probe.logits(features.numpy()) == pytest.approx(expected.numpy(), rel=1e-12)


class Malice:
    """Pickled, it would write a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.write_text, (self.path, "owned"))


def test_a_head_that_carries_code_does_not_run_it(tmp_path: Path) -> None:
    torch.save({**head(), "extra": Malice(tmp_path / "owned")}, tmp_path / "head.pt")
    with pytest.raises(DataError, match=r"head\.pt.*safely"):
        load_linear_head(tmp_path / "head.pt", NAMES)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("tensors", "classes", "message"),
    [
        (head(), ("awe", "fear"), "3 emotions apart, and 2"),
        (head(), ("awe", "fear", "Awe"), "each once"),
        ({"weight": torch.zeros(3, 4)}, NAMES, r"no fc\.weight, but weight"),
        ({**head(), "fc.bias": torch.zeros(4)}, NAMES, "shape"),
        ({**head(), "fc.bias": torch.full((3,), torch.nan)}, NAMES, "finite"),
        ({**head(), "fc.weight": 3}, NAMES, r"no fc\.weight"),
        ([1, 2], NAMES, "no linear head"),
    ],
)
def test_heads_that_do_not_fit_are_refused(
    tmp_path: Path, tensors: Any, classes: tuple[str, ...], message: str
) -> None:
    torch.save(tensors, tmp_path / "head.pth")
    with pytest.raises(DataError, match=message):
        load_linear_head(tmp_path / "head.pth", classes)


@pytest.mark.parametrize("name", ["absent.pth", "text.pth", "text.safetensors", "empty.pt"])
def test_files_that_are_no_heads_are_named(tmp_path: Path, name: str) -> None:
    if not name.startswith("absent"):
        (tmp_path / name).write_text("" if name.startswith("empty") else "no tensors", encoding="utf-8")
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        load_linear_head(tmp_path / name, NAMES)
