"""Transformer layers that fuse tokens linearly before, or after, attention.

The paper's term is "linear fusion before attention" (Fu-B-Attn); that it mixes along the axis of
the tokens and halves their number is chosen here.

References
----------
.. [1] A. Vaswani et al., "Attention is all you need", NeurIPS 2017. arXiv:1706.03762
.. [2] R. Xiong et al., "On layer normalization in the transformer architecture", ICML 2020.
   arXiv:2002.04745
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Where tokens are fused: before attention, the paper's proposal, or after it, its ablation.
FUSIONS = ("before", "after")


def fused_count(tokens: int) -> int:
    """Return how many tokens are left of some after a fusion: half of them, rounded up."""
    return (tokens + 1) // 2


class LinearFusion(nn.Module):
    """``X' = [special; A X]``: a learned mixture of all tokens but the special one.

    Parameters
    ----------
    tokens : int
        Tokens N beside the special one. A has ceil(N / 2) rows, which start orthonormal.
    """

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.mixture = nn.Parameter(torch.empty(fused_count(tokens), tokens))
        nn.init.orthogonal_(self.mixture)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, 1 + ceil(N / 2), d) of tokens (B, 1 + N, d), the special one first."""
        return torch.cat([tokens[:, :1], self.mixture @ tokens[:, 1:]], dim=1)


class Attention(nn.Module):
    """Self-attention of several heads.

    Parameters
    ----------
    width : int
        Length d of a token.
    heads : int
        Heads; d is a multiple of them.
    dropout : float
        Part of the attention left out in training.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.enter = nn.Linear(width, 3 * width)
        self.leave = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return new tokens, and where the special one looked.

        Parameters
        ----------
        tokens : Tensor, shape (B, 1 + N, d)
            The special token, and N others.

        Returns
        -------
        tokens : Tensor, shape (B, 1 + N, d)
            What every token gathered.
        attention : Tensor, shape (B, heads, N)
            The attention of the special token to the others, without gradient; with its
            attention to itself it sums to 1.
        """
        parts = self.enter(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        gathered = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0
        )
        with torch.no_grad():
            scores = query[:, :, :1] @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            attention = scores.softmax(-1)[:, :, 0, 1:]
        return self.leave(gathered.transpose(1, 2).flatten(2)), attention


class FusionLayer(nn.Module):
    """One transformer layer, normalised first as in [2]_, that may also fuse its tokens.

    Parameters
    ----------
    tokens : int
        Tokens N beside the special one.
    width, heads : int
        Length d of a token, and heads of the attention.
    hidden : int
        Width of the hidden layer.
    dropout : float
        Part of the features left out in training.
    fusion : {'before', 'after'} or None
        Where the tokens are fused: before attention, so that it sees ceil(N / 2) of them;
        between attention and the hidden layer; or not at all.
    """

    def __init__(
        self,
        tokens: int,
        *,
        width: int,
        heads: int,
        hidden: int,
        dropout: float,
        fusion: str | None,
    ) -> None:
        super().__init__()
        self.place = fusion
        self.fusion = None if fusion is None else LinearFusion(tokens)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads, dropout=dropout)
        self.hidden_norm = nn.LayerNorm(width)
        self.hidden = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, 1 + N', d) of (B, 1 + N, d), and attention as `Attention` does.

        The attention is over the ceil(N / 2) fused tokens with fusion before it, and otherwise
        over all N.
        """
        if self.fusion is not None and self.place == "before":
            tokens = self.fusion(tokens)
        gathered, attention = self.attention(self.attention_norm(tokens))
        tokens = tokens + self.dropout(gathered)
        if self.fusion is not None and self.place == "after":
            tokens = self.fusion(tokens)
        return tokens + self.dropout(self.hidden(self.hidden_norm(tokens))), attention


class TokenFusion(nn.Module):
    """Many tokens into one: local, global and full-face fusion are each such a module.

    A learned special token stands before the tokens, learned positions are added to them, and
    after the layers the special token holds the answer.

    Parameters
    ----------
    tokens : int
        Tokens N.
    layers : int
        Layers; each halves the tokens, but for the last one with fusion after attention: nothing
        would read what it fuses.
    width, heads, dropout : see `FusionLayer`
        Of all layers; their hidden layers are four times as wide as a token.
    fusion : {'before', 'after'}
        See `FusionLayer`.
    """

    def __init__(
        self, tokens: int, *, layers: int, width: int, heads: int, dropout: float, fusion: str
    ) -> None:
        super().__init__()
        self.special = nn.Parameter(0.02 * torch.randn(width))
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.layers = nn.ModuleList()
        for number in range(layers):
            # After the last attention the special token alone is read; a fusion is of no use there.
            unread = fusion == "after" and number == layers - 1
            self.layers.append(
                FusionLayer(
                    tokens,
                    width=width,
                    heads=heads,
                    hidden=4 * width,
                    dropout=dropout,
                    fusion=None if unread else fusion,
                )
            )
            tokens = fused_count(tokens)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused token, and how much each token counted.

        Parameters
        ----------
        tokens : Tensor, shape (B, N, d)
            Tokens.

        Returns
        -------
        fused : Tensor, shape (B, d)
            The special token after all layers.
        attention : Tensor, shape (B, N)
            Attention of the special token in the last layer, mean over heads, carried back to
            the tokens that entered; without gradient, and sums to 1.

        Notes
        -----
        A fused token is a mixture ``A X``, so attention w to the fused tokens becomes ``w |A|``
        on those they were made of, through every fusion that came before the last attention.
        """
        tokens = torch.cat(
            [self.special.expand(len(tokens), 1, -1), tokens + self.positions], dim=1
        )
        mixtures: list[Tensor] = []
        attention = tokens.new_zeros(())
        for layer in self.layers:
            assert isinstance(layer, FusionLayer)
            tokens, weights = layer(tokens)
            attention = weights.mean(1)
            if layer.fusion is not None:
                mixtures.append(layer.fusion.mixture.detach().abs())
        for mixture in reversed(mixtures):
            attention = attention @ mixture
        return tokens[:, 0], attention / attention.sum(-1, keepdim=True)
