"""The paper's networks: LPIPS against its package, the others against their libraries, weights hostile until
checked."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coemogen_train.errors import UserError
from coemogen_train.evaluate.encoders import PerceptualDistance, square
from coemogen_train.evaluate.encoders_paper import inception, lpips_alex, resnet50
from coemogen_train.evaluate.weights import INCEPTION, WEIGHTS, fetch_networks, find_weights, missing_weights


def noise(width: int, height: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


@pytest.fixture(autouse=True)
def quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights only where they are used: AlexNet's last layers, 60 million, are not."""
    ordinary = torch.nn.init.kaiming_uniform_

    def drawn(tensor: torch.Tensor, *arguments: float, **options: float) -> torch.Tensor:
        return ordinary(tensor, *arguments, **options) if tensor.numel() < 2_000_000 else tensor

    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", drawn)


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
def test_lpips_is_the_packages_on_the_same_weights(tmp_path: Path) -> None:
    lpips = pytest.importorskip("lpips")
    torch.manual_seed(0)
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = {f"features.{name.partition('.')[2]}": part for name, part in theirs.net.state_dict().items()}
    torch.save(state, tmp_path / "alexnet-owt-7be5be79.pth")
    pictures = [noise(70, 64, seed) for seed in range(4)]
    pixels = torch.stack([lpips.im2tensor(np.asarray(picture))[0] for picture in pictures])
    with torch.no_grad():
        expected = theirs(pixels[:2], pixels[2:]).flatten()
    ours = lpips_alex(tmp_path / "alexnet-owt-7be5be79.pth")
    assert ours(pictures[:2], pictures[2:]) == pytest.approx(expected.numpy(), rel=1e-4)
    assert ours(pictures[:1], pictures[:1]) == pytest.approx(0, abs=1e-6)
    small = [noise(20, 20, seed) for seed in range(2)]  # in which the network itself finds nothing
    larger = [picture.resize((64, 64), Image.Resampling.BICUBIC) for picture in small]
    assert ours(small[:1], small[1:]) == ours(larger[:1], larger[1:]) > 0
    with pytest.raises(UserError, match="does not hold the weights"):
        resnet50(tmp_path / "alexnet-owt-7be5be79.pth")


def test_pictures_of_different_sizes_are_compared_at_the_smaller_one() -> None:
    shapes = []

    def compare(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(first.shape))
        return (first - second).abs().amax(dim=(1, 2, 3))

    sizes = (
        ((90, 80), (70, 99), (900, 600), (30, 20), (600, 600)),
        ((90, 80),) * 2
        + (
            (900, 600),
            (30, 20),
            (512, 512),
        ),
    )
    grey = [[Image.new("RGB", size, (99, 99, 99)) for size in side] for side in sizes]
    assert PerceptualDistance(compare)(*grey).tolist() == [0] * 5
    bounded = [(80, 90), (70, 70), (512, 768), (64, 96), (512, 512)]
    assert sorted(shapes) == sorted((1, 3, *size) for size in bounded)
    shapes.clear()
    PerceptualDistance(compare, most=None)(grey[0][2:3], grey[1][2:3])  # as the published scripts do
    assert shapes == [(1, 3, 600, 900)]


def test_a_square_is_the_middle_without_aliasing() -> None:
    stripes = Image.fromarray(np.tile(np.array([[0, 255]], dtype=np.uint8), (60, 60)))
    assert np.ptp(np.asarray(square(stripes.convert("RGB"), 20))) < 60
    wide = Image.new("RGB", (300, 100), (255, 0, 0))
    wide.paste((0, 0, 255), (100, 0, 200, 100))
    assert (np.asarray(square(wide, 50))[:, 3:-3] == (0, 0, 255)).all()


def test_sem_c_is_torchvisions_own_transform_and_model(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(1)
    model = models.resnet50(num_classes=7).eval()
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}
    torch.save(wrapped, tmp_path / "resnet50_places365.pth.tar")
    picture = noise(90, 60, 5)
    transform = models.ResNet50_Weights.IMAGENET1K_V1.transforms(antialias=True)
    with torch.no_grad():
        expected = model(transform(picture)[None]).softmax(1).max().item()
    found = resnet50(tmp_path / "resnet50_places365.pth.tar")([picture])
    assert found[0] == pytest.approx(expected, rel=1e-4)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "was-here",))

    for name in (INCEPTION.name, "resnet50-0676ba61.pth"):
        (tmp_path / name).write_bytes(pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(UserError, match=INCEPTION.name):
        inception(tmp_path / INCEPTION.name)
    with pytest.raises(UserError, match="resnet50"):
        resnet50(tmp_path / "resnet50-0676ba61.pth")
    assert not (tmp_path / "was-here").exists()


def test_missing_weights_are_all_named_with_where_to_put_them(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetch_networks(tmp_path)
    sentence = str(caught.value)
    for file in WEIGHTS[:4]:
        assert file.name in sentence and file.source in sentence
    assert str(tmp_path) in sentence and "\n" not in sentence
    assert missing_weights(tmp_path) == WEIGHTS
    (tmp_path / "pt_inception-2015-12-05-6726825d.pth").touch()  # as another library calls it
    assert find_weights(INCEPTION, tmp_path) is not None
    with pytest.raises(UserError, match="no such folder"):
        fetch_networks(tmp_path / "nowhere")
