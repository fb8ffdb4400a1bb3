"""The similarities that filter stores are those that open_clip itself gives for the same pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from coemogen_train.base.vision import load_vision
from coemogen_train.data import TrainingSet, filter_set, prepare

NAME = "ViT-Small-for-filter"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a random small model that open_clip knows by NAME."""
    import open_clip

    folder = tmp_path_factory.mktemp("open_clip")
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    (folder / f"{NAME}.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(folder / f"{NAME}.json")
    torch.manual_seed(2)
    save_file(open_clip.create_model(NAME).state_dict(), str(folder / "w.safetensors"))
    return folder / "w.safetensors"


def test_similarity_and_verdicts_equal_open_clips_own(
    captioned_table: Path, tmp_path: Path, model: Path
) -> None:
    import open_clip

    prepare(captioned_table, tmp_path / "set")
    opened = TrainingSet.open(tmp_path / "set")
    filter_set(opened, 0.2, load_vision(f"{NAME}:{model}"))
    reference, _, preprocess = open_clip.create_model_and_transforms(NAME, pretrained=str(model))
    tokenizer = open_clip.get_tokenizer(NAME)
    reference.eval()
    expected: dict[str, float] = {}
    with torch.no_grad():
        for sample in opened.samples("train"):
            image = reference.encode_image(preprocess(Image.open(sample.image))[None], normalize=True)
            text = reference.encode_text(tokenizer([str(sample.caption)]), normalize=True)
            expected[sample.id] = float((image @ text.T).item())
    stored = {row["id"]: row["similarity"] for row in opened.similarity_rows()}
    assert stored == pytest.approx(expected, abs=1e-5)
    for emotion in ("awe", "fear"):
        ids = [sample.id for sample in opened.samples("train") if sample.emotion == emotion]
        lowest = {ids[place] for place in np.argsort([expected[key] for key in ids], kind="stable")[:2]}
        assert lowest == {s.id for s in opened.samples("train") if s.emotion == emotion and not s.kept}
