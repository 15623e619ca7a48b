"""Weights to start from: what fits, what does not, and who must not be tested."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import ClipStore  # noqa: E402
from mer_prep.errors import LeakError, TrainingError  # noqa: E402
from mer_prep.models.mol import Mol  # noqa: E402
from mer_prep.training.checkpoints import read_checkpoint, save_checkpoint  # noqa: E402
from mer_prep.training.fit import Machine  # noqa: E402
from mer_prep.training.initial import (  # noqa: E402
    check_unseen,
    keep_copy,
    lineage,
    load_init,
    read_init,
)
from mer_prep.training.predictions import read_fold  # noqa: E402
from mer_prep.training.study import (  # noqa: E402
    ClipEntry,
    fold_folder,
    open_run,
    read_study,
    run_fold,
)
from tests.bars import CLIPS, FOLDS, SMALLEST, study  # noqa: E402

SEEN = [ClipEntry("wild/a/1", "wild", "wild/a", 0, {}, "ab" * 32)]


def weights(path, *, classes=3, **changes):
    """Write weights of a model with other classes, all of them 1."""
    model = Mol(SMALLEST, classes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1)
    facts = {"model": "mol", "preset": "tiny", "lineage": lineage(SEEN)} | changes
    save_checkpoint(path, model, optimiser=None, step=5, facts=facts)
    return path


def subjects_and_sources(entries) -> dict[str, tuple[str, str]]:
    return {one.clip_id: (one.subject, one.source_digest) for one in entries}


def test_what_fits_is_taken_over_and_the_rest_is_named(tmp_path):
    path = weights(tmp_path / "seven.safetensors", classes=7)
    model = Mol(SMALLEST, 3)
    loaded = load_init(path, model, name="mol")
    last = ("expression.layers.7.bias", "expression.layers.7.weight")
    assert loaded.kept == loaded.unused == last
    assert loaded.tensors == len(model.state_dict()) - 2
    random = sum(model.state_dict()[name].numel() for name in last)
    assert loaded.parameters == sum(one.numel() for one in model.state_dict().values()) - random
    for name, parameter in model.named_parameters():
        assert bool((parameter == 1).all()) == (name not in last)
    assert "2 start at random: expression.layers.7.bias" in str(loaded)


def test_weights_of_something_else_are_refused(tmp_path):
    model = Mol(SMALLEST, 3)
    other = weights(tmp_path / "other.safetensors", model="ststnet")
    with pytest.raises(TrainingError, match="of the model 'ststnet', not 'mol'"):
        load_init(other, model, name="mol")
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(TrainingError, match="The weights are pickled"):
        read_init(tmp_path / "weights.pth")
    with pytest.raises(TrainingError, match="do not say whom they were trained on"):
        read_init(weights(tmp_path / "mute.safetensors", lineage=None))
    small = Mol(dataclasses.replace(SMALLEST, channels=16, hidden=8), 3)
    path = tmp_path / "none.safetensors"
    facts = {"model": "mol", "preset": "paper", "lineage": lineage(SEEN)}
    save_checkpoint(path, torch.nn.Linear(2, 2), optimiser=None, step=1, facts=facts)
    with pytest.raises(TrainingError, match="Not one tensor") as info:
        load_init(path, small, name="mol")
    assert "preset 'paper'" in info.value.hint


def test_whoever_was_seen_is_not_tested(tmp_path):
    entries = study().clips
    path = tmp_path / "x"
    check_unseen(path, lineage(SEEN), subjects_and_sources(entries))
    with pytest.raises(LeakError, match="trained on test/s1, tested here"):
        check_unseen(path, lineage(entries[3:4]), subjects_and_sources(entries))
    # The same recording under another name is the same person.
    renamed = dataclasses.replace(SEEN[0], source_digest=entries[2].source_digest)
    with pytest.raises(LeakError, match="trained on test/s0/c2, tested here"):
        check_unseen(path, lineage([renamed]), subjects_and_sources(entries))
    # What weights started from is seen as well.
    heir = lineage(SEEN, lineage(entries[:1]))
    assert heir["corpora"] == ["test", "wild"]
    with pytest.raises(LeakError, match="test/s0"):
        check_unseen(path, heir, subjects_and_sources(entries))


def test_a_fold_starts_from_weights_and_passes_their_lineage_on(tmp_path):
    path = weights(tmp_path / "init.safetensors", classes=7)
    init, seen = read_init(path)
    assert (init.model, init.preset, init.corpora, init.subjects) == ("mol", "tiny", ("wild",), 1)
    assert seen["subjects"] == ["wild/a"]
    run, fold, store = tmp_path / "run", FOLDS[0], ClipStore(CLIPS)
    made = study(architecture=SMALLEST, init=init)
    open_run(run, made)
    assert read_study(run) == made
    keep_copy(path, run, init)
    path.unlink()
    run_fold(run, made, fold, store, Machine())
    facts = read_fold(fold_folder(run, fold) / "fold.json")
    assert facts["init"]["kept"] == ["expression.layers.7.bias", "expression.layers.7.weight"]
    _, _, kept = read_checkpoint(fold_folder(run, fold) / "checkpoint.safetensors")
    assert kept["lineage"]["corpora"] == ["test", "wild"]
    assert kept["lineage"]["subjects"] == ["test/s1", "test/s2", "wild/a"]
    plain = study(architecture=SMALLEST)
    run_fold(tmp_path / "plain", plain, fold, store, Machine())
    files = [fold_folder(one, fold) / "predictions.csv" for one in (run, tmp_path / "plain")]
    assert files[0].read_text() != files[1].read_text()
