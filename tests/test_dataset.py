from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import Batch, ClipStore, phases  # noqa: E402
from mer_prep.errors import LeakError  # noqa: E402
from mer_prep.stages.pairs import lagged_pairs  # noqa: E402
from tests.noise import CLIPS  # noqa: E402


@pytest.fixture
def store() -> ClipStore:
    return ClipStore(CLIPS)


@pytest.fixture
def batch(store) -> Batch:
    return store.batch([(0, 1), (1, 2)])


def test_phases_are_the_lagged_pairs_of_the_flow():
    samples = phases(27, 8)
    assert samples.shape == (3, 8)
    assert samples[1].tolist() == [1, 4, 7, 10, 13, 16, 19, 22]
    neighbours = np.stack([samples[:, :-1], samples[:, 1:]], axis=-1).reshape(-1, 2)
    np.testing.assert_array_equal(neighbours, lagged_pairs(27, divisor=8))


def test_a_batch_holds_frames_flow_and_landmarks_of_its_samples(store, batch):
    clip = CLIPS[1]
    rows = [2, 5, 8, 11]
    np.testing.assert_array_equal(batch.frames[1].numpy(), clip.frames[rows])
    np.testing.assert_array_equal(batch.flow[1].numpy(), clip.flow[6:9])
    np.testing.assert_array_equal(batch.landmarks[1].numpy(), clip.landmarks[rows])
    assert batch.labels.tolist() == [0, 2]
    assert store.samples(["b", "a"]) == [(1, 0), (1, 1), (1, 2), (0, 0), (0, 1)]


def test_statistics_know_their_clips(store):
    found = store.statistics(["a"])
    values = CLIPS[0].frames.astype(np.float64)
    assert found.mean == pytest.approx(values.mean())
    assert found.deviation == pytest.approx(values.std())
    normal = found.normalise(torch.from_numpy(values))
    assert float(normal.mean()) == pytest.approx(0, abs=1e-6)
    found.check_apart(["b"])
    with pytest.raises(LeakError, match="taken from clips that are tested: a"):
        found.check_apart(["b", "a"])
    both = store.statistics(["a", "b"])
    everything = np.concatenate([one.frames.ravel() for one in CLIPS])
    assert both.deviation == pytest.approx(everything.std())


def test_mean_landmarks_weigh_clips_alike(store):
    means = [clip.landmarks.mean(axis=0) for clip in CLIPS]
    np.testing.assert_allclose(store.mean_landmarks(["a", "b"]), np.mean(means, axis=0), rtol=1e-5)
