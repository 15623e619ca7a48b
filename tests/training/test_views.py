"""Crops, mirror images and smaller pictures of batches."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import Batch, ClipStore  # noqa: E402
from mer_prep.training.views import MIRRORED, centre_view, crop, draw_views, flip, reduce  # noqa: E402
from tests.noise import CLIPS, SIDE, same  # noqa: E402


@pytest.fixture
def batch() -> Batch:
    return ClipStore(CLIPS).batch([(0, 1), (1, 2)])


def test_mirroring_twice_changes_nothing(batch):
    flipped = torch.tensor([True, False])
    once = flip(batch, flipped)
    same(flip(once, flipped), batch)
    torch.testing.assert_close(once.frames[1], batch.frames[1])
    torch.testing.assert_close(once.frames[0], batch.frames[0].flip(-1))
    assert sorted(MIRRORED) == list(range(68))


def test_a_mirrored_flow_points_the_other_way(batch):
    batch.flow[:] = torch.tensor([1.5, -0.5])[:, None, None]
    mirrored = flip(batch, torch.tensor([True, True]))
    assert mirrored.flow[:, :, 0].unique().tolist() == [-1.5]
    assert mirrored.flow[:, :, 1].unique().tolist() == [-0.5]


def test_mirrored_landmarks_stay_on_what_they_mark(batch):
    frames = torch.zeros_like(batch.frames)
    landmarks = torch.zeros_like(batch.landmarks)
    # The outer corner of the right eye, in the left half of the picture.
    frames[..., 5, 2] = 255
    landmarks[:, :, 36] = torch.tensor([2.0, 5.0])
    mirrored = flip(Batch(frames, batch.flow, landmarks, batch.labels), torch.tensor([True, True]))
    x, y = mirrored.landmarks[0, 0, 45].tolist()
    assert (x, y) == (SIDE - 1 - 2, 5)
    assert mirrored.frames[0, 0, int(y), int(x)] == 255


def test_crops_take_flow_and_landmarks_along(batch):
    before = batch.landmarks.clone()
    offsets = torch.tensor([[3, 1], [0, 4]])
    part = crop(batch, offsets, 6)
    torch.testing.assert_close(part.frames[0], batch.frames[0, :, 1:7, 3:9])
    torch.testing.assert_close(part.flow[1], batch.flow[1, ..., 4:10, 0:6])
    torch.testing.assert_close(part.landmarks[0], before[0] - torch.tensor([3.0, 1.0]))
    # A second crop of the same samples starts from where the first did.
    torch.testing.assert_close(batch.landmarks, before)
    same(crop(batch, offsets, 6), part)


def test_views_are_centred_or_follow_their_generator(batch):
    centre = centre_view(batch, 8)
    torch.testing.assert_close(centre.frames, batch.frames[..., 2:10, 2:10])
    drawn = [draw_views(50, 4, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    for one, other in zip(*drawn[:2], strict=True):
        assert torch.equal(one, other)
    offsets, flipped = drawn[2]
    assert not torch.equal(offsets, drawn[0][0])
    assert (offsets.min(), offsets.max()) == (0, 4)
    assert 10 < flipped.sum() < 40


def test_reducing_scales_motion_and_places(batch):
    half = reduce(batch, 2)
    torch.testing.assert_close(half.frames[0, 0, 0, 0], batch.frames[0, 0, :2, :2].mean())
    torch.testing.assert_close(half.flow[0, 0, 0, 0, 0], batch.flow[0, 0, 0, :2, :2].mean() / 2)
    # The centre of the first two px is at 0.5 before and at 0 after.
    batch.landmarks[0, 0, 0] = 0.5
    assert reduce(batch, 2).landmarks[0, 0, 0].tolist() == [0.0, 0.0]
    same(reduce(batch, 1), batch)
