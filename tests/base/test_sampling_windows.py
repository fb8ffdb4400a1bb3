"""Windows of the denoising: always is the plain loop to the bit, never is the bare base to the bit."""

from __future__ import annotations

import pytest
import torch

from coemogen_train.adapter.hilora import HiLoRA
from coemogen_train.base.load import load_base
from coemogen_train.base.model import BaseModel
from coemogen_train.base.sampling import ALWAYS, SamplingSettings, in_window, make_scheduler, sample_latents
from coemogen_train.errors import UserError

from .tiny import LENGTH, WIDTH, write_base

NEVER = (0.0, 0.0)
STEPS, GUIDANCE, SHAPE = 4, 4.0, (8, 8, 8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(write_base(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def hilora(base: BaseModel) -> HiLoRA:
    torch.manual_seed(3)
    hilora = HiLoRA.for_unet(base.unet, (0, 0, 1), rank=2).requires_grad_(False)
    for up in hilora.up.values():
        up.normal_(std=0.5)
    return hilora


def _embeds(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed))


PROMPTS, NEGATIVE, NEUTRAL = _embeds(2, 5), _embeds(1, 6), _embeds(1, 7)


def _sample(base: BaseModel, hilora: HiLoRA | None, **windows: tuple[float, float]) -> torch.Tensor:
    settings = SamplingSettings(STEPS, GUIDANCE, **windows)
    if hilora is None:
        return sample_latents(base, PROMPTS, NEGATIVE, [0, 1], settings)
    with hilora.attach(base.unet) as attached:
        gates = hilora.gate(torch.eye(3)[:2])
        return sample_latents(base, PROMPTS, NEGATIVE, [0, 1], settings, gates, attached)


@torch.no_grad()
def _plain_loop(
    base: BaseModel, hilora: HiLoRA, listens: list[bool], acts: list[bool], neutral: torch.Tensor = NEGATIVE
) -> torch.Tensor:
    """The sampler without windows, told step by step what is on."""
    scheduler = make_scheduler("ddim", base.scheduler_config)
    scheduler.set_timesteps(STEPS)
    latents = torch.stack([torch.randn(SHAPE, generator=torch.Generator().manual_seed(i)) for i in (0, 1)])
    gate = hilora.gate(torch.eye(3)[:2])
    with hilora.attach(base.unet) as attached:
        for timestep, listening, acting in zip(scheduler.timesteps, listens, acts, strict=True):
            attached.route(torch.cat([gate, gate]) if acting else None)
            condition = PROMPTS if listening else neutral.expand(2, -1, -1)
            context = torch.cat([NEGATIVE.expand(2, -1, -1), condition])
            predicted = base.unet(
                torch.cat([latents, latents]), timestep, encoder_hidden_states=context
            ).sample
            unconditional, conditional = predicted.chunk(2)
            predicted = unconditional + GUIDANCE * (conditional - unconditional)
            latents = scheduler.step(predicted, timestep, latents).prev_sample
    return latents


ON, OFF = [True] * STEPS, [False] * STEPS


def test_always_is_the_plain_loop_to_the_bit(base: BaseModel, hilora: HiLoRA) -> None:
    default = _sample(base, hilora)
    assert torch.equal(default, _plain_loop(base, hilora, ON, ON))
    assert torch.equal(default, _sample(base, hilora, condition_window=ALWAYS, hilora_window=ALWAYS))


def test_hilora_outside_its_window_is_the_bare_base_to_the_bit(base: BaseModel, hilora: HiLoRA) -> None:
    assert torch.equal(_sample(base, hilora, hilora_window=NEVER), _sample(base, None))
    assert not torch.equal(_sample(base, hilora), _sample(base, None))


def test_the_condition_outside_its_window_is_the_negative_prompt(base: BaseModel) -> None:
    never = _sample(base, None, condition_window=NEVER)
    negative = NEGATIVE.expand(2, -1, -1)
    assert torch.equal(
        never, sample_latents(base, negative, NEGATIVE, [0, 1], SamplingSettings(STEPS, GUIDANCE))
    )


def test_a_neutral_condition_of_ones_own_stands_where_the_condition_is_silent(
    base: BaseModel, hilora: HiLoRA
) -> None:
    settings = SamplingSettings(STEPS, GUIDANCE, condition_window=(0.5, 1.0))
    with hilora.attach(base.unet) as attached:
        gates = hilora.gate(torch.eye(3)[:2])
        latents = sample_latents(
            base, PROMPTS, NEGATIVE, [0, 1], settings, gates, attached, neutral_embeds=NEUTRAL
        )
    assert torch.equal(latents, _plain_loop(base, hilora, [False, False, True, True], ON, NEUTRAL))


def test_each_window_switches_its_own_steps(base: BaseModel, hilora: HiLoRA) -> None:
    latents = _sample(base, hilora, condition_window=(0.25, 0.75), hilora_window=(0.5, 1.0))
    expected = _plain_loop(base, hilora, [False, True, True, False], [False, False, True, True])
    assert torch.equal(latents, expected)


def test_a_window_turned_round_is_the_rest_of_the_denoising(base: BaseModel, hilora: HiLoRA) -> None:
    latents = _sample(base, hilora, condition_window=(0.75, 0.25))
    assert torch.equal(latents, _plain_loop(base, hilora, [True, False, False, True], ON))


@pytest.mark.parametrize("stretches", [1, 3, 7, 8])
def test_stretches_side_by_side_share_no_step_and_leave_none_out(stretches: int) -> None:
    ends = [i / stretches for i in range(stretches + 1)]
    for steps in (1, 5, 10, 16, 20):
        for place in [(i + 0.5) / steps for i in range(steps)]:
            within = [in_window((ends[i], ends[i + 1]), place) for i in range(stretches)]
            without = [in_window((ends[i + 1], ends[i]), place) for i in range(stretches)]
            assert sum(within) == 1
            assert [not on for on in within] == without


@pytest.mark.parametrize("window", [(-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_a_window_beyond_the_denoising_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="between 0, pure noise, and 1"):
        SamplingSettings(hilora_window=window)
