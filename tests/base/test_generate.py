"""From an adapter to pictures: conditions as the text encoder gives them, seeds that mean one picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops

from coemogen_train.adapter.file import Adapter, make_embedder, make_hilora
from coemogen_train.adapter.gaussians import EmotionGaussians
from coemogen_train.adapter.hilora import find_layers
from coemogen_train.adapter.info import AdapterInfo, BaseInfo, TextEncoderInfo, VisionInfo
from coemogen_train.base.generate import (
    check_fits,
    emotion_conditions,
    encode_prompts,
    generate_from_adapter,
)
from coemogen_train.base.load import load_base
from coemogen_train.base.model import BaseModel
from coemogen_train.base.sampling import SamplingSettings, generate_images, noise_seeds
from coemogen_train.emotions import MIKELS
from coemogen_train.errors import AdapterError, UserError

from .tiny import LENGTH, WIDTH, write_base

VISION_WIDTH = 6
SETTINGS = SamplingSettings(steps=3, guidance=3.0)
ROWS = torch.eye(8)[torch.tensor([1, 6, 7])]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(write_base(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def adapter(base: BaseModel) -> Adapter:
    torch.manual_seed(2)
    info = AdapterInfo(
        taxonomy=MIKELS,
        base=BaseInfo(base.architecture, "epsilon", WIDTH, "tiny"),
        text_encoders=(TextEncoderInfo(WIDTH),),
        vision=VisionInfo("none", VISION_WIDTH),
        layers=find_layers(base.unet),
        hidden=8,
    )
    hilora = make_hilora(info).requires_grad_(False)
    for up in hilora.up.values():
        up.normal_(std=0.5)
    mean = torch.randn(8, 1, VISION_WIDTH)
    gaussians = EmotionGaussians(torch.ones(8, 1), mean, torch.ones(8, 1, VISION_WIDTH))
    return Adapter(info, make_embedder(info, 1.0).requires_grad_(False), hilora, gaussians)


def _differ(one: Image.Image, other: Image.Image) -> int:
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


def test_prompts_are_encoded_as_the_text_encoder_does(base: BaseModel) -> None:
    prompts = ["a dog", "", "rain on glass"] * 15
    ids = base.tokenizer(
        prompts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        expected = base.text_encoder(input_ids=ids).last_hidden_state
    assert torch.allclose(encode_prompts(base, prompts), expected, atol=1e-6)
    assert encode_prompts(base, []).shape == (0, LENGTH, WIDTH)


def test_conditions_have_one_row_per_picture(base: BaseModel, adapter: Adapter) -> None:
    embeds = adapter.gaussians.sample(ROWS, 0)
    conditions, negative = emotion_conditions(base, adapter, ROWS, embeds)
    assert conditions.shape == (3, LENGTH, WIDTH) and negative.shape == (1, LENGTH, WIDTH)
    assert torch.equal(negative, encode_prompts(base, [""]))
    assert (conditions[0] - conditions[1]).abs().max() > 1e-3


def test_conditions_hold_the_pseudo_words_after_bos(base: BaseModel, adapter: Adapter) -> None:
    """Reference: a text encoder whose vocabulary has the pseudo-words as four more rows."""
    import copy

    embeds = adapter.gaussians.sample(ROWS[:1], 0)
    words = adapter.embedder(ROWS[:1], embeds)[0]
    text_encoder = copy.deepcopy(base.text_encoder)
    table = text_encoder.get_input_embeddings().weight.data
    table[100:104] = words
    letters = [base.tokenizer(letter, add_special_tokens=False).input_ids for letter in "ab"]
    ids = [512, *letters[0], 100, 101, 102, 103, *letters[1], 513]
    ids = torch.tensor([ids + [513] * (LENGTH - len(ids))])
    with torch.no_grad():
        expected = text_encoder(input_ids=ids).last_hidden_state
    conditions, _ = emotion_conditions(base, adapter, ROWS[:1], embeds, prompt="a {emotion} b")
    assert torch.allclose(conditions, expected, atol=1e-6)


def test_intensity_zero_is_the_plain_prompt_bit_for_bit(base: BaseModel, adapter: Adapter) -> None:
    embeds = adapter.gaussians.sample(ROWS, 0)
    conditions, _ = emotion_conditions(base, adapter, ROWS, embeds, "a street, {emotion}", intensity=0)
    assert torch.equal(conditions, encode_prompts(base, ["a street"]).expand(3, -1, -1))


def test_intensity_goes_from_the_plain_prompt_to_the_trained_one_and_on(
    base: BaseModel, adapter: Adapter
) -> None:
    embeds = adapter.gaussians.sample(ROWS, 0)
    plain, half, full, double = (
        emotion_conditions(base, adapter, ROWS, embeds, "x {emotion}", intensity)[0]
        for intensity in (0, 0.5, 1, 2)
    )
    assert torch.allclose(half, (plain + full) / 2, atol=1e-6)
    assert torch.allclose(double, 2 * full - plain, atol=1e-5)


def test_a_picture_does_not_depend_on_its_neighbours(base: BaseModel, adapter: Adapter) -> None:
    together = generate_from_adapter(base, adapter, ROWS, 5, SETTINGS)
    for i, image in enumerate(together):
        alone = generate_from_adapter(base, adapter, ROWS[i : i + 1], 5 + i, SETTINGS)[0]
        assert (
            _differ(image, alone) <= 1
        )  # one step of 255: float sums depend on the batch in their last bits
    assert _differ(together[0], together[1]) > 10


def test_many_pictures_go_through_the_text_encoder_in_parts(base: BaseModel, adapter: Adapter) -> None:
    rows = torch.eye(8)[torch.arange(40) % 8]
    embeds = adapter.gaussians.sample(rows, 0)
    conditions, _ = emotion_conditions(base, adapter, rows, embeds)
    alone, _ = emotion_conditions(base, adapter, rows[35:], embeds[35:])
    assert torch.allclose(conditions[35:], alone, atol=1e-6)


def test_without_strength_and_intensity_it_is_the_base(base: BaseModel, adapter: Adapter) -> None:
    options: dict[str, Any] = {"emotion_strength": 0, "polarity_strength": 0, "intensity": 0}
    images = generate_from_adapter(base, adapter, ROWS, 1, SETTINGS, "a dog {emotion}", **options)
    embeds = encode_prompts(base, ["a dog"]).expand(3, -1, -1)
    bare = generate_images(base, embeds, encode_prompts(base, [""]), noise_seeds(1, 3), SETTINGS)
    assert [image.tobytes() for image in images] == [image.tobytes() for image in bare]


def test_the_base_is_bare_again_afterwards(base: BaseModel, adapter: Adapter) -> None:
    arguments = (base, encode_prompts(base, ["x"]), encode_prompts(base, [""]), [0], SETTINGS)
    before = generate_images(*arguments)[0].tobytes()
    generate_from_adapter(base, adapter, ROWS[:1], 0, SETTINGS)
    assert generate_images(*arguments)[0].tobytes() == before


@pytest.mark.parametrize(
    "option", [{"emotion_strength": 0.0}, {"polarity_strength": 0.0}, {"truncation": 0.0}, {"intensity": 0.5}]
)
def test_every_knob_is_connected(base: BaseModel, adapter: Adapter, option: dict[str, float]) -> None:
    plain = generate_from_adapter(base, adapter, ROWS[:1], 0, SETTINGS)[0]
    turned = generate_from_adapter(base, adapter, ROWS[:1], 0, SETTINGS, **option)[0]
    assert plain.tobytes() != turned.tobytes()


def test_given_embeddings_are_used(base: BaseModel, adapter: Adapter) -> None:
    drawn = adapter.gaussians.sample(ROWS, 9)
    given = generate_from_adapter(base, adapter, ROWS, 9, SETTINGS, image_embeds=drawn)
    sampled = generate_from_adapter(base, adapter, ROWS, 9, SETTINGS)
    assert [image.tobytes() for image in given] == [image.tobytes() for image in sampled]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "stable-diffusion-v1"}, "architecture stable-diffusion-v1, but tiny has unet-8x8"),
        ({"cross_attention_dim": 768}, "text width 768, but tiny has 16"),
    ],
)
def test_an_adapter_of_another_base_is_refused(
    base: BaseModel, adapter: Adapter, change: dict[str, Any], words: str
) -> None:
    info = replace(adapter.info, base=replace(adapter.info.base, **change))
    other = replace(adapter, info=info)
    with pytest.raises(AdapterError, match=rf"x\.safetensors: the adapter was trained on a base of {words}"):
        check_fits(base, other, Path("x.safetensors"))
    with pytest.raises(AdapterError, match="use a base like tiny"):
        generate_from_adapter(base, other, ROWS, 0, SETTINGS)


def test_embeddings_of_another_width_are_refused(base: BaseModel, adapter: Adapter) -> None:
    with pytest.raises(UserError, match="6 wide, but these are 9"):
        generate_from_adapter(base, adapter, ROWS, 0, SETTINGS, image_embeds=torch.zeros(3, 9))


def test_a_place_named_twice_is_refused(base: BaseModel, adapter: Adapter) -> None:
    with pytest.raises(UserError, match="write it once"):
        generate_from_adapter(base, adapter, ROWS, 0, SETTINGS, "{emotion} {emotion}")
