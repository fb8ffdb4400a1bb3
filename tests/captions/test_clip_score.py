"""The score is CLIP's own, and a CLIP that cannot score is told before it does."""

import pytest
import torch

from coemogen_train.captions.clip_score import check_text_projection, clip_similarity
from coemogen_train.errors import CaptionError


def test_the_score_equals_transformers_clip():
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    vision = {
        "hidden_size": 24,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    heads = {"num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**text, **heads, "eos_token_id": 59},
        vision_config={**vision, **heads},
        projection_dim=12,
    )
    model = CLIPModel(config).eval()
    ids, pixels = torch.tensor([[1, 5, 9, 59]]), torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        whole = model(input_ids=ids, pixel_values=pixels)
        state = model.text_model(input_ids=ids).pooler_output[0]
        expected = float(whole.logits_per_image[0, 0] / model.logit_scale.exp())
    score = clip_similarity(state, model.text_projection.weight, whole.image_embeds[0])
    assert score == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "projection",
    [
        torch.zeros(8, 8),
        torch.eye(8),
        torch.full((8, 8), float("nan")),
        torch.randn(8, 8) / 0.0,
        torch.full((8, 8), 1e30),
        torch.full((8, 8), 1e-40),
    ],
    ids=["zeros", "identity", "nan", "infinite", "large left-overs", "small left-overs"],
)
def test_a_projection_that_was_never_loaded_is_refused(projection):
    with pytest.raises(CaptionError, match="cannot score captions: connect the whole CLIP"):
        check_text_projection(projection)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_real_projection_passes(dtype):
    check_text_projection(torch.randn(12, 16, generator=torch.Generator().manual_seed(0)).to(dtype) * 0.02)


def test_halves_of_different_models_are_told():
    with pytest.raises(CaptionError, match="768 wide and the CLIP Vision model pictures 1024 wide"):
        clip_similarity(torch.randn(768), torch.randn(768, 768), torch.randn(1024))
