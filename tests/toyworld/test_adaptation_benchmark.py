"""The benchmark that says "byte-identical" sees a number that moved, and only where it must not have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.adaptation import compare_tensors
from coemogen_train.adapter.carry import carry_over, joined_gaussians
from coemogen_train.adapter.file import Adapter, make_embedder, make_hilora, save_adapter
from coemogen_train.adapter.gaussians import EmotionGaussians
from coemogen_train.adapter.info import AdapterInfo, BaseInfo, TextEncoderInfo, VisionInfo
from coemogen_train.emotions import MIKELS, Taxonomy
from coemogen_train.toyworld.dataset import KNOWN

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def adapter_of(taxonomy: Taxonomy) -> Adapter:
    """An adapter as if trained: every tensor holds numbers of its own."""
    info = AdapterInfo(
        taxonomy,
        BaseInfo("stable-diffusion-v1", "epsilon", 8, "tiny"),
        (TextEncoderInfo(8),),
        VisionInfo("tiny", 5),
        {LAYER: (6, 6)},
        ("to_q",),
        rank=2,
        alpha=2.0,
        tokens=2,
        hidden=4,
    )
    embedder, hilora = make_embedder(info), make_hilora(info)
    with torch.no_grad():
        for parameter in hilora.parameters():
            parameter.normal_()
    many = taxonomy.num_emotions
    factor = torch.eye(5).expand(many, 2, 5, 5).half()
    gaussians = EmotionGaussians(torch.full((many, 2), 0.5), torch.randn(many, 2, 5), factor)
    return Adapter(info, embedder, hilora, gaussians)


@pytest.fixture
def grown(tmp_path: Path) -> tuple[Path, Adapter]:
    """The file of an adapter of eight emotions, and one of nine that has all of it."""
    torch.manual_seed(0)
    source, nine = adapter_of(MIKELS), adapter_of(KNOWN)
    carry_over(source, nine.embedder, nine.hilora, KNOWN)
    added = adapter_of(Taxonomy("one", KNOWN.emotions[8:])).gaussians
    nine.gaussians = joined_gaussians(source.gaussians, added)
    save_adapter(source, tmp_path / "eight.safetensors")
    return tmp_path / "eight.safetensors", nine


def moved(grown: tuple[Path, Adapter], row: int | None) -> list[str]:
    """What `compare_tensors` names when HiLoRA's row `row` was moved by one bit's worth."""
    eight, nine = grown
    if row is not None:
        with torch.no_grad():
            down, _ = nine.hilora.matrices(LAYER)
            down[row, 0] = torch.nextafter(down[row, 0], torch.tensor(9.0))
    save_adapter(nine, eight.with_name("nine.safetensors"))
    compared = compare_tensors(eight, eight.with_name("nine.safetensors"))
    assert compared["identical"] == compared["tensors"] - len(compared["moved"])
    return compared["moved"]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (None, False),
        (15, True),  # the last row of the eighth emotion, rank 2
        (16, False),  # nostalgia's first
        (18, True),  # the first polarity's, which stands behind nostalgia
        (21, True),
        (22, False),  # the polarity that came with nostalgia
    ],
)
def test_a_number_that_moved_is_seen_where_it_was_carried(grown, row, found) -> None:
    assert moved(grown, row) == ([f"hilora.{LAYER}.down"] if found else [])


def test_gaussians_that_moved_are_seen(grown) -> None:
    grown[1].gaussians.mean[7, 1, 4] += 1
    assert moved(grown, None) == ["gaussians.mean"]
