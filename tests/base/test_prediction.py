"""What a U-Net predicts is told by its errors, and not guessed where they do not tell."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from coemogen_train.base.load import load_base
from coemogen_train.base.model import BaseModel
from coemogen_train.base.prediction import measured_prediction_type
from coemogen_train.data.pixels import to_pixels
from coemogen_train.toyworld.scenes import draw_scene, sample_any_story, sample_stage

from .tiny import write_base

KINDS = ("epsilon", "v_prediction", "sample")


@pytest.fixture(scope="module")
def toy() -> BaseModel:
    return load_base("toy")


@pytest.fixture(scope="module")
def pictures(toy: BaseModel) -> torch.Tensor:
    """Latents of three scenes of the toy world."""
    scenes = []
    for seed in range(3):
        rng = random.Random(seed)
        scenes.append(draw_scene(sample_stage(sample_any_story(rng), seed % 2 == 0, rng), rng))
    return toy.encode_latents(to_pixels(scenes))[0]


class KnowsFlatPictures(nn.Module):
    """The best denoiser of pictures of one colour, in closed form: the picture is the mean over the places.

    It answers in any of the three ways; `blur` is a share of noise that it adds, as a real one errs.
    """

    def __init__(self, base: BaseModel, kind: str, blur: float = 0.3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.kind, self.blur = kind, blur
        self.alphas_cumprod = base.noise_schedule().alphas_cumprod

    def forward(self, noised: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: Any) -> Any:
        share = self.alphas_cumprod[timestep]
        latent = noised.mean(dim=(2, 3), keepdim=True).expand_as(noised) / share.sqrt()
        noise = (noised - share.sqrt() * latent) / (1 - share).sqrt()
        v = share.sqrt() * noise - (1 - share).sqrt() * latent
        answer = {"epsilon": noise, "v_prediction": v, "sample": latent}[self.kind]
        error = torch.randn(answer.shape, generator=torch.Generator().manual_seed(int(timestep)))
        return SimpleNamespace(sample=answer + self.blur * answer.std() * error)


def test_the_bundled_base_predicts_the_noise(toy: BaseModel, pictures: torch.Tensor) -> None:
    assert measured_prediction_type(toy, pictures) == "epsilon"
    assert measured_prediction_type(toy, pictures[:1]) == "epsilon"


def test_in_half_precision_too(pictures: torch.Tensor) -> None:
    half = load_base("toy", dtype=torch.bfloat16)
    assert measured_prediction_type(half, pictures) == "epsilon"


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_denoiser_is_recognised_whatever_the_base_is_said_to_be(toy: BaseModel, kind: str) -> None:
    colours = torch.randn(4, 8, 1, 1, generator=torch.Generator().manual_seed(1)).expand(-1, -1, 16, 16)
    for said in KINDS:
        base = replace(
            toy,
            unet=KnowsFlatPictures(toy, kind),
            scheduler_config=toy.scheduler_config | {"prediction_type": said},
        )
        assert measured_prediction_type(base, colours) == kind


def test_a_schedule_that_ends_in_pure_noise_is_no_hindrance(toy: BaseModel) -> None:
    config = toy.scheduler_config | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    base = replace(toy, scheduler_config=config)
    base.unet = KnowsFlatPictures(base, "v_prediction")
    assert measured_prediction_type(base, torch.ones(1, 8, 16, 16)) == "v_prediction"


def test_random_weights_predict_nothing(tmp_path: Path) -> None:
    base = load_base(write_base(tmp_path / "tiny"))
    latents = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(2))
    assert measured_prediction_type(base, latents) is None


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_an_answer_that_says_nothing_is_not_read(toy: BaseModel, value: float) -> None:
    unet = KnowsFlatPictures(toy, "epsilon")
    unet.forward = lambda noised, *_, **__: SimpleNamespace(sample=torch.full_like(noised, value))  # type: ignore[method-assign]
    base = replace(toy, unet=unet)
    assert measured_prediction_type(base, torch.ones(1, 8, 16, 16)) is None


def test_it_is_the_same_every_time_and_leaves_the_random_state_alone(
    toy: BaseModel, pictures: torch.Tensor
) -> None:
    given: list[torch.Tensor] = []
    hook = toy.unet.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].clone()))
    try:
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            measured_prediction_type(toy, pictures)
            assert torch.equal(torch.get_rng_state(), before)
    finally:
        hook.remove()
    assert len(given) == 6
    assert all(torch.equal(one, other) for one, other in zip(given[:3], given[3:], strict=True))
