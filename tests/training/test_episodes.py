"""Episodes: no clip is on both sides, and every step draws the same ones again."""

from __future__ import annotations

import collections

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as some  # noqa: E402

from mer_prep.dataset import ClipStore  # noqa: E402
from mer_prep.errors import ConfigError, TrainingError  # noqa: E402
from mer_prep.training.episodes import Episodes, by_class, support  # noqa: E402
from mer_prep.training.loading import Draw, batches  # noqa: E402
from mer_prep.training.machine import Machine  # noqa: E402
from mer_prep.training.start import View  # noqa: E402
from tests.bars import CLIPS  # noqa: E402


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def made(clips, samples=1):
    """Return samples by class; clips are numbered through, class after class."""
    found, number = {}, 0
    for label, count in enumerate(clips):
        numbers = range(number, number + count)
        found[label] = [(clip, row) for clip in numbers for row in range(samples)]
        number += count
    return found


@settings(max_examples=60, deadline=None)
@given(
    clips=some.lists(some.integers(0, 9), min_size=2, max_size=6),
    samples=some.integers(1, 3),
    ways=some.integers(2, 5),
    shots=some.integers(1, 6),
    queries=some.integers(1, 4),
    seed=some.integers(0, 10**6),
)
def test_no_clip_is_on_both_sides(clips, samples, ways, shots, queries, seed):
    usable = [label for label, count in enumerate(clips) if count >= 2]
    groups = made(clips, samples)
    episodes = Episodes(ways, shots, queries, 3)
    if len(usable) < 2:
        with pytest.raises(TrainingError, match="There are no episodes"):
            episodes.draw(groups, generator=generator(seed))
        return
    home = {sample: label for label, part in groups.items() for sample in part}
    found = episodes.draw(groups, generator=generator(seed))
    assert found == episodes.draw(groups, generator=generator(seed))
    assert len(found) == 3
    for episode in found:
        each = shots + queries
        blocks = [episode[start : start + each] for start in range(0, len(episode), each)]
        labels = [{home[sample] for sample in block} for block in blocks]
        assert [len(one) for one in labels] == [1] * min(ways, len(usable))
        chosen = [one for part in labels for one in part]
        assert len(set(chosen)) == len(chosen)
        assert set(chosen) <= set(usable)
        for block in blocks:
            sides = [{clip for clip, _ in part} for part in (block[:shots], block[shots:])]
            assert not sides[0] & sides[1]
            # Nothing is drawn twice while there is something else.
            count = clips[home[block[0]]]
            assert len(sides[1]) == min(queries, count - 1)
            assert len(sides[0]) == min(shots, count - len(sides[1]))


def test_legacy_episodes_ask_about_what_they_showed():
    groups = made([6, 6])

    def shared(apart):
        episodes = Episodes(2, 5, 1, 200, apart).draw(groups, generator=generator())
        return sum(
            episode[start + 5] in episode[start : start + 5]
            for episode in episodes
            for start in (0, 6)
        )

    assert shared(True) == 0
    # Of 11 other copies 5 are shown, and one of the 11 is that of the clip asked about.
    assert shared(False) / 400 == pytest.approx(5 / 11, abs=0.08)


def test_every_class_and_clip_has_its_turn():
    groups = made([4, 5, 6])
    found = Episodes(2, 2, 1, 300).draw(groups, generator=generator())
    counts = collections.Counter(sample for episode in found for sample in episode)
    assert len(counts) == 15
    # A class is in two of three episodes, with three of its clips.
    for label, part in groups.items():
        for sample in part:
            assert counts[sample] == pytest.approx(300 * 2 / 3 * 3 / (4, 5, 6)[label], rel=0.3)


def test_support_is_drawn_once_by_its_seed():
    groups = made([9, 2, 4])
    found = support(groups, 4, generator=generator(3))
    assert [len(one) for one in found.values()] == [4, 2, 4]
    assert all(set(part) <= set(groups[label]) for label, part in found.items())
    assert found == support(groups, 4, generator=generator(3))
    assert found != support(groups, 4, generator=generator(4))
    everything = support(groups, 0, generator=generator(3))
    assert {label: sorted(part) for label, part in everything.items()} == groups


@pytest.fixture(scope="module")
def store():
    return ClipStore(CLIPS)


def drawn(store, **changes):
    view = View(64, 1, store.statistics([one.clip_id for one in CLIPS]))
    samples = store.samples([one.clip_id for one in CLIPS])
    episodes = Episodes(3, 2, 1, 4)
    return Draw(samples, view, 16, "fold", 1, episodes=episodes, **changes)


def test_a_step_has_its_episodes_in_a_row(store):
    draw = drawn(store)
    assert {label: len(part) for label, part in by_class(store, draw.samples).items()} == {
        0: 6,
        1: 6,
        2: 6,
    }
    batch = draw.batch(store, 7)
    assert batch.frames.shape[0] == 4 * 3 * 3
    assert batch.episodes.tolist() == [one for one in range(4) for _ in range(9)]
    assert batch.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] * 4
    again = draw.batch(store, 7)
    assert torch.equal(batch.frames, again.frames)
    assert not torch.equal(batch.frames, draw.batch(store, 8).frames)
    assert set(draw.clips(store, 7)) <= {one.clip_id for one in CLIPS}


def test_processes_take_whole_episodes(store):
    whole = drawn(store).batch(store, 2)
    for rank in range(2):
        part = drawn(store, rank=rank, world=2).batch(store, 2)
        mine = whole.episodes % 2 == rank
        assert torch.equal(part.frames, whole.frames[mine])
        assert torch.equal(part.labels, whole.labels[mine])
        assert part.episodes.tolist() == [one for one in range(2) for _ in range(9)]
    with pytest.raises(ConfigError, match="4 episodes a step cannot be dealt evenly to 3"):
        next(batches(store, drawn(store), Machine(world=3), range(1)))
