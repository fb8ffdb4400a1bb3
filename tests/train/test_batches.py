"""Batches: a pure function of seed, step and position; balanced; what the method says about v and prompts."""

import collections

import numpy as np
import torch

from coemogen_train.adapter.condition import PromptIds
from coemogen_train.train.batches import BalancedOrder, Batch, BatchMaker, Draws
from coemogen_train.train.items import TrainingItem

NAMES = ("calm", "storm", "dusk")
# 2, 5 and 9 pictures: an imbalanced set
ITEMS = [
    TrainingItem(f"{name}-{i}", emotion, f"a caption of {name} {i}", ("tree", "sea"))
    for emotion, (name, count) in enumerate(zip(NAMES, (2, 5, 9), strict=True))
    for i in range(count)
]
LABELS = np.array([item.emotion for item in ITEMS])
EMBEDS = torch.randn(len(ITEMS), 4, generator=torch.Generator().manual_seed(0))


def latents(sample_id: str, flip: bool) -> tuple[torch.Tensor, torch.Tensor]:
    mean = torch.full((2, 3, 3), float(len(sample_id)))
    return (-mean if flip else mean), torch.full((2, 3, 3), 0.5)


def embeds(sample_id: str) -> torch.Tensor:
    return EMBEDS[[item.id for item in ITEMS].index(sample_id)]


def encode(prompt: str) -> PromptIds:
    """One id per character; the pseudo-words start where `{emotion}` stands."""
    ids = torch.zeros(60, dtype=torch.long)
    ids[: len(prompt)] = torch.tensor([ord(letter) for letter in prompt], dtype=torch.long)
    return PromptIds(ids, prompt.find("{emotion}"))


def maker(effective_batch: int = 6, more: dict | None = None, **draws) -> BatchMaker:
    means = torch.stack([EMBEDS[[item.emotion == e for item in ITEMS]].mean(0) for e in range(3)])
    known = (ITEMS, LABELS, effective_batch, Draws(**draws))
    return BatchMaker(*known, latents, embeds, means, encode, **(more or {}))


def tensors(batch: Batch) -> list[torch.Tensor]:
    return [tensor for tensor in vars(batch).values() if tensor is not None]


def equal(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


def test_any_split_of_an_effective_batch_draws_the_same():
    settings = {"seed": 3, "flip": True, "content_prompts": 0.5, "v_dropout": 0.3, "condition_dropout": 0.5}
    whole = maker(**settings).batch(11, range(6))
    other = maker(**settings)
    other.batch(2, range(6))  # an other history
    parts = [other.batch(11, positions) for positions in ([0, 1], [2, 3, 4], [5])]
    joined = Batch(*(torch.cat(tensors) for tensors in zip(*(tensors(part) for part in parts), strict=True)))
    assert equal(whole, joined)


def test_seed_step_and_position_draw_different_noise():
    first = maker(seed=1).batch(0, range(6)).noise
    assert len({tuple(noise.flatten().tolist()) for noise in first}) == 6
    assert not torch.equal(first, maker(seed=2).batch(0, range(6)).noise)
    assert not torch.equal(first, maker(seed=1).batch(1, range(6)).noise)


def test_order_is_balanced_and_epochs_are_whole():
    order = BalancedOrder(LABELS, len(NAMES), seed=5)
    drawn = [order.index(i) for i in range(3 * 45)]
    assert collections.Counter(ITEMS[i].emotion for i in drawn) == {0: 45, 1: 45, 2: 45}
    for emotion, count in enumerate((2, 5, 9)):
        own = [i for i in drawn if ITEMS[i].emotion == emotion]
        epochs = [own[k : k + count] for k in range(0, 45 - 45 % count, count)]
        assert all(len(set(epoch)) == count for epoch in epochs)
        assert len(set(map(tuple, epochs))) > 1
    assert [BalancedOrder(LABELS, len(NAMES), seed=5).index(i) for i in reversed(range(135))][::-1] == drawn


def test_an_emotion_without_pictures_is_carried_along_and_the_others_stay_balanced():
    order = BalancedOrder(LABELS[LABELS != 1], len(NAMES), seed=0)
    kept = [item for item in ITEMS if item.emotion != 1]
    assert collections.Counter(kept[order.index(i)].emotion for i in range(40)) == {0: 20, 2: 20}


def test_held_out_noise_hangs_on_picture_and_timestep_alone():
    chosen, times = ITEMS[:3], torch.tensor([125, 125, 375])
    latents_, v = torch.zeros(3, 2, 3, 3), torch.zeros(3, 4)
    batch = maker(seed=1).held_out(chosen, latents_, v, times)
    other = maker(seed=9, flip=True, v_dropout=1.0, condition_dropout=1.0)
    alone = other.held_out(chosen[2:], latents_[2:], v[2:], times[2:])
    assert torch.equal(alone.noise[0], batch.noise[2])
    assert not torch.equal(batch.noise[0], batch.noise[1])
    again = maker().held_out(chosen[:1], latents_[:1], v[:1], torch.tensor([375]))
    assert not torch.equal(again.noise[0], batch.noise[0])
    assert not alone.drop_condition.any() and torch.equal(alone.image_embeds, v[2:])


def test_latents_are_a_sample_of_the_posterior_apart_from_the_noise():
    made = maker(600)
    means = torch.tensor([float(len(name)) for name in made.sample_ids(0)])[:, None, None, None]
    batch = made.batch(0, range(600))
    drawn = (batch.latents - means) / 0.5
    assert abs(float(drawn.mean())) < 0.03 and abs(float(drawn.std()) - 1) < 0.03
    assert abs(float((drawn * batch.noise).mean())) < 0.03  # independent of the noise


def test_flips_take_the_flipped_latents():
    flipped = maker(600, flip=True).batch(0, range(600)).latents.mean((1, 2, 3)) < 0
    assert 0.4 < float(flipped.float().mean()) < 0.6
    assert not (maker(600, flip=False).batch(0, range(600)).latents.mean((1, 2, 3)) < 0).any()


def test_content_prompts_come_with_the_mean_of_the_emotion():
    made = maker(300, content_prompts=0.3, seed=1)
    batch = made.batch(0, range(300))
    in_prompt = (batch.prompt_ids != encode("{emotion}").input_ids).any(1)
    assert 0.2 < float(in_prompt.float().mean()) < 0.4
    means = torch.stack([EMBEDS[[i.emotion == e for i in ITEMS]].mean(0) for e in range(3)])
    is_mean = (batch.image_embeds - batch.emotion @ means).abs().amax(1) < 1e-6
    assert torch.equal(is_mean, in_prompt)
    assert set(batch.prompt_start[in_prompt].tolist()) == {0, len("tree, sea, ")}
    captions = torch.stack([encode(made._item(0, p).caption).input_ids for p in range(300)])
    assert torch.equal(batch.caption_ids, captions)  # the loss's target stays the caption


def test_shares_are_kept():
    batch = maker(1000, v_dropout=0.2, condition_dropout=0.1).batch(0, range(1000))
    means = maker().emotion_means
    is_mean = (batch.image_embeds - batch.emotion @ means).abs().amax(1) < 1e-6
    assert 0.15 < float(is_mean.float().mean()) < 0.25
    assert 0.07 < float(batch.drop_condition.float().mean()) < 0.13
    assert (
        batch.timesteps.min() >= 0 and batch.timesteps.max() < 1000 and batch.timesteps.unique().numel() > 500
    )


def test_sample_ids_name_the_batch():
    ids = maker(12).sample_ids(4)
    emotions = maker(12).batch(4, range(12)).emotion.argmax(1).tolist()
    assert [NAMES.index(name.split("-")[0]) for name in ids] == emotions
