"""HiLoRA changes nothing until it has learned, routes each sample on its own, and leaves the absent alone."""

import copy

import pytest
import torch
from torch.nn import functional as F

from coemogen_train.adapter.hilora import HiLoRA, add_hilora, find_layers, hilora_delta
from coemogen_train.errors import AdapterError

POLARITY_OF = (0, 0, 1, 1, 2)  # five emotions, three polarities
RANK = 3


def trained(unet, dtype=torch.float32, alpha=None):
    """A HiLoRA whose `up` is no longer zero."""
    hilora = HiLoRA.for_unet(unet, POLARITY_OF, rank=RANK, alpha=alpha)
    with torch.no_grad():
        for parameter in hilora.up.values():
            parameter.normal_(std=0.5)
    return hilora.to(dtype)


def batch(size, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(size, 4, 8, 8, generator=generator, dtype=dtype)
    states = torch.randn(size, 7, 12, generator=generator, dtype=dtype)
    return latents, torch.arange(size) * 100 + 5, states


def one_hot(*emotions, dtype=torch.float32):
    return F.one_hot(torch.tensor(emotions), len(POLARITY_OF)).to(dtype)


def run(unet, inputs):
    latents, timesteps, states = inputs
    return unet(latents, timesteps, encoder_hidden_states=states).sample


def test_layers_are_the_attention_projections_of_self_and_cross_attention(tiny_unet):
    layers = find_layers(tiny_unet())
    assert len(layers) == 4 * 8  # attn1 and attn2 of: one down, two up, one middle block
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    assert layers[f"{block}.attn1.to_k"] == (8, 8)
    assert layers[f"{block}.attn2.to_k"] == (12, 8)
    assert f"{block}.attn2.to_out.0" in layers


def test_up_at_zero_equals_the_base_bit_for_bit(tiny_unet):
    unet, inputs = tiny_unet(), batch(3)
    base = run(unet, inputs)
    hilora = HiLoRA.for_unet(unet, POLARITY_OF)
    with hilora.attach(unet) as attached:
        attached.route(hilora.gate(one_hot(0, 1, 4)))
        assert torch.equal(run(unet, inputs), base)


def test_strength_zero_and_no_gate_and_removal_equal_the_base_bit_for_bit(tiny_unet):
    unet, inputs = tiny_unet(), batch(2)
    base = run(unet, inputs)
    hilora = trained(unet)
    attached = hilora.attach(unet)
    attached.route(hilora.gate(one_hot(0, 3)))
    assert not torch.equal(run(unet, inputs), base)
    attached.route(hilora.gate(one_hot(0, 3), emotion_strength=0, polarity_strength=0))
    assert torch.equal(run(unet, inputs), base)
    attached.route(None)
    assert torch.equal(run(unet, inputs), base)
    attached.route(hilora.gate(one_hot(0, 3)))
    attached.remove()
    assert torch.equal(run(unet, inputs), base)


@pytest.mark.parametrize("alpha", [None, 1.5])
def test_a_mixed_batch_equals_separate_passes_with_merged_weights(tiny_unet, alpha):
    """float64; the merged weights are W + sum of w_g * alpha / rank * B_g A_g, built here group by group."""
    unet = tiny_unet(dtype=torch.float64)
    hilora = trained(unet, torch.float64, alpha)
    mixtures = torch.cat([one_hot(0, 2, 4), torch.tensor([[0.7, 0.0, 0.3, 0.0, 0.0]])]).double()
    inputs = batch(4, torch.float64)
    with hilora.attach(unet) as attached:
        attached.route(hilora.gate(mixtures, emotion_strength=0.8, polarity_strength=1.25))
        together = run(unet, inputs)
    scale = (RANK if alpha is None else alpha) / RANK
    for row, mixture in enumerate(mixtures):
        merged = copy.deepcopy(unet)
        for key in hilora.layers:
            down, up = hilora.matrices(key)
            weight = merged.get_submodule(key).weight
            for emotion, share in enumerate(mixture):
                for group, strength in ((emotion, 0.8), (5 + POLARITY_OF[emotion], 1.25)):
                    rows = slice(group * RANK, (group + 1) * RANK)
                    weight += share * strength * scale * up[:, rows] @ down[rows]
        alone = run(merged, [tensor[row : row + 1] for tensor in inputs])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-12)


def test_merged_delta_is_the_update_of_the_pass(tiny_unet):
    hilora = trained(tiny_unet(), torch.float64)
    key = next(iter(hilora.layers))
    x = torch.randn(1, 6, hilora.layers[key][0], dtype=torch.float64)
    gate = hilora.gate(torch.tensor([[0.5, 0.25, 0.0, 0.25, 0.0]]))
    torch.testing.assert_close(
        hilora_delta(x, *hilora.matrices(key), gate),
        x @ hilora.merged_delta(key, gate[0]).T,
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("shape", [(3, 6), (3, 5, 6), (3, 2, 5, 6)])
def test_an_output_of_any_layout_and_type_gets_the_same_update(shape):
    x = torch.randn(shape)
    down, up, gate = torch.randn(4, 6), torch.randn(7, 4), torch.rand(3, 4)
    delta = hilora_delta(x, down, up, gate)
    output = torch.randn(*shape[:-2], 7, shape[-2]).mT if len(shape) > 2 else torch.randn(7, 3).mT
    kept = output.clone()
    assert not output.is_contiguous()
    torch.testing.assert_close(add_hilora(output, x, down, up, gate), kept + delta)
    torch.testing.assert_close(add_hilora(kept.double(), x, down, up, gate), kept.double() + delta.double())
    assert torch.equal(output, kept)  # whoever else holds the layer's output has it as it was


def test_the_gate_names_emotions_then_polarities(tiny_unet):
    hilora = HiLoRA.for_unet(tiny_unet(), POLARITY_OF, rank=2, alpha=1)
    gate = hilora.gate(torch.tensor([[0.7, 0.0, 0.2, 0.1, 0.0]]), emotion_strength=2.0)
    groups = torch.tensor([1.4, 0.0, 0.4, 0.2, 0.0, 0.7, 0.3, 0.0]) / 2
    torch.testing.assert_close(gate, groups.repeat_interleave(2)[None])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_unrouted_groups_get_exactly_zero_gradient(tiny_unet, checkpointing):
    unet = tiny_unet()
    hilora = trained(unet)
    if checkpointing:
        unet.enable_gradient_checkpointing()
        unet.train()
    with hilora.attach(unet) as attached:
        attached.route(hilora.gate(one_hot(1, 3)))
        run(unet, batch(2)).square().sum().backward()
    for parameter in hilora.parameters():
        groups = parameter.grad.movedim(parameter.hilora_group_dim, 0).unflatten(0, (8, RANK))
        present = groups.flatten(1).abs().sum(1) > 0
        assert present.tolist() == [False, True, False, True, False, True, True, False]
        assert torch.equal(groups[~present], torch.zeros_like(groups[~present]))


def test_gradient_checkpointing_gives_the_same_gradients(tiny_unet):
    grads = []
    for checkpointing in (False, True):
        unet = tiny_unet()
        torch.manual_seed(5)
        hilora = trained(unet)
        unet.train()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        with hilora.attach(unet) as attached:
            attached.route(hilora.gate(one_hot(0, 4)))
            run(unet, batch(2)).square().mean().backward()
        grads.append([parameter.grad for parameter in hilora.parameters()])
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_under_bf16_autocast_the_weights_and_gradients_stay_fp32(tiny_unet):
    unet, inputs = tiny_unet(), batch(2)
    hilora = trained(unet)
    with hilora.attach(unet) as attached:
        attached.route(hilora.gate(one_hot(0, 2)))
        exact = run(unet, inputs)
        with torch.autocast("cpu", torch.bfloat16):
            rough = run(unet, inputs)
        rough.float().mean().backward()
    assert rough.dtype == torch.bfloat16
    assert F.cosine_similarity(rough.float().flatten(), exact.flatten(), dim=0) > 0.99
    for parameter in hilora.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0


def test_a_half_precision_base_without_autocast(tiny_unet):
    unet = tiny_unet(dtype=torch.bfloat16)
    hilora = trained(unet)
    with hilora.attach(unet) as attached:
        attached.route(hilora.gate(one_hot(0, 2)))
        latents, timesteps, states = batch(2, torch.bfloat16)
        assert run(unet, (latents, timesteps, states)).dtype == torch.bfloat16


def test_a_copied_hilora_is_independent_and_still_tells_its_groups(tiny_unet):
    hilora = trained(tiny_unet())
    twin = copy.deepcopy(hilora).eval()
    for (name, parameter), other in zip(hilora.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(parameter, other) and parameter is not other
        assert other.hilora_group_dim == (0 if name.startswith("down") else 1)
        assert other.hilora_rank == RANK
    assert all(parameter.hilora_rank == RANK for parameter in twin.double().parameters())


def test_a_copied_unet_keeps_running_and_the_original_can_be_freed(tiny_unet):
    unet, inputs = tiny_unet(), batch(1)
    base = run(unet, inputs)
    hilora = trained(unet)
    attached = hilora.attach(unet)
    attached.route(hilora.gate(one_hot(2)))
    twin = copy.deepcopy(unet)
    assert torch.equal(run(twin, inputs), run(unet, inputs))
    attached.remove()
    assert torch.equal(run(unet, inputs), base)


def test_one_gate_row_serves_every_row(tiny_unet):
    unet, inputs = tiny_unet(), batch(3)
    hilora = trained(unet)
    with hilora.attach(unet) as attached:
        attached.route(hilora.gate(one_hot(2, 2, 2)))
        each = run(unet, inputs)
        attached.route(hilora.gate(one_hot(2)))
        torch.testing.assert_close(run(unet, inputs), each)


def test_unconditional_rows_without_a_gate_are_the_bases_bit_for_bit(tiny_unet):
    """HiLoRA on the conditional branch only: the other half of a guided batch is routed nowhere."""
    unet, inputs = tiny_unet(), batch(4)
    base = run(unet, inputs)
    hilora = trained(unet)
    with hilora.attach(unet) as attached:
        gate = hilora.gate(one_hot(1, 1))
        attached.route(torch.cat([torch.zeros_like(gate), gate]))
        routed = run(unet, inputs)
    assert torch.equal(routed[:2], base[:2])
    assert not torch.allclose(routed[2:], base[2:])


def test_gates_that_do_not_fit_are_refused(tiny_unet):
    unet = tiny_unet()
    hilora = trained(unet)
    with hilora.attach(unet) as attached:
        with pytest.raises(ValueError, match="a gate is"):
            attached.route(torch.ones(2, 5))
        attached.route(hilora.gate(one_hot(0, 1)))
        with pytest.raises(ValueError, match="2 rows are routed, but the batch has 3"):
            run(unet, batch(3))


def test_targets_that_fit_no_layer_are_refused(tiny_unet):
    with pytest.raises(AdapterError, match="no module 'to_qq'"):
        HiLoRA.for_unet(tiny_unet(), POLARITY_OF, targets=("to_q", "to_qq"))
    with pytest.raises(AdapterError, match="is Conv2d"):
        HiLoRA.for_unet(tiny_unet(), POLARITY_OF, targets=("conv1",))


def test_another_base_model_is_refused(tiny_unet):
    hilora = trained(tiny_unet())
    with pytest.raises(AdapterError, match="is 16 to 8 wide, the adapter's 12 to 8"):
        hilora.attach(tiny_unet(cross_attention_dim=16))
    with pytest.raises(AdapterError, match="has no linear layer"):
        hilora.attach(torch.nn.Linear(3, 3))
