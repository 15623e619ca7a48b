from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from mer_prep.models.frl_dgt.fusion import (  # noqa: E402
    FusionLayer,
    LinearFusion,
    TokenFusion,
    fused_count,
)


def layer(tokens, fusion, *, width=32, heads=4):
    torch.manual_seed(0)
    return FusionLayer(
        tokens, width=width, heads=heads, hidden=4 * width, dropout=0.1, fusion=fusion
    ).eval()


def test_two_plain_layers_have_the_parameters_of_transformer_layers():
    count = 2 * sum(p.numel() for p in layer(9, None, width=128).parameters())
    assert count == 396_544


def test_a_plain_layer_is_the_one_of_torch():
    mine = layer(9, None)
    theirs = nn.TransformerEncoderLayer(
        32, 4, 128, activation="gelu", batch_first=True, norm_first=True
    )
    names = {
        "self_attn.in_proj_": "attention.enter.",
        "self_attn.out_proj.": "attention.leave.",
        "linear1.": "hidden.0.",
        "linear2.": "hidden.3.",
        "norm1.": "attention_norm.",
        "norm2.": "hidden_norm.",
    }
    theirs.load_state_dict(
        {
            old + kind: mine.state_dict()[new + kind]
            for old, new in names.items()
            for kind in ("weight", "bias")
        }
    )
    tokens = torch.randn(3, 10, 32)
    torch.testing.assert_close(mine(tokens)[0], theirs.eval()(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("fusion", "seen", "left"), [("before", 5, 5), ("after", 9, 5), (None, 9, 9)]
)
def test_attention_is_over_fused_tokens_only_with_fusion_before_it(fusion, seen, left):
    tokens, attention = layer(9, fusion)(torch.randn(2, 10, 32))
    assert attention.shape == (2, 4, seen)
    assert tokens.shape == (2, 1 + left, 32)
    assert (attention.sum(-1) < 1).all()
    assert (attention >= 0).all()


def test_fusion_mixes_tokens_and_keeps_the_special_one_apart():
    fusion = LinearFusion(5)
    assert fusion.mixture.shape == (3, 5)
    torch.testing.assert_close(fusion.mixture @ fusion.mixture.T, torch.eye(3))
    tokens = torch.randn(2, 6, 4)
    found = fusion(tokens)
    assert torch.equal(found[:, 0], tokens[:, 0])
    for row in range(3):
        expected = sum(fusion.mixture[row, n] * tokens[:, 1 + n] for n in range(5))
        torch.testing.assert_close(found[:, 1 + row], expected)


def test_half_of_the_tokens_rounded_up():
    assert [fused_count(n) for n in (1, 2, 9, 16)] == [1, 1, 5, 8]


@pytest.mark.parametrize("fusion", ["before", "after"])
def test_attention_is_carried_back_to_the_tokens(fusion):
    torch.manual_seed(0)
    model = TokenFusion(9, layers=2, width=32, heads=4, dropout=0.1, fusion=fusion).eval()
    tokens = torch.randn(3, 9, 32)
    fused, attention = model(tokens)
    assert fused.shape == (3, 32)
    assert attention.shape == (3, 9)
    torch.testing.assert_close(attention.sum(1), torch.ones(3))
    inner = torch.cat([model.special.expand(3, 1, -1), tokens + model.positions], 1)
    first, last = model.layers
    inner, weights = last(first(inner)[0])
    weights = weights.mean(1)
    if fusion == "before":
        weights = weights @ last.fusion.mixture.abs()
    weights = weights @ first.fusion.mixture.abs()
    torch.testing.assert_close(attention, weights / weights.sum(1, keepdim=True))
    assert torch.equal(fused, inner[:, 0])
    assert not attention.requires_grad


def test_a_token_that_no_mixture_takes_counts_nothing():
    model = TokenFusion(4, layers=1, width=8, heads=2, dropout=0, fusion="before").eval()
    with torch.no_grad():
        model.layers[0].fusion.mixture[:, 2] = 0
    _, attention = model(torch.randn(2, 4, 8))
    assert attention[:, 2].tolist() == [0, 0]
    assert (attention[:, [0, 1, 3]] > 0).all()
