"""The cache and the filter with the real classes of `base`, at widths made for a test."""

import numpy as np
import pytest
import torch

from coemogen_train.base.model import BaseModel
from coemogen_train.base.vision import ClipEncoder, ImageTransform
from coemogen_train.data import CacheOptions, TrainingSet, build_cache, filter_set, prepare
from coemogen_train.data.images import load_rgb
from coemogen_train.data.pixels import square, to_pixels


@pytest.fixture(scope="module")
def base() -> BaseModel:
    """A random autoencoder with a factor of 4; the cache asks a base model for nothing else."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
    ).eval()
    return BaseModel(None, vae, None, None, {}, "tiny", "tiny")


@pytest.fixture(scope="module")
def clip() -> ClipEncoder:
    """A random CLIP of transformers, its words the bytes of the text."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **tower,
        "vocab_size": 258,
        "max_position_embeddings": 64,
        "bos_token_id": 256,
        "eos_token_id": 257,
    }
    config = CLIPConfig(text_config=text, vision_config={**tower, "image_size": 16, "patch_size": 8})
    config.projection_dim = 8
    model = CLIPModel(config).eval()

    def texts(sentences: list[str]) -> torch.Tensor:
        ids = torch.full((len(sentences), 64), 257)
        for row, sentence in enumerate(sentences):
            codes = [256, *sentence.encode("utf-8")[:62]]
            ids[row, : len(codes)] = torch.tensor(codes)
        return projected(model.get_text_features(input_ids=ids))

    def images(pixels: torch.Tensor) -> torch.Tensor:
        return projected(model.get_image_features(pixel_values=pixels))

    transform = ImageTransform(shortest_edge=16, crop=(16, 16))
    return ClipEncoder("tiny", model, 8, 8, transform, images, texts)


def projected(output) -> torch.Tensor:
    """Newer versions of transformers wrap the features in an output object."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


@pytest.fixture
def captioned(captioned_table, tmp_path) -> TrainingSet:
    prepare(captioned_table, tmp_path / "set")
    return TrainingSet.open(tmp_path / "set")


def test_latents_are_the_autoencoders(captioned, base):
    cache = build_cache(captioned, base, resolution=16, options=CacheOptions(dtype="float32"))
    sample = captioned.samples("train")[4]
    pixels = to_pixels([square(load_rgb(sample.image), 16)])
    with torch.no_grad():
        expected = base.vae.encode(pixels).latent_dist
    mean, std = cache.latents(sample.id)
    scale = base.vae.config.scaling_factor
    np.testing.assert_allclose(mean.numpy(), expected.mean[0].numpy() * scale, atol=1e-5)
    np.testing.assert_allclose(std.numpy(), expected.std[0].numpy() * scale, atol=1e-5)


def test_similarity_is_the_cosine_of_the_same_pairs(captioned, clip):
    filter_set(captioned, 0.2, clip)
    stored = {row["id"]: row["similarity"] for row in captioned.similarity_rows()}
    assert len(stored) == 20
    for sample in captioned.samples("train"):
        image = clip.encode_images([load_rgb(sample.image)])
        text = clip.encode_texts([sample.caption])
        expected = torch.nn.functional.cosine_similarity(image, text).item()
        assert stored[sample.id] == pytest.approx(expected, abs=1e-5)


def test_two_builds_write_equal_bytes(captioned, base, clip, snapshot):
    import shutil

    build_cache(captioned, base, clip, resolution=16)
    first = snapshot(captioned.cache_folder)
    shutil.rmtree(captioned.cache_folder)
    build_cache(captioned, base, clip, resolution=16)
    assert snapshot(captioned.cache_folder) == first
