"""CLIP in its forms gives what its own library gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from coemogen_train.base import clip_files
from coemogen_train.base.vision import ClipEncoder, ImageTransform, load_vision
from coemogen_train.errors import UserError

from .tiny import write_clip

SIZES = [
    (32, 32),
    (64, 64),
    (40, 33),
    (33, 40),
    (101, 50),
    (50, 101),
    (35, 33),
    (37, 36),
    (20, 11),
    (200, 9),
    (31, 47),
]


def _picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    generator = torch.Generator().manual_seed(width * 1000 + height)
    values = torch.randint(0, 256, (height, width, len(mode)), generator=generator, dtype=torch.uint8)
    return Image.fromarray(values.numpy().squeeze(), mode if mode != "RGB" else None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "tiny clip")


@pytest.fixture(scope="module")
def clip(folder: Path) -> ClipEncoder:
    return load_vision(str(folder))


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    from transformers import CLIPModel

    return CLIPModel.from_pretrained(str(folder)).eval()


@pytest.fixture
def vision_file(folder: Path, tmp_path: Path) -> Path:
    """As ComfyUI's clip_vision folder has them: the image half under transformers' names."""
    weights = load_file(folder / "model.safetensors")
    kept = {
        key: value
        for key, value in weights.items()
        if key.startswith(("vision_model.", "visual_projection."))
    }
    kept["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(kept, str(tmp_path / "clip_vision_x.safetensors"))
    return tmp_path / "clip_vision_x.safetensors"


def test_image_embeddings_are_the_models(clip: ClipEncoder, reference: Any) -> None:
    images = [_picture(*size) for size in SIZES]
    pixels = torch.stack([clip.transform(image) for image in images])
    with torch.no_grad():
        pooled = reference.vision_model(pixel_values=pixels).pooler_output
        expected = reference.visual_projection(pooled)
    embeds = clip.encode_images(images)
    assert embeds.shape == (len(images), clip.image_width) == (len(images), 12)
    assert embeds.dtype == torch.float32
    assert torch.allclose(embeds, expected, atol=1e-5)
    assert not torch.allclose(embeds.norm(dim=1), torch.ones(len(images)), atol=1e-2)  # unnormalised


def test_text_embeddings_are_pooled_at_the_tokenizers_end(folder: Path, clip: ClipEncoder) -> None:
    """The reference is told the right end mark, which its config (like OpenAI's) does not have."""
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig.from_pretrained(str(folder))
    config.text_config.eos_token_id = 513
    reference = CLIPModel.from_pretrained(str(folder), config=config).eval()
    texts = ["ab", "a dog runs", "", "far too long a sentence for this model"]
    tokens = clip_files.read_tokenizer(folder)(
        texts, padding=True, truncation=True, max_length=24, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = reference.text_model(input_ids=tokens.input_ids).pooler_output
        expected = reference.text_projection(hidden)
    assert torch.allclose(clip.encode_texts(texts), expected, atol=1e-5)


def test_batches_change_nothing_that_matters(clip: ClipEncoder) -> None:
    images = [_picture(*size) for size in SIZES]
    assert torch.allclose(clip.encode_images(images, batch_size=2), clip.encode_images(images), atol=1e-5)
    texts = ["a", "b c", "d"]
    assert torch.allclose(clip.encode_texts(texts, batch_size=1), clip.encode_texts(texts), atol=1e-5)
    assert clip.encode_images([]).shape == (0, 12) and clip.encode_texts([]).shape == (0, 12)


def _pil_processor(**settings: Any) -> Any:
    """transformers' processor that resizes with Pillow; its name changed."""
    import transformers
    from transformers.models import clip

    for name in ("CLIPImageProcessorPil", "CLIPImageProcessor"):
        for place in (transformers, clip):
            try:
                return getattr(place, name)(**settings)
            except (AttributeError, ImportError):
                continue
    raise AssertionError("transformers has no CLIP image processor")


@pytest.mark.parametrize("size", SIZES)
def test_transform_is_transformers(size: tuple[int, int]) -> None:
    settings = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    image = _picture(*size)
    expected = _pil_processor(**settings)(image, return_tensors="pt").pixel_values[0]
    ours = ImageTransform(shortest_edge=32, crop=(32, 32))(image)
    assert torch.allclose(ours, expected, atol=1e-5)


def test_transform_pads_small_pictures_as_transformers_does() -> None:
    settings = {"do_resize": False, "crop_size": {"height": 32, "width": 28}}
    for size in [(20, 40), (21, 15), (30, 33)]:
        image = _picture(*size)
        expected = _pil_processor(**settings)(image, return_tensors="pt").pixel_values[0]
        assert torch.allclose(ImageTransform(None, None, (32, 28))(image), expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_transform_takes_other_modes(mode: str) -> None:
    assert ImageTransform(32, crop=(32, 32))(_picture(40, 50, mode)).shape == (3, 32, 32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_transform_is_open_clips(size: tuple[int, int], mode: str) -> None:
    from open_clip.transform import image_transform

    reference = image_transform((32, 32), is_train=False, resize_mode=mode)
    settings = {"size": (32, 32), "resize_mode": mode}
    tower = type("Tower", (), {"visual": type("Visual", (), {"preprocess_cfg": settings})})
    image = _picture(*size)
    assert torch.allclose(clip_files._open_clip_transform("x", tower)(image), reference(image), atol=1e-5)


@pytest.mark.parametrize("file_name", ["preprocessor_config.json", "processor_config.json"])
def test_the_folders_own_transform_counts(tmp_path: Path, file_name: str) -> None:
    settings = {
        "size": {"height": 20, "width": 24},
        "do_center_crop": False,
        "resample": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    content = settings if file_name.startswith("pre") else {"image_processor": settings}
    (tmp_path / file_name).write_text(json.dumps(content), encoding="utf-8")
    expected = ImageTransform(None, (20, 24), None, 2, (0.5,) * 3, (0.5,) * 3)
    assert clip_files._read_transform(tmp_path) == expected
    assert expected(_picture(50, 30)).shape == (3, 20, 24)


def test_old_transform_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"size": 30, "crop_size": 28}', encoding="utf-8")
    assert clip_files._read_transform(tmp_path) == ImageTransform(30, None, (28, 28))


def test_vision_file_equals_the_folder(vision_file: Path, clip: ClipEncoder) -> None:
    alone = load_vision(str(vision_file))
    images = [_picture(*size) for size in SIZES]
    assert alone.name == "clip_vision_x" and alone.transform == clip.transform
    assert torch.equal(alone.encode_images(images), clip.encode_images(images))


def test_vision_file_cannot_read(vision_file: Path) -> None:
    with pytest.raises(UserError, match="clip_vision_x: this is CLIP's image half only"):
        load_vision(str(vision_file)).encode_texts(["a"])


def test_file_with_both_halves_can_read(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = {**text, "patch_size": 16, "image_size": 32}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    model.save_pretrained(str(tmp_path))
    clip = load_vision(str(tmp_path / "model.safetensors"))
    ids = torch.tensor([[49406, 320, 1929, 49407]])  # "a dog"
    with torch.no_grad():
        expected = model.text_projection(model.text_model(input_ids=ids).last_hidden_state[:, 3])
    assert torch.allclose(clip.encode_texts(["a dog"]), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "heads", "activation"),
    [(768, 12, "quick_gelu"), (1024, 16, "quick_gelu"), (1280, 16, "gelu"), (1664, 16, "gelu")],
)
def test_published_sizes_are_known(width: int, heads: int, activation: str) -> None:
    meta = torch.device("meta")
    weights = {
        "vision_model.embeddings.patch_embedding.weight": torch.empty(width, 3, 14, 14, device=meta),
        "vision_model.embeddings.position_embedding.weight": torch.empty(257, width, device=meta),
        "vision_model.encoder.layers.0.mlp.fc1.weight": torch.empty(4 * width, width, device=meta),
        "vision_model.encoder.layers.1.mlp.fc1.weight": torch.empty(4 * width, width, device=meta),
        "visual_projection.weight": torch.empty(768, width, device=meta),
    }
    sizes = clip_files._vision_sizes(Path("x"), weights)
    assert (sizes["num_attention_heads"], sizes["hidden_act"]) == (heads, activation)
    assert (sizes["image_size"], sizes["patch_size"], sizes["num_hidden_layers"]) == (224, 14, 2)
    assert (sizes["projection_dim"], sizes["intermediate_size"]) == (768, 4 * width)


@pytest.fixture(scope="module")
def open_clip_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    import open_clip

    sizes = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    path = tmp_path_factory.mktemp("open_clip") / "ViT-Tiny-for-tests.json"
    path.write_text(json.dumps(sizes), encoding="utf-8")
    open_clip.add_model_config(path)
    return "ViT-Tiny-for-tests"


def test_open_clip_with_a_local_file(open_clip_name: str, tmp_path: Path) -> None:
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(open_clip_name)
    save_file(model.state_dict(), str(tmp_path / "w.safetensors"))
    clip = load_vision(f"{open_clip_name}:{tmp_path / 'w.safetensors'}")
    images = [_picture(*size) for size in SIZES]
    with torch.no_grad():
        model.eval()
        expected = model.encode_image(torch.stack([transform(image) for image in images]))
        texts = model.encode_text(open_clip.get_tokenizer(open_clip_name)(["a dog", "rain"]))
    assert clip.name == f"{open_clip_name}:w" and clip.image_width == clip.text_width == 16
    assert torch.allclose(clip.encode_images(images), expected, atol=1e-5)
    assert torch.allclose(clip.encode_texts(["a dog", "rain"]), texts, atol=1e-5)


def test_open_clip_without_such_weights(open_clip_name: str) -> None:
    with pytest.raises(UserError, match="open_clip has no such weights"):
        load_vision(f"{open_clip_name}:nothing")


def test_open_clip_file_without_its_name(tmp_path: Path) -> None:
    save_file({"visual.conv1.weight": torch.zeros(4, 3, 2, 2)}, str(tmp_path / "w.safetensors"))
    with pytest.raises(UserError, match="give it as an open_clip name and this file, such as ViT-L-14:"):
        load_vision(str(tmp_path / "w.safetensors"))


def test_fingerprint_is_of_weights_and_transform(folder: Path, clip: ClipEncoder, vision_file: Path) -> None:
    again = load_vision(str(folder))
    assert again.fingerprint == clip.fingerprint
    other = load_vision(str(folder))
    other.transform = ImageTransform(32, None, (32, 32), resample=2)
    assert other.fingerprint != clip.fingerprint
    assert load_vision(str(vision_file)).fingerprint != clip.fingerprint


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nothing.safetensors", "there is no CLIP here: give"),
        ("ViT-L-15", "open_clip has ViT-L-1"),
        ("nobody/nothing", "see to the network"),
    ],
)
def test_nothing_there_says_what_can_be_given(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_vision(spec)


def test_a_folder_of_another_model_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}', encoding="utf-8")
    with pytest.raises(UserError, match="model of type siglip, not CLIP"):
        load_vision(str(tmp_path))


def test_a_file_of_another_model_is_told_apart(tmp_path: Path) -> None:
    save_file({"model.diffusion_model.x": torch.zeros(2)}, str(tmp_path / "sd.safetensors"))
    with pytest.raises(UserError, match=r"sd\.safetensors: this is no CLIP vision model"):
        load_vision(str(tmp_path / "sd.safetensors"))


def test_an_incomplete_file_is_named(vision_file: Path) -> None:
    weights = load_file(vision_file)
    del weights["vision_model.post_layernorm.bias"]
    save_file(weights, str(vision_file))
    with pytest.raises(UserError, match=r"its CLIP lacks 1 of .* weights"):
        load_vision(str(vision_file))
