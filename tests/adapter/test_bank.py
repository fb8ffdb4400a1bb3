"""The bank of several HiLoRA equals its members one after the other, and a plain LoRA equals a merged one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coemogen_train.adapter.bank import HiLoRABank
from coemogen_train.adapter.export import kohya_name, plain_lora
from coemogen_train.adapter.hilora import AttachedHiLoRA, HiLoRA, hilora_delta

LAYERS = {"blocks.0.attn1.to_q": (5, 7), "blocks.1.attn2.to_out.0": (7, 5)}


def random_hilora(seed: int, layers=None, rank: int = 2, alpha: float | None = None) -> HiLoRA:
    torch.manual_seed(seed)
    hilora = HiLoRA(layers or LAYERS, polarity_of=(0, 0, 1), rank=rank, alpha=alpha)
    for up in hilora.up.values():
        nn.init.normal_(up.data)
    return hilora.requires_grad_(False)


def test_a_bank_adds_what_its_members_add():
    one, other = random_hilora(1), random_hilora(2, rank=3, alpha=1.5)
    bank = HiLoRABank({"one": one, "other": other})
    x = torch.randn(4, 6, 5)
    first = one.gate(torch.eye(3)[[0, 1, 2, 0]])
    second = other.gate(torch.rand(4, 3))
    gate = bank.joined({"one": first, "other": second})
    assert gate.shape == (4, bank.gate_width)
    for key in ("blocks.0.attn1.to_q",):
        found = hilora_delta(x, *bank.matrices(key), gate)
        wanted = hilora_delta(x, *one.matrices(key), first) + hilora_delta(x, *other.matrices(key), second)
        torch.testing.assert_close(found, wanted)


def test_a_member_without_a_layer_adds_nothing_there():
    small = random_hilora(2, {"blocks.0.attn1.to_q": (5, 7)})
    bank = HiLoRABank({"all": random_hilora(1), "small": small})
    assert bank.layers == tuple(sorted(LAYERS))
    gate = bank.joined({"small": small.gate(torch.eye(3))})
    assert not hilora_delta(torch.randn(3, 7), *bank.matrices("blocks.1.attn2.to_out.0"), gate).any()


def test_a_member_without_a_gate_is_off():
    one, other = random_hilora(1), random_hilora(2)
    bank = HiLoRABank({"one": one, "other": other})
    gate = bank.joined({"one": one.gate(torch.eye(3))})
    assert not gate[:, bank.places["other"]].any()
    assert bank.joined({}).shape == (1, bank.gate_width)


def test_the_banks_copies_have_the_dtype_asked_for_and_leave_the_members_alone():
    hilora = random_hilora(1)
    bank = HiLoRABank({"one": hilora}, torch.bfloat16)
    assert {parameter.dtype for parameter in bank.parameters()} == {torch.bfloat16}
    assert all(parameter.dtype == torch.float32 for parameter in hilora.parameters())
    assert not any(parameter.requires_grad for parameter in bank.parameters())


def test_tiles_of_a_picture_share_its_gate():
    hilora = random_hilora(1)
    layer = nn.Linear(5, 7)
    x = torch.randn(2, 3, 4, 5)  # 2 pictures, 3 tiles each
    gate = hilora.gate(torch.eye(3)[:2])
    with AttachedHiLoRA(hilora, {"blocks.0.attn1.to_q": layer}, tiles=True) as attached:
        attached.route(gate)
        whole = layer(x.reshape(2, 12, 5))
        tiled = layer(x.reshape(6, 4, 5))
    torch.testing.assert_close(tiled.reshape(2, 12, 7), whole)
    with AttachedHiLoRA(hilora, {"blocks.0.attn1.to_q": layer}) as strict:
        strict.route(gate)
        with pytest.raises(ValueError, match="2 rows are routed, but the batch has 6"):
            layer(x.reshape(6, 4, 5))


def test_a_plain_lora_is_the_merged_update():
    hilora = random_hilora(3, alpha=5.0)
    gate = hilora.gate(torch.tensor([[0.7, 0.0, 0.3]]))[0]
    lora = plain_lora(hilora, gate)
    for layer in LAYERS:
        name = kohya_name(layer)
        down, up, alpha = (lora[f"{name}.{part}"] for part in ("lora_down.weight", "lora_up.weight", "alpha"))
        assert len(down) == up.shape[1] == float(alpha) == 8  # two emotions and their two polarities, rank 2
        torch.testing.assert_close(up @ down, hilora.merged_delta(layer, gate))
    assert len(lora) == 3 * len(LAYERS)


def test_a_plain_lora_of_nothing_is_empty():
    hilora = random_hilora(3)
    assert plain_lora(hilora, torch.zeros(hilora.gate_width)) == {}


def test_names_are_kohyas():
    path = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
    assert kohya_name(path) == "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
