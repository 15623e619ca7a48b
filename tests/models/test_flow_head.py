from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mer_prep.models.flow_head import FlowHead, correlation  # noqa: E402


@pytest.mark.parametrize(("patch", "dilation"), [(5, 1), (5, 2), (21, 2)])
def test_correlation_against_brute_force(patch, dilation):
    torch.manual_seed(0)
    first, second = torch.randn(2, 3, 4, 6), torch.randn(2, 3, 4, 6)
    found = correlation(first, second, patch=patch, dilation=dilation)
    assert found.shape == (2, patch**2, 4, 6)
    expected = np.zeros(found.shape)
    for a in range(patch):
        for b in range(patch):
            y, x = dilation * (a - patch // 2), dilation * (b - patch // 2)
            for i in range(4):
                for j in range(6):
                    if 0 <= i + y < 4 and 0 <= j + x < 6:
                        products = first[:, :, i, j] * second[:, :, i + y, j + x]
                        expected[:, a * patch + b, i, j] = products.sum(dim=1).numpy()
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_the_published_widths():
    head = FlowHead(128)
    assert sum(parameter.numel() for parameter in head.parameters()) == 39_730_282


def test_a_frame_seen_by_two_pairs_gives_what_the_pairs_alone_give():
    torch.manual_seed(0)
    head = FlowHead(4, scale=0.1, patch=5, dilation=1).eval()
    frames = torch.rand(2, 3, 64, 64)
    firsts, seconds = torch.rand(2, 2, 4, 8, 8), torch.rand(2, 2, 4, 8, 8)
    with torch.no_grad():
        together = head(frames, [firsts.flatten(0, 1), seconds.flatten(0, 1)])
        assert together.shape == (2, 2, 2, 64, 64)
        for clip in range(2):
            for pair in range(2):
                alone = head(
                    frames[clip : clip + 1, pair : pair + 2],
                    [firsts[clip, pair][None], seconds[clip, pair][None]],
                )
                torch.testing.assert_close(alone[0, 0], together[clip, pair], atol=1e-5, rtol=0)
