"""The mapper learns: the paper's bare attention would starve it, ours does not."""

import torch
from torch.nn import functional as F

from coemogen_train.adapter.condition import EmotionEmbedder
from coemogen_train.adapter.encoder import VisualPerceptionEncoder
from coemogen_train.adapter.mapper import NeuroSymbolicMapper

E, W, V, N = 5, 16, 10, 3


def embedder(visual_tokens=4, row_norm=0.4):
    torch.manual_seed(0)
    return EmotionEmbedder(
        NeuroSymbolicMapper(E, W, tokens=N, hidden=32),
        VisualPerceptionEncoder(W, V, visual_tokens=visual_tokens, row_norm=row_norm),
    )


def test_the_mapper_is_two_layers_with_silu():
    mapper = embedder().mapper
    first, _, second = mapper.layers
    emotion = torch.tensor([[0.0, 0.5, 0.0, 0.0, 0.5]])
    hidden = emotion @ first.weight.T + first.bias
    expected = (hidden * torch.sigmoid(hidden)) @ second.weight.T + second.bias
    torch.testing.assert_close(mapper(emotion), expected.reshape(1, N, W))


def test_the_encoder_is_the_papers_attention_with_a_residual_and_a_norm():
    """Against scaled_dot_product_attention, with the tokens of v made by hand."""
    encoder = embedder().encoder
    e, v = torch.randn(2, N, W), torch.randn(2, V)
    tokens = (v @ encoder.to_tokens.weight.T + encoder.to_tokens.bias).reshape(2, 4, W)
    attention = F.scaled_dot_product_attention(
        e @ encoder.to_q.weight.T, tokens @ encoder.to_k.weight.T, tokens @ encoder.to_v.weight.T
    )
    mixed = e + attention
    normed = (mixed - mixed.mean(-1, keepdim=True)) / (
        mixed.var(-1, keepdim=True, unbiased=False) + 1e-5
    ).sqrt()
    torch.testing.assert_close(encoder(e, v), normed * 0.4 / W**0.5, rtol=1e-4, atol=1e-6)


def test_rows_start_with_the_length_of_the_vocabularys():
    rows = embedder(row_norm=0.4)(F.one_hot(torch.arange(E), E).float(), torch.randn(E, V))
    torch.testing.assert_close(rows.norm(dim=-1), torch.full((E, N), 0.4), rtol=1e-2, atol=0)


def test_the_mapper_gets_a_gradient_even_with_one_visual_token():
    """Without the residual path it would get none: the softmax over one key is 1, whatever the emotion."""
    for visual_tokens in (1, 4):
        model = embedder(visual_tokens)
        target = torch.randn(2, N, W)
        (model(F.one_hot(torch.tensor([0, 3]), E).float(), torch.randn(2, V)) * target).sum().backward()
        assert all(parameter.grad.abs().max() > 1e-4 for parameter in model.mapper.parameters())


def test_pseudo_words_differ_by_emotion_for_the_same_picture():
    rows = embedder()(F.one_hot(torch.arange(E), E).float(), torch.randn(1, V).expand(E, V)).flatten(1)
    similarity = F.cosine_similarity(rows[:, None], rows[None], dim=-1)
    assert similarity[~torch.eye(E, dtype=torch.bool)].max() < 0.99


def test_pseudo_words_differ_by_picture_for_the_same_emotion():
    rows = embedder()(F.one_hot(torch.zeros(2, dtype=torch.long), E).float(), torch.randn(2, V))
    assert not torch.allclose(rows[0], rows[1], atol=1e-3)


def test_bf16_autocast_leaves_fp32_gradients():
    model = embedder()
    with torch.autocast("cpu", torch.bfloat16):
        rows = model(torch.eye(E), torch.randn(E, V))
    rows.float().square().sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
