"""What the benchmarks of speed compare is comparable: equal results on the same weights, honest loops."""

from __future__ import annotations

import pytest
import torch

POLARITY_OF = (0, 0, 1)


@pytest.fixture()
def inputs(base):
    from benchmarks.routing_forms import Inputs

    generator = torch.Generator().manual_seed(0)
    return Inputs(
        noisy=torch.randn(5, 4, 8, 8, generator=generator),
        timesteps=torch.arange(5) * 200,
        hidden=torch.randn(5, base.max_length, base.cross_attention_dim, generator=generator),
        emotions=torch.tensor([2, 0, 2, 1, 0]),
    )


@pytest.fixture()
def hilora(base):
    from benchmarks.routing_forms import filled
    from coemogen_train.adapter.hilora import HiLoRA

    torch.manual_seed(0)
    return filled(HiLoRA.for_unet(base.unet, POLARITY_OF, 2))


@pytest.mark.parametrize("name", ["Gathered", "Looped"])
def test_other_forms_of_routing_give_the_outputs_and_gradients_of_the_stacked_one(base, hilora, inputs, name):
    from benchmarks import routing_forms
    from benchmarks.twins import twin

    stacked = routing_forms.Stacked(twin(base.unet), hilora)
    other = getattr(routing_forms, name)(twin(base.unet), hilora)
    assert routing_forms.largest_difference(other, stacked, inputs) < 1e-5


def test_a_sample_routed_elsewhere_is_a_difference(base, hilora, inputs):
    from dataclasses import replace

    from benchmarks.routing_forms import Looped, Stacked, largest_difference
    from benchmarks.twins import twin

    class Astray(Looped):
        def step(self, inputs):
            return super().step(replace(inputs, emotions=inputs.emotions.roll(1)))

    astray, stacked = Astray(twin(base.unet), hilora), Stacked(twin(base.unet), hilora)
    assert largest_difference(astray, stacked, inputs) > 1e-2


def test_a_twin_has_the_weights_and_not_what_is_attached(base, hilora, inputs):
    from benchmarks.routing_forms import Bare, Stacked
    from benchmarks.twins import twin

    beside = twin(base.unet)
    before = Bare(base.unet).step(inputs).prediction
    changed = Stacked(beside, hilora).step(inputs).prediction
    assert beside.conv_in.weight is base.unet.conv_in.weight
    assert torch.equal(Bare(base.unet).step(inputs).prediction, before)
    assert not torch.equal(changed, before)


def test_the_plain_loop_trains_lora_and_nothing_else(base, tmp_path):
    from benchmarks.plain_loop import PlainLoop, write_pictures
    from benchmarks.twins import twin

    files = write_pictures(tmp_path, 4, 16)
    loop = PlainLoop(base, twin(base.unet), files, ["a tree"] * 4, batch=2)
    before = {name: weight.detach().clone() for name, weight in loop.unet.named_parameters()}
    losses = [loop.step() for _ in range(3)]  # over the end of the pictures
    moved = {name for name, weight in loop.unet.named_parameters() if not weight.equal(before[name])}
    assert all(0 < loss < 100 for loss in losses)
    assert moved == {name for name in before if "lora_" in name}
