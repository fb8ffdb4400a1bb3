"""EmoGen's parts, against arithmetic by hand and torch's own losses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coemogen_train.errors import DataError
from coemogen_train.methods.attributes import emotion_confidence, read_attributes, shared_confidence
from coemogen_train.methods.emogen import EmoGen, MappingNetwork, attribute_loss, emotion_features, shares
from coemogen_train.methods.emotion_space import EmotionSpace, Pictures
from coemogen_train.methods.learned import Learned
from coemogen_train.methods.loop import prepare


def test_confidence_is_nothing_by_chance_and_near_one_for_an_emotions_own():
    # 30 pictures of emotion 0 and 10 of emotion 1; attributes: everywhere, all of 0, one picture of 1, none.
    labels = torch.tensor([0] * 30 + [1] * 10)
    of_picture = torch.zeros(40, 4, dtype=torch.bool)
    of_picture[:, 0] = True
    of_picture[:30, 1] = True
    of_picture[39, 2] = True
    found = emotion_confidence(of_picture, labels, 2)
    # Balanced, a picture of 0 counts 2/3 and one of 1 counts 2; and one more of each: 21 of 22, 3 of 4.
    expected = torch.tensor([[0, 0], [2 * 21 / 22 - 1, 0], [0, 2 * 3 / 4 - 1], [0, 0]])
    torch.testing.assert_close(found, expected)


def test_attributes_are_read_as_texts_and_averaged_per_picture():
    samples = [
        SimpleNamespace(objects=("Oak_Tree", "boat"), scene="lake"),
        SimpleNamespace(objects=("oak  tree",), scene=None),
        SimpleNamespace(objects=(), scene=None),
    ]
    read = read_attributes(samples, torch.tensor([0, 1, 1]), 2)
    assert read.names == ("oak tree", "boat", "lake")
    alphas = shared_confidence(
        read.of_picture, torch.tensor([[0.0, 0.5], [0.9, 0], [0.3, 0]]), torch.tensor([0, 1, 1])
    )
    torch.testing.assert_close(alphas, torch.tensor([[0, 0.3, 0.1], [0.5, 0, 0], [0, 0, 0]]))


def test_the_attribute_loss_is_cross_entropy_over_cosines():
    torch.manual_seed(0)
    pooled, texts = torch.randn(3, 8), torch.randn(5, 8)
    own = torch.tensor([4, 0, 2])
    alphas = F.one_hot(own, 5).float() * 0.5
    cosines = F.cosine_similarity(pooled[:, None], texts[None], dim=2)
    expected = 0.5 * F.cross_entropy(cosines, own, reduction="none")
    torch.testing.assert_close(attribute_loss(pooled, F.normalize(texts, dim=1), alphas), expected)
    assert attribute_loss(pooled, torch.empty(0, 8), torch.empty(3, 0)).tolist() == [0, 0, 0]


def test_words_begin_at_the_length_asked_for():
    features = torch.randn(20, 768)
    mapper = MappingNetwork(16)
    mapper.begin_at(0.4, features)
    words = mapper(features)
    assert words.shape == (20, 1, 16)
    assert float(words.norm(dim=2).mean().detach()) == pytest.approx(0.4, rel=1e-4)


@pytest.mark.parametrize(
    ("steps", "batch", "accumulate"), [(300, 32, 1), (130_000, 1, 2), (4, 4, 1), (7, 3, 1)]
)
def test_both_parts_together_keep_to_the_budget(config, steps, batch, accumulate):
    whole = config.model_copy(update={"steps": steps, "batch_size": batch, "accumulate": accumulate})
    space, mapping = shares(whole)
    seen = space.steps * space.batch_size, mapping.steps * mapping.batch_size * mapping.accumulate
    assert sum(seen) <= steps * batch * accumulate
    assert sum(seen) > 0.7 * steps * batch * accumulate


class Network(nn.Module):
    """In place of torchvision's ResNet-50."""

    def __init__(self, weights: None, num_classes: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 64, stride=64), nn.Linear(4, num_classes)

    def forward(self, pixels):
        return self.fc(self.conv(pixels).mean((2, 3)))


def test_the_space_may_start_at_imagenets_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.models.resnet50", Network)
    file, pixels = tmp_path / "imagenet.pth", torch.rand(2, 3, 128, 128)
    published = Network(None, 1000)
    torch.save(published.state_dict(), file)
    space = EmotionSpace(3, 128, file)
    seen = []
    space.backbone[1].conv.register_forward_hook(lambda module, args, output: seen.append(output))
    space(Pictures(pixels * 2 - 1, torch.tensor([0, 2])))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = published.conv((pixels - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-4)
    torch.save({"conv.weight": published.conv.weight}, file)
    with pytest.raises(DataError, match=r"differ by conv\.bias"):
        EmotionSpace(3, 128, file)
    file.write_bytes(b"nothing")
    with pytest.raises(DataError, match="does not hold"):
        EmotionSpace(3, 128, file)


def test_a_fit_keeps_to_the_weights_that_its_space_began_with(config, folder, tmp_path):
    (folder / "space").mkdir(parents=True)  # begun from nothing
    file = tmp_path / "imagenet.pth"
    file.write_bytes(b"weights")
    with pytest.raises(DataError, match="other space_weights"):
        EmoGen(file).fit(config, folder)
    assert "ImageNet" in EmoGen.note and EmoGen(file).note != EmoGen.note


def test_checkpoints_of_the_space_that_a_kill_left_are_tidied(config, folder, tiny_resnet):
    ground = prepare(config, folder)
    space = shares(ground.config)[0]
    (space.out / "checkpoints" / "step-00000001").mkdir(parents=True)
    Learned({"features": torch.zeros(18, 768)}, {}).write(space.out)
    features, _ = emotion_features(ground, space)
    assert features.shape == (18, 768) and not (space.out / "checkpoints").exists()
