"""CLIP as ComfyUI keeps it, in two files, gives what the whole model gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from coemogen_train.base.vision import load_vision
from coemogen_train.errors import UserError

TEXTS = ["a dog in the rain", "", "Zwei Kinder \N{GRINNING FACE}", "far " * 90 + "away"]


@pytest.fixture(scope="module")
def whole() -> Any:
    """A random CLIP with the real vocabulary and end mark, tiny otherwise."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(4)
    tower = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 1, "hidden_size": 64}
    text = {**tower, "vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407}
    vision = {**tower, "image_size": 32, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()


@pytest.fixture
def files(whole: Any, tmp_path: Path) -> tuple[Path, Path]:
    """(clip_vision file, text_encoders file)"""
    weights = {name: tensor.contiguous() for name, tensor in whole.state_dict().items()}
    halves = {
        "seeing": ("vision_model.", "visual_projection."),
        "reading": ("text_model.", "text_projection."),
    }
    for name, starts in halves.items():
        half = {key: value for key, value in weights.items() if key.startswith(starts)}
        save_file(half, str(tmp_path / f"{name}.safetensors"))
    return tmp_path / "seeing.safetensors", tmp_path / "reading.safetensors"


def rewritten(path: Path, change: Any) -> Path:
    save_file(change(load_file(path)), str(path))
    return path


def test_two_files_embed_as_the_whole_model_does(whole: Any, files: tuple[Path, Path]) -> None:
    """Tokens by open_clip's own tokenizer, pooled where its end mark is."""
    import open_clip

    ids = open_clip.get_tokenizer("ViT-L-14")(TEXTS)
    image = Image.effect_noise((40, 36), 90).convert("RGB")
    clip = load_vision(str(files[0]), text=str(files[1]))
    with torch.no_grad():
        hidden = whole.text_model(input_ids=ids).last_hidden_state
        expected = whole.text_projection(hidden[torch.arange(len(ids)), ids.argmax(dim=1)])
        pooled = whole.vision_model(pixel_values=clip.transform(image)[None]).pooler_output
        seen = whole.visual_projection(pooled)
    assert torch.allclose(clip.encode_texts(TEXTS), expected, atol=1e-5)
    assert torch.allclose(clip.encode_images([image]), seen, atol=1e-5)
    assert clip.text_width == clip.image_width == 12


def test_features_cached_for_the_pair_serve_training_too(files: tuple[Path, Path]) -> None:
    alone, pair = load_vision(str(files[0])), load_vision(str(files[0]), text=str(files[1]))
    assert pair.fingerprint == alone.fingerprint and alone.pair_fingerprint is None
    rewritten(
        files[1], lambda weights: {**weights, "text_projection.weight": weights["text_projection.weight"] * 2}
    )
    other = load_vision(str(files[0]), text=str(files[1]))
    assert other.fingerprint == pair.fingerprint and other.pair_fingerprint != pair.pair_fingerprint


@pytest.mark.parametrize("older", [False, True])
def test_names_of_comfyuis_saving_nodes_are_known(files: tuple[Path, Path], older: bool) -> None:
    expected = load_vision(str(files[0]), text=str(files[1])).encode_texts(TEXTS)

    def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        named = {f"clip_l.transformer.{key}": value for key, value in weights.items()}
        if older:
            projection = named.pop("clip_l.transformer.text_projection.weight")
            named["clip_l.text_projection"] = projection.T.contiguous()
        return {**named, "clip_l.logit_scale": torch.tensor(4.6)}

    rewritten(files[1], renamed)
    assert torch.equal(load_vision(str(files[0]), text=str(files[1])).encode_texts(TEXTS), expected)


@pytest.mark.parametrize("projection", [None, torch.zeros(12, 64), torch.full((12, 64), 1e30), "identity"])
def test_a_text_half_without_projection_is_refused(files: tuple[Path, Path], projection: Any) -> None:
    def without(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        del weights["text_projection.weight"]
        if projection is None:
            return weights
        given = torch.eye(64) if isinstance(projection, str) else projection
        return {**weights, "text_projection.weight": given}

    rewritten(files[1], without)
    with pytest.raises(UserError, match=r"reading\.safetensors: this text encoder has no text projection"):
        load_vision(str(files[0]), text=str(files[1]))


def test_halves_of_different_clips_are_refused(files: tuple[Path, Path]) -> None:
    rewritten(files[1], lambda weights: {**weights, "text_projection.weight": torch.randn(20, 64)})
    with pytest.raises(UserError, match=r"20 wide and .* 12 wide"):
        load_vision(str(files[0]), text=str(files[1]))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"token_embedding.weight": torch.zeros(2, 2)}, "has open_clip's names"),
        ({"model.diffusion_model.x": torch.zeros(2)}, "is no CLIP text encoder"),
    ],
)
def test_another_file_is_told_apart(files: tuple[Path, Path], content: Any, words: str) -> None:
    save_file(content, str(files[1]))
    with pytest.raises(UserError, match=words):
        load_vision(str(files[0]), text=str(files[1]))


def test_a_small_vocabulary_is_refused_before_it_is_asked(files: tuple[Path, Path]) -> None:
    key = "text_model.embeddings.token_embedding.weight"
    rewritten(files[1], lambda weights: {**weights, key: weights[key][:500].contiguous()})
    with pytest.raises(UserError, match="knows 500 tokens"):
        load_vision(str(files[0]), text=str(files[1]))


def test_both_have_to_be_files(files: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"ViT-L-14: there is no such file, .*see to --vision"):
        load_vision("ViT-L-14", text=str(files[1]))
    with pytest.raises(UserError, match=r"nothing\.safetensors: there is no such file"):
        load_vision(str(files[0]), text="nothing.safetensors")
