"""A second probe on another backbone, what the two agree on, and probes across sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from coemogen_train.base.vision import load_vision
from coemogen_train.data import TrainingSet, prepare
from coemogen_train.errors import UserError
from coemogen_train.evaluate import load_probe, save_probe
from coemogen_train.evaluate.backbones import Backbone, encoder_of, load_backbone, picture_probe
from coemogen_train.evaluate.probe_pair import across, agreement
from coemogen_train.evaluate.probe_training import train_probe

BRIGHTNESS = {"awe": 100, "contentment": 140, "fear": 180, "anger": 220}


def mean_colour(images: Sequence[Image.Image]) -> Tensor:
    return torch.tensor(np.stack([np.asarray(image, dtype=np.float32).mean(axis=(0, 1)) for image in images]))


def crop_colour(images: Sequence[Image.Image]) -> Tensor:
    return mean_colour([image.crop((0, 0, 4, 4)) for image in images])


WHOLE = Backbone("mean colour", "1" * 64, 3, mean_colour)
CORNER = Backbone("colour of a corner", "2" * 64, 3, crop_colour)


def make_set(folder: Path, name: str, emotions: Sequence[str], seed: int) -> TrainingSet:
    dice = np.random.default_rng(seed)
    rows = ["image,emotion,split"]
    (folder / name).mkdir()
    for split, count in (("train", 12), ("test", 8)):
        for emotion in emotions:
            for number in range(count):
                values = dice.normal(dice.normal(BRIGHTNESS[emotion], 12), 40, (16, 16, 3))
                file = f"{split}-{emotion}-{number}.png"
                Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / name / file)
                rows.append(f"{file},{emotion},{split}")
    (folder / name / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    prepare(folder / name / "table.csv", folder / f"{name}-set")
    return TrainingSet.open(folder / f"{name}-set")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSet, TrainingSet]:
    folder = tmp_path_factory.mktemp("sets")
    here = make_set(folder, "here", ("awe", "contentment", "fear"), 0)
    return here, make_set(folder, "there", ("fear", "awe", "anger"), 1)


def test_agreement_is_counted_picture_by_picture(sets: tuple[TrainingSet, TrainingSet]) -> None:
    of, _ = sets
    first, second = train_probe(of, WHOLE), train_probe(of, CORNER)
    assert first.scored is not None and second.scored is not None
    both = agreement(first.scored, second.scored)
    pictures = [Image.open(sample.image).convert("RGB") for sample in of.samples("test")]
    told = [sample.emotion for sample in of.samples("test")]
    one = first.probe.predict(mean_colour(pictures).double().numpy())
    two = second.probe.predict(crop_colour(pictures).double().numpy())
    assert both.share.value == pytest.approx(np.mean([a == b for a, b in zip(one, two, strict=True)]))
    assert both.kappa == pytest.approx(cohen_kappa_score(one, two)) and both.kappa < 0.95
    wrong = [a != t and b != t for a, b, t in zip(one, two, told, strict=True)]
    assert both.both_wrong == pytest.approx(np.mean(wrong))
    assert both.share.low < both.share.value < both.share.high


def test_probes_that_always_say_one_thing_have_no_kappa(sets: tuple[TrainingSet, TrainingSet]) -> None:
    scored = train_probe(sets[0], WHOLE).scored
    assert scored is not None
    alike = replace(scored, seen=("awe",) * len(scored.true))
    assert agreement(alike, alike).kappa is None
    with pytest.raises(ValueError, match="same pictures"):
        agreement(scored, replace(scored, true=scored.true[1:]))


def test_across_sets_both_probes_are_scored_on_the_same_pictures(
    sets: tuple[TrainingSet, TrainingSet],
) -> None:
    here, there = sets
    report = train_probe(here, WHOLE)
    crossing = across(report, here, there, WHOLE)
    samples = [sample for sample in there.samples("test") if sample.emotion != "anger"]
    features = mean_colour([Image.open(sample.image).convert("RGB") for sample in samples]).double().numpy()
    told = [sample.emotion for sample in samples]
    for probe, accuracy in (
        (report.probe, crossing.trained_here),
        (train_probe(there, WHOLE).probe, crossing.trained_there),
    ):
        assert accuracy is not None
        assert accuracy.value == pytest.approx(np.mean(np.array(probe.predict(features)) == np.array(told)))
    assert crossing.emotions == ("awe", "fear") and crossing.pictures == 16
    assert "contentment: unknown there" in crossing.notes[0]
    again = across(report, here, here, WHOLE)
    assert again.trained_here == again.trained_there and not again.notes


def test_command_writes_both_probes_and_each_finds_its_encoder_again(
    sets: tuple[TrainingSet, TrainingSet], tmp_path: Path
) -> None:
    from coemogen_train.cli.probe import probe as command
    from coemogen_train.toyworld.backbone import NAME, toy_backbone

    here, there = sets
    out, second = tmp_path / "p.safetensors", tmp_path / "p-second.safetensors"
    data = command(here.root, out=out, vision="toy", second="toy", other=[there.root]).data
    assert load_probe(second).backbone == NAME and data["second"]["backbone"] == NAME
    assert 0 < data["agreement"]["share"]["value"] <= 1
    assert [crossing["backbone"] for crossing in data["others"]] == ["toy", NAME]
    checked = command(here.root, vision="toy", check=second).data
    assert checked["confusion"] == data["second"]["confusion"]
    clip = load_vision("toy")
    pictures = [Image.open(sample.image).convert("RGB") for sample in here.samples("test")][:4]
    paired = picture_probe(second, clip, others={NAME: toy_backbone})
    assert np.array_equal(paired.encode(pictures), toy_backbone().encode(pictures))
    assert np.array_equal(picture_probe(out, clip).encode(pictures), clip.encode_images(pictures).numpy())
    with pytest.raises(UserError, match="toy recogniser, which toy does not give"):
        picture_probe(second, clip)


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Random weights under the name that torchvision's own have."""
    from torchvision import models

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = models.mobilenet_v3_small().eval()
    torch.save(model.state_dict(), folder / "mobilenet_v3_small-047dcff4.pth")
    return folder, model


SMALL = "torchvision:mobilenet_v3_small"


def test_features_are_what_enters_the_last_layer(small_weights: tuple[Path, Any]) -> None:
    from torchvision import models

    folder, model = small_weights
    dice = np.random.default_rng(3)
    pictures = [Image.fromarray(dice.integers(0, 256, (40, 50 + n, 3), dtype=np.uint8)) for n in range(2)]
    backbone = load_backbone(SMALL, folder)
    transform = models.MobileNet_V3_Small_Weights.DEFAULT.transforms()
    with torch.no_grad():
        logits = model(torch.stack([transform(picture) for picture in pictures]))
        last = model.classifier[-1]
        ours = last(torch.from_numpy(backbone.encode(pictures)))
    assert torch.allclose(ours, logits, atol=1e-5)
    assert backbone.encode(pictures).dtype == np.float32 and backbone.image_width == last.in_features
    assert load_backbone(backbone.name, folder).fingerprint == backbone.fingerprint
    asked = SimpleNamespace(backbone=backbone.name, width=1024, require_encoder=lambda *_: None)
    found = encoder_of(asked, lambda: pytest.fail("CLIP is not asked"), folder)  # type: ignore[arg-type]
    assert found.fingerprint == backbone.fingerprint


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:resnet50", r"put resnet50-11ad3fa6\.pth \(from https"),
        ("timm:resnet18", r"put resnet18\.\w+\.safetensors \(from"),
        ("torchvision:resnet5000", "no classifier of this name"),
        (f"{SMALL}@NOTHING", "no such weights"),
        ("timm:resnet5000", "timm has no model"),
        ("torchvision:squeezenet1_1", "put squeezenet1_1-b8a52dc0.pth "),
        ("resnet50", "no backbone of this name"),
    ],
)
def test_what_is_missing_is_one_sentence(tmp_path: Path, spec: str, message: str) -> None:
    if spec.startswith("timm:"):
        pytest.importorskip("timm")
    with pytest.raises(UserError, match=message):
        load_backbone(spec, tmp_path)


def test_without_network_the_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"put resnet50-11ad3fa6.*hub.*checkpoints, or.*--weights-dir"):
        load_backbone("torchvision:resnet50")


@pytest.mark.parametrize("content", ["cut", "other", "objects", "nothing"])
def test_damaged_weights_are_one_sentence(
    small_weights: tuple[Path, Any], tmp_path: Path, content: str
) -> None:
    file = tmp_path / "mobilenet_v3_small-047dcff4.pth"
    whole = (small_weights[0] / file.name).read_bytes()
    if content == "objects":
        torch.save({"weight": Path("/")}, file)
    elif content == "other":
        torch.save({"weight": torch.zeros(2)}, file)
    else:
        file.write_bytes(whole[: len(whole) // 2] if content == "cut" else b"")
    with pytest.raises(UserError, match=r"047dcff4\.pth.*fetch it again"):
        load_backbone(SMALL, tmp_path)


def test_options_of_the_second_probe_are_checked(sets: tuple[TrainingSet, TrainingSet]) -> None:
    from coemogen_train.cli.probe import probe as command

    root = sets[0].root
    for options, message in (
        ({"check": Path("p"), "second": "toy"}, "go with training"),
        ({"out": Path("p"), "second_out": Path("q")}, "--second"),
        ({"out": Path("p"), "second": "toy", "second_out": Path("p")}, "another name"),
    ):
        with pytest.raises(UserError, match=message):
            command(root, vision="toy", **options)  # type: ignore[arg-type]


def test_a_published_head_becomes_a_probe_of_this_clip(
    sets: tuple[TrainingSet, TrainingSet], tmp_path: Path
) -> None:
    from coemogen_train.cli.probe import probe as command

    here, clip = sets[0], load_vision("toy")
    trained = train_probe(here, clip).probe
    weight = trained.weight / trained.scale
    head = {
        "fc.weight": torch.tensor(weight),
        "fc.bias": torch.tensor(trained.bias - weight @ trained.mean),
    }
    torch.save(head, tmp_path / "head.pth")
    out = tmp_path / "head.safetensors"
    data = command(
        here.root, check=tmp_path / "head.pth", classes="awe, contentment, fear", vision="toy", out=out
    ).data
    assert trained.held_out is not None
    assert data["confusion"] == trained.held_out.confusion.tolist()
    paired = picture_probe(out, clip)
    assert paired.probe.encoder == clip.fingerprint
    save_probe(paired.probe, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()
