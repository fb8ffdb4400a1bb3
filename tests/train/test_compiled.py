"""torch.compile for the U-Net's blocks: the same losses and gradients, or a sentence and a run without it."""

import logging

import pytest
import torch
import torch._dynamo as dynamo
import torch._dynamo.utils
from diffusers import UNet2DConditionModel

from coemogen_train.adapter.hilora import HiLoRA
from coemogen_train.train import compiled


def without_compiler(*_args, **_named):
    raise RuntimeError("no C++ compiler was found\nand much more")


def test_without_a_compiler_one_sentence_is_told_and_nothing_is_compiled(monkeypatch, caplog, base):
    monkeypatch.setattr(torch, "compile", without_compiler)
    with caplog.at_level(logging.WARNING, logger=compiled.__name__):
        assert not compiled.compile_blocks(base.unet, torch.device("cpu"))
    assert all(module._compiled_call_impl is None for module in base.unet.modules())
    assert [record.message for record in caplog.records] == [
        "compile = true, but torch.compile does not work here (no C++ compiler was found): the run goes on "
        "without it"
    ]


def test_a_compiler_that_is_broken_is_seen_where_its_errors_are_passed_over(monkeypatch, base):
    def broken(function):
        if dynamo.config.suppress_errors:
            return function
        raise RuntimeError("broken")

    monkeypatch.setattr(torch, "compile", broken)
    with dynamo.config.patch(suppress_errors=True):
        assert not compiled.compile_blocks(base.unet, torch.device("cpu"))


def loss_and_gradients(compiling):
    """Of a U-Net of three kinds of blocks, one of them with HiLoRA's hooks, routed by row."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        cross_attention_dim=8,
        attention_head_dim=8,
        norm_num_groups=4,
    ).requires_grad_(False)
    hilora = HiLoRA.for_unet(unet, (0, 1), 2)
    for parameter in hilora.parameters():
        torch.nn.init.normal_(parameter.data, std=0.3)
    with hilora.attach(unet) as attached:
        if compiling:
            assert compiled.compile_blocks(unet, torch.device("cpu"))
        attached.route(hilora.gate(torch.eye(2)))
        noisy, hidden = torch.randn(2, 4, 4, 4), torch.randn(2, 3, 8)
        loss = unet(noisy, torch.tensor([1, 900]), encoder_hidden_states=hidden).sample.square().mean()
        loss.backward()
    return loss.detach(), [parameter.grad for parameter in hilora.parameters()]


@pytest.mark.slow
def test_compiled_blocks_give_the_losses_and_gradients_of_those_that_are_not():
    unused = compiled._fault(torch.device("cpu"))
    if unused is not None:
        pytest.skip(unused)
    names = "suppress_errors", "cache_size_limit", "accumulated_cache_size_limit"
    options = [getattr(dynamo.config, name) for name in names]
    dynamo.utils.counters.clear()
    found = loss_and_gradients(compiling=True)
    assert dynamo.utils.counters["frames"] == {"total": 3, "ok": 3}  # none was passed over
    assert [getattr(dynamo.config, name) for name in names] == options
    torch.testing.assert_close(found, loss_and_gradients(compiling=False), rtol=1e-4, atol=1e-6)
