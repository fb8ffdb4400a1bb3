"""The losses against numpy, and what of a batch reaches what."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.training_utils import compute_snr

from coemogen_train.adapter.condition import EmotionEmbedder, TextStates, encode_text, prompt_ids
from coemogen_train.adapter.encoder import VisualPerceptionEncoder
from coemogen_train.adapter.hilora import HiLoRA
from coemogen_train.adapter.mapper import NeuroSymbolicMapper
from coemogen_train.train.batches import Batch
from coemogen_train.train.objective import (
    CoEmoGenObjective,
    denoising_loss,
    min_snr_weights,
    semantic_loss,
)

POLARITY_OF = (0, 0, 1)


def make_objective(base, **settings) -> CoEmoGenObjective:
    torch.manual_seed(2)
    embedder = EmotionEmbedder(
        NeuroSymbolicMapper(3, base.width, tokens=2, hidden=8),
        VisualPerceptionEncoder(base.width, 6, visual_tokens=2, row_norm=0.4),
    )
    hilora = HiLoRA.for_unet(base.unet, POLARITY_OF, rank=2)
    return CoEmoGenObjective(base, embedder, hilora, **settings)


def make_batch(base) -> Batch:
    generator = torch.Generator().manual_seed(3)
    prompts = [prompt_ids(base.tokenizer, text, 2) for text in ("{emotion}", "sea, {emotion}", "{emotion}")]
    captions = [prompt_ids(base.tokenizer, text, 2) for text in ("a tree", "the sea", "a gate")]
    return Batch(
        latents=torch.randn(3, 4, 8, 8, generator=generator),
        noise=torch.randn(3, 4, 8, 8, generator=generator),
        timesteps=torch.tensor([10, 500, 999]),
        image_embeds=torch.randn(3, 6, generator=generator),
        emotion=torch.eye(3)[[0, 2, 0]],
        prompt_ids=torch.stack([prompt.input_ids for prompt in prompts]),
        prompt_start=torch.tensor([prompt.start for prompt in prompts]),
        caption_ids=torch.stack([caption.input_ids for caption in captions]),
        drop_condition=torch.tensor([False, False, True]),
    )


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def states(seed: int) -> TextStates:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(4, 7, 5, generator=generator)
    return TextStates(hidden, torch.randn(4, 3, generator=generator), torch.full((4,), 6))


def test_semantic_loss_over_the_sequence_matches_numpy():
    a, b = states(0), states(1)
    expected = 1 - cosine(a.hidden.double().numpy(), b.hidden.double().numpy())[:, 1:].mean(1)
    np.testing.assert_allclose(semantic_loss(a, b, "sequence").numpy(), expected, atol=1e-6)
    assert semantic_loss(a, a, "sequence").abs().max() < 1e-6


def test_semantic_loss_of_the_pooled_states_matches_numpy():
    a, b = states(0), states(1)
    expected = 1 - cosine(a.pooled.double().numpy(), b.pooled.double().numpy())
    np.testing.assert_allclose(semantic_loss(a, b, "pooled").numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("distance", ["mae", "mse", "kl"])
def test_the_other_distances_of_the_semantic_loss_match_numpy(distance):
    a, b = states(0), states(1)

    def by_hand(own: np.ndarray, target: np.ndarray) -> np.ndarray:
        if distance == "kl":
            p = np.exp(target) / np.exp(target).sum(-1, keepdims=True)
            q = np.exp(own) / np.exp(own).sum(-1, keepdims=True)
            return (p * np.log(p / q)).sum(-1)
        return (np.abs(own - target) if distance == "mae" else (own - target) ** 2).mean(-1)

    sequence = by_hand(a.hidden.double().numpy(), b.hidden.double().numpy())[:, 1:].mean(1)
    np.testing.assert_allclose(semantic_loss(a, b, "sequence", distance).numpy(), sequence, rtol=1e-5)
    pooled = by_hand(a.pooled.double().numpy(), b.pooled.double().numpy())
    np.testing.assert_allclose(semantic_loss(a, b, "pooled", distance).numpy(), pooled, rtol=1e-5)


def test_the_objective_takes_the_distance_that_it_is_told(base):
    batch = make_batch(base)
    cosine, mse = (make_objective(base, semantic_distance=name)(batch).semantic for name in ("cosine", "mse"))
    condition = make_objective(base)._condition(batch)
    expected = semantic_loss(condition, make_objective(base)._caption(batch), "sequence", "mse").mean()
    torch.testing.assert_close(mse, expected.detach())
    assert not torch.isclose(cosine, mse)


def test_denoising_loss_matches_numpy():
    a, b = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    expected = ((a.double().numpy() - b.double().numpy()) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(denoising_loss(a, b).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("form", ["sequence", "pooled"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_forward_matches_the_formulas_step_by_step(base, form, prediction):
    base.scheduler_config["prediction_type"] = prediction
    objective, batch = make_objective(base, semantic=form, semantic_weight=0.5), make_batch(base)
    losses = objective(batch)

    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    level = np.cumprod(1 - betas)[batch.timesteps.numpy()][:, None, None, None]
    latents, noise = batch.latents.double().numpy(), batch.noise.double().numpy()
    noisy = np.sqrt(level) * latents + np.sqrt(1 - level) * noise
    target = noise if prediction == "epsilon" else np.sqrt(level) * noise - np.sqrt(1 - level) * latents
    eos = base.tokenizer.eos_token_id
    with torch.no_grad():
        words = objective.embedder(batch.emotion, batch.image_embeds)
        condition = encode_text(base.text_encoder, batch.prompt_ids, eos, words, batch.prompt_start)
        caption = encode_text(base.text_encoder, batch.caption_ids, eos)
        empty = prompt_ids(base.tokenizer, "", 2).input_ids[None]
        hidden = condition.hidden.clone()
        hidden[2] = encode_text(base.text_encoder, empty, eos).hidden[0]
        objective.attached.route(None)  # `up` starts at zero: HiLoRA changes nothing yet
        predicted = base.unet(torch.tensor(noisy).float(), batch.timesteps, hidden).sample.double().numpy()
    ldm = ((predicted - target) ** 2).mean(axis=(1, 2, 3))
    if form == "sequence":
        semantic = 1 - cosine(condition.hidden.numpy(), caption.hidden.numpy())[:, 1:].mean(1)
    else:
        semantic = 1 - cosine(condition.pooled.numpy(), caption.pooled.numpy())
    np.testing.assert_allclose(losses.per_sample.numpy(), ldm + 0.5 * semantic, rtol=1e-4)
    np.testing.assert_allclose(float(losses.ldm), ldm.mean(), rtol=1e-4)
    np.testing.assert_allclose(float(losses.semantic), semantic.mean(), rtol=1e-4)
    np.testing.assert_allclose(float(losses.total.detach()), (ldm + 0.5 * semantic).mean(), rtol=1e-4)


def test_gradients_reach_all_that_is_trained_and_nothing_else(base):
    objective = make_objective(base)
    with torch.no_grad():  # at zero `up` passes no gradient on to `down`
        for up in objective.hilora.up.values():
            up.normal_(std=0.1)
    objective(make_batch(base)).total.backward()
    assert all(float(p.grad.abs().max()) > 0 for p in objective.embedder.mapper.parameters())
    assert all(float(p.grad.abs().max()) > 0 for p in objective.hilora.parameters())
    for frozen in (base.unet, base.text_encoder, base.vae):
        assert all(p.grad is None for p in frozen.parameters())


def test_gradient_checkpointing_gives_the_same_gradients(base):
    batch = make_batch(base)
    gradients = []
    for checkpointing in (False, True):
        objective = make_objective(base)
        with torch.no_grad():
            for up in objective.hilora.up.values():
                up.fill_(0.05)
        if checkpointing:
            base.unet.train()
            base.unet.enable_gradient_checkpointing()
        objective(batch).total.backward()
        gradients.append([p.grad for p in objective.parameters()])
        objective.attached.remove()
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_where_the_condition_is_dropped_only_the_semantic_loss_reaches_the_pseudo_words(base):
    batch = replace(make_batch(base), drop_condition=torch.ones(3, dtype=torch.bool))
    for weight, reached in ((0.0, False), (1.0, True)):
        objective = make_objective(base, semantic_weight=weight)
        objective(batch).total.backward()
        gradient = next(objective.embedder.mapper.parameters()).grad
        assert bool(gradient.abs().max() > 0) is reached
        assert any(float(up.grad.abs().max()) > 0 for up in objective.hilora.up.values())  # HiLoRA stays on
        objective.attached.remove()


def test_presence_names_the_groups_of_the_batch(base):
    presence = make_objective(base)(make_batch(base)).presence
    assert (presence != 0).tolist() == [True, False, True, True, True]  # two emotions, both polarities
    only_first = replace(make_batch(base), emotion=torch.eye(3)[[0, 0, 0]])
    assert (make_objective(base)(only_first).presence != 0).tolist() == [True, False, False, True, False]


def test_the_base_is_no_part_of_what_is_saved_or_wrapped(base):
    names = [name.split(".")[0] for name in make_objective(base).state_dict()]
    assert set(names) == {"embedder", "hilora"}


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_min_snr_weights_are_those_of_the_error_of_the_clean_sample(base, prediction_type):
    """An error d in the prediction is an error k d in the clean sample: the weight is min(SNR, 5) k^2."""
    schedule = base.noise_schedule()
    snr = compute_snr(schedule, torch.arange(1000)).double()
    alphas = schedule.alphas_cumprod.double()
    k_squared = {"epsilon": (1 - alphas) / alphas, "v_prediction": 1 - alphas, "sample": torch.ones(1000)}
    expected = snr.clamp(max=5) * k_squared[prediction_type]
    weights = min_snr_weights(schedule.alphas_cumprod, 5.0, prediction_type)
    torch.testing.assert_close(weights.double(), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(min_snr_weights(schedule.alphas_cumprod, 0.0, prediction_type), torch.ones(1000))


def test_min_snr_survives_a_schedule_that_ends_in_pure_noise():
    for prediction_type in ("epsilon", "v_prediction", "sample"):
        assert min_snr_weights(torch.tensor([0.9, 0.1, 0.0]), 5.0, prediction_type).isfinite().all()


def test_min_snr_weighs_the_gradient_and_not_the_report(base):
    plain, weighted = make_objective(base), make_objective(base, min_snr_gamma=5.0)
    batch = make_batch(base)
    losses, told = plain(batch), weighted(batch)
    assert torch.equal(losses.ldm, told.ldm)
    factors = min_snr_weights(base.noise_schedule().alphas_cumprod, 5.0, "epsilon")[batch.timesteps]
    ldm, semantic = plain.evaluate(batch)
    torch.testing.assert_close(told.per_sample, ldm * factors + semantic)
    assert factors.min() < 0.9


@pytest.mark.parametrize(("left_out", "groups"), [("emotion_loras", [3, 4]), ("polarity_loras", [0, 1, 2])])
def test_groups_that_are_left_out_are_never_present_and_get_no_gradient(base, left_out, groups):
    objective = make_objective(base, **{left_out: False})
    losses = objective(make_batch(base))
    losses.total.backward()
    kept = torch.zeros(5, dtype=torch.bool)
    kept[groups] = True
    assert not losses.presence[~kept].any() and losses.presence[kept].any()
    for key in objective.hilora.layers:
        gradient = objective.hilora.matrices(key)[1].grad.unflatten(1, (5, 2)).abs().amax(dim=(0, 2))
        assert not gradient[~kept].any()


def test_evaluation_measures_the_semantic_error_of_a_run_without_that_loss(base):
    batch = make_batch(base)
    with_loss, without = make_objective(base), make_objective(base, semantic_weight=0.0)
    assert without(batch).semantic == 0
    torch.testing.assert_close(without.evaluate(batch)[1], with_loss.evaluate(batch)[1])
    assert not without.evaluate(batch)[0].requires_grad
