"""How the frozen base computes: attention by torch's fused kernels, convolutions in their own layout."""

import torch

from coemogen_train.train.frozen import park_unet, set_precision


def test_attention_is_torchs_own_in_all_three_networks(base):
    for network in (base.unet, base.vae):
        processors = {type(processor).__name__ for processor in network.attn_processors.values()}
        assert processors == {"AttnProcessor2_0"}
    assert base.text_encoder.config._attn_implementation == "sdpa"


def test_the_unet_keeps_the_convolutions_layout_through_parking_and_every_precision(base):
    for precision in ("fp32", "bf16"):
        park_unet(base)
        set_precision(base, precision, torch.device("cpu"), checkpointing=False)
        weight = base.unet.conv_in.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
