"""Sampling is diffusers' own, whatever the batch, and HiLoRA acts on the rows it is meant for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from coemogen_train.adapter.hilora import HiLoRA
from coemogen_train.base.load import load_base
from coemogen_train.base.model import BaseModel
from coemogen_train.base.sampling import (
    SCHEDULERS,
    SamplingSettings,
    generate_images,
    make_scheduler,
    noise_seeds,
    sample_latents,
    to_images,
)
from coemogen_train.errors import UserError

from .tiny import LENGTH, WIDTH, write_base

# diffusers' schedulers and the newest numpy, not ours to mend
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SHAPE = (8, 8, 8)
POLARITY_OF = (0, 0, 1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(write_base(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def hilora(base: BaseModel) -> HiLoRA:
    torch.manual_seed(3)
    hilora = HiLoRA.for_unet(base.unet, POLARITY_OF, rank=2).requires_grad_(False)
    for up in hilora.up.values():
        up.normal_(std=0.5)
    return hilora


def _embeds(count: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(count, LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed))


NEGATIVE = _embeds(1, seed=6)


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The greatest difference, in standard deviations: random weights blow latents up to tens."""
    return float((one - other).abs().max() / one.std())


def _generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(40 + i) for i in range(count)]


@pytest.mark.parametrize(("name", "guidance"), [("ddim", 1.0), *((name, 5.0) for name in sorted(SCHEDULERS))])
def test_latents_are_those_of_diffusers_pipeline(base: BaseModel, name: str, guidance: float) -> None:
    import diffusers

    class_name, options = SCHEDULERS[name]
    scheduler = getattr(diffusers, class_name).from_config(base.scheduler_config, **options)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=base.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    generators = _generators(2)
    noise = torch.stack([torch.randn(SHAPE, generator=generator) for generator in generators])
    expected = pipeline(
        prompt_embeds=_embeds(2),
        negative_prompt_embeds=NEGATIVE.expand(2, -1, -1),
        latents=noise,
        generator=generators,  # each has drawn its start noise and goes on from there
        guidance_scale=guidance,
        num_inference_steps=4,
        output_type="latent",
    ).images
    settings = SamplingSettings(steps=4, guidance=guidance, scheduler=name)
    latents = sample_latents(base, _embeds(2), NEGATIVE, [40, 41], settings)
    assert latents.dtype == torch.float32 and latents.isfinite().all()
    assert torch.allclose(latents, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_pictures_do_not_depend_on_the_batch(base: BaseModel, hilora: HiLoRA, name: str) -> None:
    gates = hilora.gate(torch.eye(3)[torch.tensor([0, 1, 2])])
    results = []
    with hilora.attach(base.unet) as attached:
        for batch_size in (3, 2):
            settings = SamplingSettings(4, 3.0, name, "conditional", batch_size)
            results.append(sample_latents(base, _embeds(3), NEGATIVE, range(3), settings, gates, attached))
    assert _apart(*results) < 1e-5


def test_a_seed_is_one_picture_and_another_is_another(base: BaseModel) -> None:
    settings = SamplingSettings(3, 2.0)
    same = _embeds(1).expand(3, -1, -1)
    latents = sample_latents(base, same, NEGATIVE, [7, 8, 7], settings)
    assert _apart(latents[0], latents[2]) < 1e-6
    assert _apart(latents[0], latents[1]) > 0.1


def test_class_names_of_diffusers_work_too(base: BaseModel) -> None:
    settings = [SamplingSettings(3, 2.0, name) for name in ("DDIMScheduler", "ddim")]
    ours, theirs = (sample_latents(base, _embeds(1), NEGATIVE, [0], setting) for setting in settings)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["dim", "Scheduler", "EulerSchedler", "StableDiffusionPipeline"])
def test_an_unknown_scheduler_names_those_there_are(name: str) -> None:
    with pytest.raises(UserError, match=f"no scheduler '{name}': take .*ddim|no scheduler '{name}': take"):
        make_scheduler(name, {})


def test_latents_are_not_clipped_where_the_config_is_silent() -> None:
    assert make_scheduler("ddim", {"num_train_timesteps": 10}).config.clip_sample is False
    assert make_scheduler("ddim", {"clip_sample": True}).config.clip_sample is True


def _branches(base: BaseModel, hilora: HiLoRA, branches: Any, emotion: torch.Tensor) -> torch.Tensor:
    settings = SamplingSettings(2, 4.0, "ddim", branches)
    with hilora.attach(base.unet) as attached:
        gates = hilora.gate(emotion)
        return sample_latents(
            base, _embeds(len(emotion)), NEGATIVE, range(len(emotion)), settings, gates, attached
        )


@pytest.mark.parametrize("branches", ["both", "conditional"])
def test_branches_equal_separate_passes(base: BaseModel, hilora: HiLoRA, branches: str) -> None:
    """The reference runs each branch alone, with weights merged into the U-Net or not."""
    emotion = torch.tensor([[0.7, 0.0, 0.3]])
    gate = hilora.gate(emotion)[0]
    merged = load_base_copy(base)
    for key in hilora.layers:
        merged.get_submodule(key).weight.data += hilora.merged_delta(key, gate)
    unconditional_unet = merged if branches == "both" else base.unet

    scheduler = make_scheduler("ddim", base.scheduler_config)
    scheduler.set_timesteps(2)
    latents = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))[None]
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            unconditional = unconditional_unet(latents, timestep, encoder_hidden_states=NEGATIVE).sample
            conditional = merged(latents, timestep, encoder_hidden_states=_embeds(1)).sample
            predicted = unconditional + 4.0 * (conditional - unconditional)
            latents = scheduler.step(predicted, timestep, latents).prev_sample
    assert torch.allclose(_branches(base, hilora, branches, emotion), latents, atol=1e-4)


def load_base_copy(base: BaseModel) -> Any:
    import copy

    return copy.deepcopy(base.unet)


def test_branches_differ_under_guidance(base: BaseModel, hilora: HiLoRA) -> None:
    emotion = torch.eye(3)[:1]
    both, conditional = (_branches(base, hilora, branches, emotion) for branches in ("both", "conditional"))
    assert (both - conditional).abs().max() > 1e-2


def test_each_picture_of_a_batch_has_its_own_emotion(base: BaseModel, hilora: HiLoRA) -> None:
    mixed = _branches(base, hilora, "both", torch.eye(3))
    settings = SamplingSettings(2, 4.0)
    for i in range(3):
        with hilora.attach(base.unet) as attached:
            gates = hilora.gate(torch.eye(3)[i : i + 1])
            alone = sample_latents(base, _embeds(3)[i : i + 1], NEGATIVE, [i], settings, gates, attached)
        assert torch.allclose(mixed[i], alone[0], atol=1e-5)


def test_without_gates_an_attached_hilora_is_nothing(base: BaseModel, hilora: HiLoRA) -> None:
    settings = SamplingSettings(2, 3.0)
    bare = sample_latents(base, _embeds(2), NEGATIVE, [0, 1], settings)
    with hilora.attach(base.unet) as attached:
        attached.route(hilora.gate(torch.eye(3)[:2]))
        assert torch.equal(sample_latents(base, _embeds(2), NEGATIVE, [0, 1], settings, None, attached), bare)
    assert torch.equal(sample_latents(base, _embeds(2), NEGATIVE, [0, 1], settings), bare)


def test_routing_is_over_when_sampling_is_even_after_a_fault(base: BaseModel, hilora: HiLoRA) -> None:
    def stop(done: int, steps: int) -> None:
        raise KeyboardInterrupt

    with hilora.attach(base.unet) as attached:
        gates = hilora.gate(torch.eye(3)[:1])
        with pytest.raises(KeyboardInterrupt):
            sample_latents(base, _embeds(1), NEGATIVE, [0], SamplingSettings(2), gates, attached, stop)
        assert attached.current_gate is None


def test_progress_counts_steps_over_all_batches(base: BaseModel) -> None:
    seen: list[tuple[int, int]] = []
    settings = SamplingSettings(3, 2.0, batch_size=2)
    sample_latents(base, _embeds(3), NEGATIVE, range(3), settings, progress=lambda *step: seen.append(step))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_pictures_are_rgb_of_the_asked_size(base: BaseModel) -> None:
    settings = SamplingSettings(2, 2.0, height=24, width=40, batch_size=1)
    images = generate_images(base, _embeds(2), NEGATIVE, [0, 1], settings)
    assert [(image.mode, image.size) for image in images] == [("RGB", (40, 24))] * 2
    assert generate_images(base, _embeds(1), NEGATIVE, [0], SamplingSettings(2))[0].size == (32, 32)
    assert generate_images(base, _embeds(0), NEGATIVE, [], settings) == []


def test_pixels_are_rounded_not_cut() -> None:
    image = to_images(torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1))[0]
    assert image.getpixel((0, 0)) == (0, 128, 255)


def test_a_size_that_does_not_fit_says_what_does(base: BaseModel) -> None:
    with pytest.raises(UserError, match="multiples of 4 for tiny"):
        sample_latents(base, _embeds(1), NEGATIVE, [0], SamplingSettings(2, height=30))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_size": 0}, {"hilora_branches": "none"}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        SamplingSettings(**wrong)


def test_a_scheduler_that_needs_more_steps_says_so(base: BaseModel) -> None:
    with pytest.raises(UserError, match="'pndm' cannot do 2 steps"):
        sample_latents(base, _embeds(1), NEGATIVE, [0], SamplingSettings(2, scheduler="pndm"))


def test_values_that_are_no_numbers_make_no_picture(base: BaseModel) -> None:
    with pytest.raises(UserError, match="tiny: sampling gave values that are no numbers"):
        sample_latents(base, _embeds(1) * float("nan"), NEGATIVE, [0], SamplingSettings(2))


def test_noise_shares_no_numbers_with_embeddings_of_the_same_seed() -> None:
    seeds = noise_seeds(3, 4)
    assert len(set(seeds)) == 4 and noise_seeds(5, 1) == seeds[2:3]
    embedding = torch.randn(64, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(64, generator=torch.Generator().manual_seed(seeds[0]))
    assert (embedding - noise).abs().min() > 0
    assert all(0 <= seed < 2**64 for seed in noise_seeds(2**64 - 1, 3))


def test_half_precision_weights_keep_latents_in_float32(tmp_path: Path) -> None:
    base = load_base(write_base(tmp_path / "tiny"), dtype=torch.bfloat16)
    latents = sample_latents(base, _embeds(1), NEGATIVE, [0], SamplingSettings(2))
    assert latents.dtype == torch.float32 and latents.isfinite().all()
    assert generate_images(base, _embeds(1), NEGATIVE, [0], SamplingSettings(2))[0].size == (32, 32)


ZERO_SNR = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpmpp_2m", "euler", "euler_a", "unipc"])
def test_a_schedule_that_ends_in_pure_noise_begins_there(base: BaseModel, name: str) -> None:
    zero = replace(base, scheduler_config=base.scheduler_config | ZERO_SNR)
    scheduler = make_scheduler(name, zero.scheduler_config)
    scheduler.set_timesteps(4)
    assert int(scheduler.timesteps[0]) == 999
    assert scheduler.alphas_cumprod[-1] < 1e-6
    settings = SamplingSettings(4, 2.0, name)
    assert sample_latents(zero, _embeds(1), NEGATIVE, [0], settings).isfinite().all()


def test_a_scheduler_that_would_pass_over_pure_noise_is_refused(base: BaseModel) -> None:
    with pytest.raises(UserError, match=r"'lms' cannot follow .* take ddim"):
        make_scheduler("lms", base.scheduler_config | ZERO_SNR)


def test_a_scheduler_that_does_not_know_the_prediction_type_is_one_sentence(base: BaseModel) -> None:
    predicts_sample = replace(base, scheduler_config=base.scheduler_config | {"prediction_type": "sample"})
    with pytest.raises(UserError, match="scheduler 'pndm' does not suit tiny"):
        sample_latents(predicts_sample, _embeds(1), NEGATIVE, [0], SamplingSettings(4, 2.0, "pndm"))
