"""Tiny models, made on the spot with random weights: the real classes at small widths."""

import pytest
import torch

EOS = 98
BOS = 97


@pytest.fixture
def tiny_unet():
    """A factory of diffusers U-Nets with cross-attention on two levels and in the middle."""
    from diffusers import UNet2DConditionModel

    def make(seed=0, cross_attention_dim=12, dtype=torch.float32):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=4,
            norm_num_groups=4,
        )
        return unet.to(dtype).eval().requires_grad_(False)

    return make


@pytest.fixture(params=["CLIPTextModel", "CLIPTextModelWithProjection"])
def text_encoder(request):
    """Both of transformers' CLIP text models, with SD 1.5's misleading eos_token_id."""
    import transformers

    torch.manual_seed(1)
    config = transformers.CLIPTextConfig(
        vocab_size=99,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=20,
        projection_dim=10,
        eos_token_id=2,
    )
    return getattr(transformers, request.param)(config).eval().requires_grad_(False)


TINY_LAYERS = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (8, 8),
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0": (16, 12),
}


@pytest.fixture
def make_adapter():
    """A factory of adapters as if trained: every tensor holds numbers of its own, HiLoRA's up included."""
    from coemogen_train.adapter.file import Adapter, make_embedder, make_hilora
    from coemogen_train.adapter.gaussians import EmotionGaussians
    from coemogen_train.adapter.info import AdapterInfo, BaseInfo, TextEncoderInfo, VisionInfo

    def make(taxonomy, seed=0, components=2, covariance="full", **changes):
        settings = {
            "base": BaseInfo("stable-diffusion-v1", "epsilon", 16, "tiny"),
            "text_encoders": (TextEncoderInfo(16),),
            "vision": VisionInfo("tiny", 10),
            "layers": TINY_LAYERS,
            "targets": ("to_q", "to_out.0"),
            "rank": 2,
            "alpha": 3.0,
            "tokens": 3,
            "hidden": 6,
        }
        info = AdapterInfo(taxonomy=taxonomy, **settings | changes)
        torch.manual_seed(seed)
        embedder, hilora = make_embedder(info, 0.4), make_hilora(info)
        for tensor in (*embedder.mapper.state_dict().values(), *hilora.up.values()):
            torch.nn.init.normal_(tensor.detach())
        count, width = taxonomy.num_emotions, info.vision.width
        shape = (count, components, width, width)[: 4 if covariance == "full" else 3]
        gaussians = EmotionGaussians(
            torch.rand(count, components).add(0.1).softmax(dim=1),
            torch.randn(count, components, width),
            torch.rand(shape).half(),
        )
        return Adapter(info, embedder, hilora, gaussians)

    return make
