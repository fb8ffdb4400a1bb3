"""One Gaussian is scikit-learn's and numpy's; several find the stories, and what is drawn passes for real."""

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import adjusted_rand_score

from coemogen_train.adapter.gaussian_fit import fit_gaussians
from coemogen_train.adapter.stories import find_stories, narrowed
from coemogen_train.errors import DataError

EMOTIONS, STORIES, WIDTH = 4, 4, 32


def world(pictures, seed=0, story=1.0):
    """Embeddings of pictures: a story's place, plus a background and a weather that all emotions share.

    The shared things differ more than the stories do, which is what misleads k-means on the raw embeddings.
    Returns embeddings [n, V], emotions [n] and stories [n].
    """
    fixed = np.random.default_rng(99)
    places = story * fixed.normal(size=(EMOTIONS, STORIES, WIDTH)) / WIDTH**0.5
    backgrounds, weathers = 1.6 * fixed.normal(size=(2, 6, WIDTH)) / WIDTH**0.5
    looks = 0.3 * fixed.normal(size=(8, WIDTH)) / WIDTH**0.5
    rng = np.random.default_rng(seed)
    emotions = np.arange(EMOTIONS).repeat(pictures)
    stories = rng.integers(STORIES, size=len(emotions))
    x = places[emotions, stories] + backgrounds[rng.integers(6, size=len(emotions))]
    x += weathers[rng.integers(6, size=len(emotions))] + rng.normal(size=(len(emotions), 8)) @ looks
    return x + 0.05 * rng.normal(size=x.shape), emotions, stories


def fit(x, emotions, **options):
    return fit_gaussians(torch.from_numpy(x), torch.from_numpy(emotions), EMOTIONS, **options)


def covariances(gaussians):
    factor = gaussians.factor.double().numpy()
    return (
        factor @ factor.swapaxes(-1, -2)
        if factor.ndim == 4
        else np.array([[np.diag(f**2) for f in e] for e in factor])
    )


@pytest.mark.parametrize("pictures", [12, 200])
def test_one_gaussian_is_scikit_learns_ledoit_wolf(pictures):
    """12 pictures of 32 numbers each: fewer than numbers, where an unshrunk covariance has no inverse."""
    x, emotions, _ = world(pictures)
    gaussians = fit(x, emotions, components=1)
    for emotion in range(EMOTIONS):
        own = LedoitWolf().fit(x[emotions == emotion])
        np.testing.assert_allclose(gaussians.mean[emotion, 0].numpy(), own.location_, atol=1e-6)
        np.testing.assert_allclose(
            covariances(gaussians)[emotion, 0], own.covariance_, atol=2e-3 * own.covariance_.max()
        )
    assert gaussians.components == (1,) * EMOTIONS and gaussians.factor.dtype == torch.float16


def test_one_gaussian_against_ledoit_and_wolfs_formula():
    x, emotions, _ = world(20)
    gaussians = fit(x, emotions, components=1)
    own = x[emotions == 1] - x[emotions == 1].mean(0)
    n, p = own.shape
    sample = own.T @ own / n
    target = np.trace(sample) / p * np.eye(p)
    distance = ((sample - target) ** 2).sum()
    noise = sum(((np.outer(row, row) - sample) ** 2).sum() for row in own) / n**2
    share = min(noise, distance) / distance
    expected = (1 - share) * sample + share * target
    np.testing.assert_allclose(covariances(gaussians)[1, 0], expected, atol=2e-3 * expected.max())


def test_one_diagonal_gaussian_is_numpys_variance():
    x, emotions, _ = world(50)
    gaussians = fit(x, emotions, components=1, covariance="diagonal")
    for emotion in range(EMOTIONS):
        own = x[emotions == emotion]
        np.testing.assert_allclose(gaussians.mean[emotion, 0].numpy(), own.mean(0), atol=1e-6)
        np.testing.assert_allclose(gaussians.factor[emotion, 0].numpy(), own.std(0), rtol=1e-3)


def test_stories_are_found_although_backgrounds_differ_more():
    x, emotions, stories = world(150)
    groups = [x[emotions == emotion] for emotion in range(EMOTIONS)]
    found = find_stories(groups, [STORIES] * EMOTIONS, seed=0, restarts=4)
    scores = [
        adjusted_rand_score(stories[emotions == emotion], found.shares[emotion].argmax(1))
        for emotion in range(EMOTIONS)
    ]
    assert min(scores) > 0.95


def test_the_stories_gaussians_are_their_pictures_moments_drawn_towards_the_shared():
    x, emotions, _ = world(150)
    groups = [x[emotions == emotion] for emotion in range(EMOTIONS)]
    found = find_stories(groups, [STORIES] * EMOTIONS, seed=0)
    (clusters,) = found.clusters(2, (0.5,), diagonal=False)
    (variances,) = found.clusters(2, (0.5,), diagonal=True)
    for k in range(STORIES):
        shares = found.shares[2][:, k]
        mean = np.average(groups[2], axis=0, weights=shares)
        own = np.cov(groups[2].T, aweights=shares, ddof=0)
        count, nu = shares.sum(), 0.5 * WIDTH
        np.testing.assert_allclose(clusters.means[k], mean)
        np.testing.assert_allclose(
            clusters.covariances[k], (count * own + nu * found.shared) / (count + nu), atol=1e-6
        )
        np.testing.assert_allclose(variances.covariances[k], np.diag(clusters.covariances[k]))


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_the_log_likelihood_is_scikit_learns(covariance):
    from sklearn.mixture import GaussianMixture

    x, emotions, _ = world(60)
    groups = [x[emotions == emotion] for emotion in range(EMOTIONS)]
    clusters = find_stories(groups, [3] * EMOTIONS, seed=0).clusters(0, (1.0,), covariance == "diag")[0]
    twin = GaussianMixture(3, covariance_type=covariance)
    twin.weights_, twin.means_, twin.covariances_ = clusters.weights, clusters.means, clusters.covariances
    full = covariance == "full"
    precisions = np.linalg.inv(clusters.covariances) if full else 1 / clusters.covariances
    twin.precisions_cholesky_ = np.linalg.cholesky(precisions) if full else precisions**0.5
    np.testing.assert_allclose(clusters.log_likelihood(x), twin.score_samples(x), rtol=1e-8)


def test_a_wide_space_is_searched_in_its_principal_directions():
    """Against scikit-learn's principal components: the same subspace, whatever its basis."""
    from sklearn.decomposition import PCA

    x, emotions, _ = world(100)
    groups = [x[emotions == emotion] for emotion in range(EMOTIONS)]
    centred = np.concatenate([group - group.mean(0) for group in groups])
    components = PCA(10).fit(centred).components_
    narrow = np.concatenate(narrowed(groups, limit=10))
    projected = x @ components.T
    np.testing.assert_allclose(narrow @ narrow.T, projected @ projected.T, atol=1e-8)
    assert narrowed(groups, limit=WIDTH) is groups


@pytest.fixture(scope="module")
def automatic():
    x, emotions, _ = world(120)
    return fit(x, emotions)


def test_auto_finds_about_as_many_gaussians_as_there_are_stories(automatic):
    assert all(STORIES <= count <= STORIES + 3 for count in automatic.components)


def test_drawn_embeddings_pass_for_real_ones_where_one_gaussian_blends_the_stories(automatic):
    """A nearest-class classifier in the pooled covariance's metric, trained on other real pictures."""
    x, emotions, stories = world(2000, seed=1)
    stories = emotions * STORIES + stories
    half = np.arange(len(x)) % 2 == 0
    by_story = LinearDiscriminantAnalysis(solver="lsqr").fit(x[half], stories[half])

    def accuracy(v, labels):
        return (by_story.predict(v) // STORIES == labels).mean()

    def drawn(gaussians):
        rows = torch.eye(EMOTIONS).repeat_interleave(400, dim=0)
        return gaussians.sample(rows, seed=3).double().numpy(), np.arange(EMOTIONS).repeat(400)

    real = accuracy(x[~half], emotions[~half])
    single = fit(*world(120)[:2], components=1)
    assert real > 0.97
    assert accuracy(*drawn(automatic)) > real - 0.02
    assert accuracy(*drawn(single)) < real - 0.08
    told = by_story.predict(drawn(automatic)[0])
    assert len(np.unique(told)) == EMOTIONS * STORIES


def test_equal_input_and_seed_give_equal_gaussians():
    x, emotions, _ = world(40)
    one, two = fit(x, emotions, components=3, seed=5), fit(x, emotions, components=3, seed=5)
    assert all(torch.equal(getattr(one, part), getattr(two, part)) for part in ("weights", "mean", "factor"))


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_few_pictures_fall_back_to_fewer_gaussians(covariance):
    x, emotions, _ = world(40)
    keep = np.concatenate([np.flatnonzero(emotions == e)[:n] for e, n in enumerate((40, 12, 3, 1))])
    for components in (6, "auto"):
        gaussians = fit(x[keep], emotions[keep], covariance=covariance, components=components)
        assert all(count <= limit for count, limit in zip(gaussians.components, (8, 2, 1, 1), strict=True))
        assert gaussians.sample(torch.eye(4), 0).isfinite().all()


def test_one_picture_takes_its_spread_from_the_other_emotions():
    x, emotions, _ = world(30)
    keep = np.flatnonzero((emotions != 3) | (np.arange(len(x)) == len(x) - 1))
    gaussians = fit(x[keep], emotions[keep], components=1)
    np.testing.assert_allclose(gaussians.mean[3, 0].numpy(), x[-1], atol=1e-6)
    assert 0.3 < np.trace(covariances(gaussians)[3, 0]) / np.trace(covariances(gaussians)[0, 0]) < 3


def test_padding_where_emotions_have_different_numbers():
    x, emotions, _ = world(40)
    keep = np.concatenate([np.flatnonzero(emotions == e)[:n] for e, n in enumerate((40, 40, 40, 6))])
    gaussians = fit(x[keep], emotions[keep], components=3)
    assert gaussians.components == (3, 3, 3, 1)
    torch.testing.assert_close(gaussians.weights.sum(1), torch.ones(4))
    assert gaussians.factor[3, 1:].abs().sum() == 0


def test_data_that_cannot_be_fitted_is_told():
    x, emotions, _ = world(10)
    with pytest.raises(DataError, match="emotion number 3 has no picture"):
        fit(x[emotions != 2], emotions[emotions != 2])
    with pytest.raises(DataError, match="not finite"):
        fit(np.where(x > 1e9, x, np.nan), emotions)
    with pytest.raises(DataError, match="one picture only"):
        fit(x[::10], emotions[::10])
    with pytest.raises(DataError, match="one and the same embedding"):
        fit(np.ones_like(x), emotions)
    with pytest.raises(DataError, match="half precision"):
        fit(x * 1e8, emotions, components=1)


def test_a_handful_of_pictures_gives_one_gaussian_each() -> None:
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(11, 24, generator=generator)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7])
    automatic = fit_gaussians(embeds, labels, 8)
    single = fit_gaussians(embeds, labels, 8, components=1)
    assert automatic.components == (1,) * 8
    assert torch.equal(automatic.mean, single.mean) and torch.equal(automatic.factor, single.factor)
