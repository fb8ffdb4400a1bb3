"""The trainer's tiny base, CLIP and set, and a ResNet of a few weights in place of torchvision's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.conftest import base_folder, settings, training_set, vision_folder  # noqa: F401


@pytest.fixture(scope="session")
def base(base_folder):  # noqa: F811
    """One for all tests, as reading it takes longer than a fit."""
    from coemogen_train.base.load import load_base

    return load_base(str(base_folder))


@pytest.fixture(autouse=True)
def read_once(base, monkeypatch) -> None:
    monkeypatch.setattr("coemogen_train.methods.loop.load_frozen_base", lambda *run: base)


@pytest.fixture()
def tiny_resnet(monkeypatch) -> None:
    from torch import nn

    def resnet(weights: None, num_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(num_classes)
        )

    def made(weights: None, num_classes: int) -> nn.Module:
        import torch

        module = resnet(weights, num_classes)
        module(torch.zeros(2, 3, 16, 16))  # which settles the lazy layer's width
        return module

    monkeypatch.setattr("torchvision.models.resnet18", made)


@pytest.fixture()
def config(settings, tmp_path):  # noqa: F811
    """A fit of four steps of four samples, and its checkpoint after the second."""
    from coemogen_train.train.config import make_config

    short = {"steps": 4, "save_every": 2, "preview_steps": 2, "v_dropout": 0.0, "warmup_steps": 0}
    return make_config({**settings, **short})


@pytest.fixture()
def folder(tmp_path) -> Path:
    return tmp_path / "fit"
