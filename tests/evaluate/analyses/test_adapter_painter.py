"""The analyses draw what `generate` draws, and can give each carrier an emotion of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from coemogen_train.adapter.file import Adapter, make_embedder, make_hilora
from coemogen_train.adapter.gaussians import EmotionGaussians
from coemogen_train.adapter.hilora import find_layers
from coemogen_train.adapter.info import AdapterInfo, BaseInfo, TextEncoderInfo, VisionInfo
from coemogen_train.base.generate import encode_prompts, generate_from_adapter
from coemogen_train.base.load import load_base
from coemogen_train.base.sampling import SamplingSettings, generate_images, noise_seeds
from coemogen_train.emotions import MIKELS
from coemogen_train.evaluate.analyses.drawing import AdapterPainter, BareOrder, Order

SETTINGS = SamplingSettings(steps=1, guidance=3.0)
MEANT = ("fear", "awe")


@pytest.fixture(scope="module")
def painter() -> AdapterPainter:
    base = load_base("toy")
    torch.manual_seed(2)
    info = AdapterInfo(
        taxonomy=MIKELS,
        base=BaseInfo(base.architecture, "epsilon", base.cross_attention_dim, "toy"),
        text_encoders=(TextEncoderInfo(base.width),),
        vision=VisionInfo("none", 6),
        layers=find_layers(base.unet),
        hidden=8,
    )
    hilora = make_hilora(info).requires_grad_(False)
    for up in hilora.up.values():
        up.normal_(std=0.5)
    gaussians = EmotionGaussians(torch.ones(8, 1), torch.randn(8, 1, 6), torch.ones(8, 1, 6))
    return AdapterPainter(
        base, Adapter(info, make_embedder(info, 1.0).requires_grad_(False), hilora, gaussians)
    )


def _drawn(painter: AdapterPainter, order: Order | BareOrder) -> list[bytes]:
    return [image.tobytes() for image in painter.draw(order)]


@pytest.mark.parametrize(
    ("prompt", "intensity", "strength"), [("{emotion}", 1.0, 1.0), ("a dog, {emotion}", 0.5, 0.0)]
)
def test_an_order_is_what_generate_draws(
    painter: AdapterPainter, prompt: str, intensity: float, strength: float
) -> None:
    order = replace(Order.of(MEANT, 5, SETTINGS), prompt=prompt, intensity=intensity, strength=strength)
    rows = torch.eye(8)[[MIKELS.index(name) for name in MEANT]]
    expected = generate_from_adapter(
        painter.base,
        painter.adapter,
        rows,
        5,
        SETTINGS,
        prompt,
        intensity,
        emotion_strength=strength,
        polarity_strength=strength,
    )
    assert _drawn(painter, order) == [image.tobytes() for image in expected]


def test_each_carrier_has_its_own_part_in_the_picture(painter: AdapterPainter) -> None:
    order = Order.of(MEANT, 5, SETTINGS)
    others = ("sadness", "anger")
    changed = [replace(order, words=others), replace(order, hilora=others), replace(order, source=others)]
    pictures = {tuple(_drawn(painter, each)) for each in (order, *changed)}
    assert len(pictures) == 4


def test_a_bare_order_is_the_base_alone(painter: AdapterPainter) -> None:
    prompts = ("a dog", "a cat")
    embeds, negative = encode_prompts(painter.base, prompts), encode_prompts(painter.base, [""])
    expected = generate_images(painter.base, embeds, negative, noise_seeds(3, 2), SETTINGS)
    assert _drawn(painter, BareOrder(prompts, 3, SETTINGS)) == [image.tobytes() for image in expected]
