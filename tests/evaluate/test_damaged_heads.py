"""Whatever a file of an emotion head holds, it is a head or one sentence."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from coemogen_train.errors import DataError
from coemogen_train.evaluate import load_linear_head

WEIGHT = torch.arange(24.0).reshape(2, 12)


def saved(weight: Any, new: bool = True) -> bytes:
    stream = io.BytesIO()
    tensors = {"fc.weight": weight, "fc.bias": torch.zeros(2)}
    torch.save(tensors, stream, _use_new_zipfile_serialization=new)
    return stream.getvalue()


@pytest.mark.parametrize(
    "weight",
    [WEIGHT.to_sparse(), torch.empty(2, 12, device="meta"), WEIGHT.to(torch.complex64)],
    ids=["sparse", "meta", "complex"],
)
def test_a_head_of_no_plain_numbers_is_one_sentence(tmp_path: Path, weight: torch.Tensor) -> None:
    (tmp_path / "head.pt").write_bytes(saved(weight))
    with pytest.raises(DataError, match=r"head\.pt.*(plain numbers|read safely)"):
        load_linear_head(tmp_path / "head.pt", ["awe", "fear"])


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
def test_a_head_with_damaged_bytes_is_one_sentence(tmp_path: Path, new: bool) -> None:
    whole, dice, refused = saved(WEIGHT, new), random.Random(5), 0
    for attempt in range(150):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        (tmp_path / "head.pt").write_bytes(data[: dice.randrange(len(data))] if attempt % 5 == 0 else data)
        try:
            load_linear_head(tmp_path / "head.pt", ["awe", "fear"])
        except DataError:
            refused += 1
    assert refused > 30
