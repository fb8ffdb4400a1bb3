"""A seed means one embedding, whatever the batch; the arithmetic is its docstring's, done again in numpy."""

import numpy as np
import pytest
import torch

from coemogen_train.adapter.gaussians import EmotionGaussians

E, K, V = 3, 2, 24


@pytest.fixture(params=["full", "diagonal"])
def gaussians(request):
    torch.manual_seed(0)
    shape = (E, K, V, V) if request.param == "full" else (E, K, V)
    weights = torch.tensor([[0.7, 0.3], [1.0, 0.0], [0.5, 0.5]])
    return EmotionGaussians(weights, torch.randn(E, K, V), (torch.randn(shape) / V**0.5).half())


def by_hand(gaussians, row, seed, truncation):
    """One embedding in numpy, from the same generator's numbers."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(V, generator=generator).double().numpy()
    choice = torch.rand(E, generator=generator, dtype=torch.float64).numpy()
    total = np.zeros(V)
    for emotion, weight in enumerate(row):
        k = int(choice[emotion] >= float(gaussians.weights[emotion, 0]))
        factor = gaussians.factor[emotion, k].double().numpy()
        spread = factor @ z if factor.ndim == 2 else factor * z
        total += weight * (gaussians.mean[emotion, k].double().numpy() + truncation * spread)
    return total


@pytest.mark.parametrize("truncation", [0.0, 0.6, 1.0])
def test_sampling_against_numpy(gaussians, truncation):
    rows = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.2, 0.3, 0.5], [0.7, 0, 0.7]]).repeat(5, 1)
    drawn = gaussians.sample(rows, seed=100, truncation=truncation)
    expected = [by_hand(gaussians, row, 100 + i, truncation) for i, row in enumerate(rows.tolist())]
    np.testing.assert_allclose(drawn.numpy(), np.array(expected), rtol=0, atol=1e-5)
    assert drawn.dtype == torch.float32


def test_same_seed_same_embeds_on_any_batch_split(gaussians):
    rows = torch.rand(11, E)
    whole = gaussians.sample(rows, seed=7)
    for size in (1, 2, 3, 4, 7, 10):
        parts = [gaussians.sample(rows[k : k + size], seed=7 + k) for k in range(0, 11, size)]
        assert torch.equal(torch.cat(parts), whole)


def test_other_seeds_give_other_embeds(gaussians):
    rows = torch.eye(E)
    assert not torch.equal(gaussians.sample(rows, 1), gaussians.sample(rows, 2))
    assert len(gaussians.sample(torch.ones(20, E), 5).unique(dim=0)) == 20


def test_drawing_leaves_the_global_random_state_alone_and_does_not_depend_on_it(gaussians):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = gaussians.sample(torch.eye(E), 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(gaussians.sample(torch.eye(E), 3), first)


def test_a_hosts_default_dtype_changes_nothing(gaussians):
    first = gaussians.sample(torch.eye(E), 3)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(gaussians.sample(torch.eye(E), 3), first)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_seeds_as_large_as_comfyui_has_them(gaussians, seed):
    rows = torch.eye(E)
    assert torch.equal(gaussians.sample(rows, seed)[2], gaussians.sample(rows[2:], (seed + 2) % 2**64)[0])


def test_draws_have_the_mixtures_moments(gaussians):
    """Emotion 0 has two Gaussians: mean and covariance of a mixture, from its parameters, in numpy."""
    drawn = gaussians.sample(torch.eye(E)[:1].expand(6000, -1), 0).double().numpy()
    weights, means = gaussians.weights[0].double().numpy(), gaussians.mean[0].double().numpy()
    factors = gaussians.factor[0].double().numpy()
    within = [f @ f.T if f.ndim == 2 else np.diag(f**2) for f in factors]
    mean = weights @ means
    covariance = sum(
        w * (c + np.outer(m - mean, m - mean)) for w, c, m in zip(weights, within, means, strict=True)
    )
    np.testing.assert_allclose(drawn.mean(0), mean, atol=5 * np.sqrt(covariance.diagonal().max() / 6000))
    assert np.abs(np.cov(drawn.T) - covariance).max() < 0.15 * covariance.diagonal().max()
    np.testing.assert_allclose(gaussians.mean_embedding()[0].numpy(), mean, atol=1e-5)


def test_a_component_without_weight_is_never_drawn(gaussians):
    means = gaussians.sample(torch.eye(E)[1:2].expand(300, -1), 0, truncation=0)
    assert torch.equal(means, gaussians.mean[1, 0].expand(300, -1))


def test_the_choice_of_component_does_not_hang_on_the_mixture(gaussians):
    for seed in range(20):
        alone = gaussians.sample(torch.tensor([[1.0, 0, 0]]), seed, truncation=0)
        mixed = gaussians.sample(torch.tensor([[1.0, 2.0, 0]]), seed, truncation=0)
        torch.testing.assert_close(mixed - alone, 2 * gaussians.mean[1, :1])


def test_what_it_says_of_itself(gaussians):
    assert gaussians.components == (2, 1, 2)
    assert gaussians.width == V
    assert gaussians.covariance == ("full" if gaussians.factor.dim() == 4 else "diagonal")


def test_an_empty_batch_and_a_wrong_one(gaussians):
    assert gaussians.sample(torch.zeros(0, E), 0).shape == (0, V)
    with pytest.raises(ValueError, match="emotion is"):
        gaussians.sample(torch.zeros(2, E + 1), 0)
