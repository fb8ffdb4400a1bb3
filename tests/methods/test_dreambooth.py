"""DreamBooth's updates are peft's LoRA, one per emotion, and its class pictures stand where they should."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from coemogen_train.base.load import load_base
from coemogen_train.base.sampling import SamplingSettings
from coemogen_train.methods import METHODS
from coemogen_train.methods.dreambooth import DreamBoothObjective, WithClassPictures
from coemogen_train.methods.loop import prepare
from coemogen_train.train.optimiser import GroupedAdamW
from coemogen_train.train.precision import autocast

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


@pytest.fixture()
def ground(config, folder):
    return prepare(config, folder)


@pytest.fixture()
def objective(ground):
    made = DreamBoothObjective(ground)
    with made.attached:
        yield made


def filled(hilora):
    """Updates that are not zero any more, as after some steps."""
    torch.manual_seed(3)
    for parameter in hilora.parameters():
        torch.nn.init.normal_(parameter.data, std=0.3)
    return hilora


def test_one_emotions_update_is_pefts_lora_in_outputs_and_gradients(ground, objective):
    from peft import LoraConfig, inject_adapter_in_model

    theirs = load_base(ground.config.base).unet
    hilora, rank, emotion = filled(objective.hilora), objective.hilora.rank, 1
    group = slice(emotion * rank, (emotion + 1) * rank)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), theirs)
    layers = {name: module for name, module in theirs.named_modules() if hasattr(module, "lora_A")}
    assert set(layers) == set(hilora.layers)
    for key, layer in layers.items():
        down, up = hilora.matrices(key)
        layer.lora_A["default"].weight.data = down[group].detach().clone()
        layer.lora_B["default"].weight.data = up[:, group].detach().clone()

    latents, hidden = torch.randn(2, 4, 8, 8), torch.randn(2, ground.base.max_length, ground.base.width)
    timesteps = torch.tensor([10, 900])
    one_hot = torch.eye(3)[[emotion, emotion]]
    objective.attached.route(hilora.gate(one_hot, polarity_strength=0.0))
    ours = ground.base.unet(latents, timesteps, encoder_hidden_states=hidden).sample
    expected = theirs(latents, timesteps, encoder_hidden_states=hidden).sample
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    ours.square().mean().backward()
    expected.square().mean().backward()
    for key, layer in layers.items():
        down, up = hilora.matrices(key)
        pairs = (
            (down.grad[group], layer.lora_A["default"].weight.grad),
            (up.grad[:, group], layer.lora_B["default"].weight.grad),
        )
        for own, other in pairs:
            torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-6)


def test_an_absent_emotion_and_the_polarities_keep_their_weights(ground, objective):
    filled(objective.hilora)
    optimiser = GroupedAdamW(objective.named_parameters(), 0.1)
    batch = ground.batches().batch(0, range(4))
    batch = replace(batch, emotion=torch.eye(3)[[0, 0, 2, 2]])
    before = copy.deepcopy(objective.hilora.state_dict())
    for _ in range(2):
        losses = objective(batch)
        losses.total.backward()
        optimiser.step(losses.presence)
        optimiser.zero_grad()
    rank = objective.hilora.rank
    for name, tensor in objective.hilora.state_dict().items():
        axis = 0 if name.startswith("down") else 1
        moved = [
            not torch.equal(old, new)
            for old, new in zip(before[name].split(rank, axis), tensor.split(rank, axis), strict=True)
        ]
        assert moved == [True, False, True, False]


def test_drawn_on_the_conditional_branch_the_other_is_the_bare_base(config, folder, base):
    METHODS["dreambooth"].fit(config, folder)
    drawer = METHODS["dreambooth"].open(config, folder, base)
    filled(drawer.hilora)
    equal = {}
    for branches in ("both", "conditional"):
        settings = SamplingSettings(steps=1, guidance=3.0, hilora_branches=branches)
        seen = []
        hook = base.unet.register_forward_hook(
            lambda module, args, kwargs, output, seen=seen: seen.append((args, kwargs, output.sample)),
            with_kwargs=True,
        )
        drawer.generate(drawer.condition(["joy", "storm"], 1), 1, settings)
        hook.remove()
        args, kwargs, drawn = seen[0]
        with torch.no_grad():
            bare = base.unet(*args, **kwargs).sample
        equal[branches] = [torch.equal(drawn[half], bare[half]) for half in (slice(0, 2), slice(2, 4))]
    assert equal == {"both": [False, False], "conditional": [True, False]}


@pytest.mark.parametrize("whole", [1, 4])
def test_every_second_sample_is_a_class_picture(ground, whole):
    batches = ground.batches()
    batches.effective_batch = whole
    classes = torch.arange(3.0)[:, None, None, None].expand(3, 4, 8, 8) + 100
    length = ground.base.max_length
    instance_ids, class_ids = torch.arange(3)[:, None].expand(3, length), torch.full((length,), 9)
    mixed = WithClassPictures(batches, instance_ids, class_ids, classes)
    for draw in range(8):
        step, place = divmod(draw, whole)
        batch, plain = mixed.batch(step, [place]), batches.batch(step, [place])
        if draw % 2:
            assert batch.latents.unique().tolist() == [100 + draw // 2 % 3]
            assert batch.prompt_ids.unique().tolist() == [9]
        else:
            assert torch.equal(batch.latents, plain.latents)
            assert batch.prompt_ids.unique().tolist() == [int(plain.emotion.argmax())]
        assert torch.equal(batch.noise, plain.noise)
        assert torch.equal(batch.emotion, plain.emotion)


def test_in_half_precision_the_unet_runs_without_autocast(config, folder, monkeypatch):
    own = load_base(config.base)  # the precision stays
    monkeypatch.setattr("coemogen_train.methods.loop.load_frozen_base", lambda *run: own)
    ground = prepare(config.model_copy(update={"precision": "bf16"}), folder)
    objective = DreamBoothObjective(ground)
    filled(objective.hilora)
    seen = []
    own.unet.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    with objective.attached, autocast("cpu", "bf16"):
        losses = objective(ground.batches().batch(0, range(2)))
    losses.total.backward()
    assert seen == [False] and next(own.unet.parameters()).dtype == torch.bfloat16
    gradients = [parameter.grad for parameter in objective.hilora.parameters()]
    assert all(g.dtype == torch.float32 and g.isfinite().all() and g.any() for g in gradients)
