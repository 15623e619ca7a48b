"""What travels to a worker without shared storage, and what is believed when it comes back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mer_prep.errors import ShardError
from mer_prep.stages.base import build_stages
from mer_prep.stages.errand import Delivery, Errand, by_value, make_errand, put_in_place, run_errand
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.site import differences, look_around, needs_of, packages
from mer_prep.stages.subjects import Subjects
from mer_prep.stages.worker import ClipWork
from mer_prep.store.cache import Cache
from mer_prep.store.shard import clip_image, read_clip
from mer_prep.store.verified import Verified
from mer_prep.workspace import Workspace
from tests.conftest import write_frame
from tests.toys import TOYS, process_toy_clip


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(*build_stages(TOYS, ("change",), {}))


@pytest.fixture
def work(imported: Workspace, recipe: Recipe, tmp_path: Path) -> ClipWork:
    (plan, _) = make_plan(imported, ["toy"], recipe)
    cache = Cache(imported.cache)
    subjects = Subjects(cache, recipe, Verified(cache.folder), lambda text: None)
    subject = subjects.begin(plan)
    subject.locks.close()
    return next(iter(subjects.works(subject, marker=tmp_path)))


def delivered(work: ClipWork) -> Delivery:
    errand = make_errand(work, shares_workspace=False, shares_sources=True)
    return run_errand(process_toy_clip, errand)


def test_parts_come_back_and_are_put_where_they_belong(work: ClipWork) -> None:
    delivery = delivered(work)
    assert [path.exists() for path in work.targets.values()] == [False, False]
    report = put_in_place(delivery, work)
    assert report.done == ["means", "change"]
    clip_id = work.clip.clip_id
    means = read_clip(work.targets["means"], clip_id, ["mean"])[0]["mean"]
    change = read_clip(work.targets["change"], clip_id, ["change"])[0]["change"]
    np.testing.assert_array_equal(change, means - means[2])


def test_what_comes_back_damaged_is_not_put_in_place(work: ClipWork) -> None:
    delivery = delivered(work)
    image = bytearray(delivery.parts["change"])
    bad = dataclasses.replace(delivery, parts={"change": bytes(image[: len(image) // 2])})
    assert "sent back is damaged" in put_in_place(bad, work).crash
    assert list(work.targets["change"].parent.iterdir()) == []


def test_what_belongs_to_another_key_is_not_put_in_place(work: ClipWork) -> None:
    delivery = delivered(work)
    other = dataclasses.replace(work, keys={**work.keys, "means": "0" * 64})
    assert "A worker sent back" in put_in_place(delivery, other).crash
    assert not work.targets["means"].exists()


def test_inputs_go_along_with_the_clip(work: ClipWork) -> None:
    put_in_place(delivered(work), work)
    second = dataclasses.replace(
        work,
        targets={"change": work.targets["change"]},
        available={"means": work.targets["means"]},
    )
    before = work.targets["change"].read_bytes()
    work.targets["change"].unlink()
    errand = make_errand(second, shares_workspace=False, shares_sources=True)
    work.targets["means"].unlink()
    delivery = run_errand(process_toy_clip, errand)
    assert (delivery.report.done, delivery.report.decoded) == (["change"], 0)
    put_in_place(delivery, second)
    assert work.targets["change"].read_bytes() == before


def test_another_copy_of_the_frames_is_hashed_before_it_is_used(work: ClipWork) -> None:
    errand = Errand(work, shares_sources=False)
    assert run_errand(process_toy_clip, errand).report.crash == ""
    write_frame(Path(work.clip.root) / work.clip.frames[1], 7)
    report = run_errand(process_toy_clip, errand).report
    assert report.crash.startswith("SourceError: The frames on ")
    assert report.done == []
    (Path(work.clip.root) / work.clip.frames[1]).unlink()
    assert "missing" in run_errand(process_toy_clip, errand).report.crash


def test_an_image_of_a_clip_that_is_not_there_is_an_error(work: ClipWork) -> None:
    put_in_place(delivered(work), work)
    with pytest.raises(ShardError, match="no clip toy/sub01/other"):
        clip_image(work.targets["means"], "toy/sub01/other")


def test_a_call_by_value_gives_the_result() -> None:
    import pickle

    assert pickle.loads(by_value()(pickle.dumps((divmod, 7, 2)))) == (3, 1)


def test_a_process_sees_its_own_workspace_and_frames(
    imported: Workspace, recipe: Recipe, tmp_path: Path
) -> None:
    clips = imported.clips("toy")
    with needs_of(recipe, clips, imported.cache) as needs:
        sight = look_around(needs)
        assert (sight.workspace, sight.blind) == (True, ())
        assert not look_around(dataclasses.replace(needs, word="another")).workspace
        frame = Path(clips[0].root) / clips[0].frames[0]
        frame.write_bytes(frame.read_bytes() + b"0")
        assert look_around(needs).blind == (str(frame),)
    assert not look_around(needs).workspace
    assert list(imported.cache.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("numpy", "1.0"),
        ("mer-prep", "9"),
        ("version of stage means", "7"),
        ("parameters of stage means", "{}"),
    ],
)
def test_whatever_enters_the_key_makes_a_difference(
    imported: Workspace, recipe: Recipe, what: str, value: str
) -> None:
    with needs_of(recipe, imported.clips("toy"), imported.cache) as needs:
        ours = look_around(needs).facts
    assert differences(ours, ours) == []
    assert differences({**ours, what: value}, ours) == [f"{what} {value} instead of {ours[what]}"]


def test_libraries_and_model_files_enter_the_comparison(imported: Workspace) -> None:
    from mer_prep.stages import all_stages

    recipe = Recipe(*build_stages(all_stages(), ("flow",), {}))
    with needs_of(recipe, imported.clips("toy"), imported.cache) as needs:
        facts = look_around(needs).facts
    assert {
        "opencv of stage align",
        "dlib of stage landmarks",
        "predictor of stage landmarks",
        "engine of stage flow",
    } <= facts.keys()
    assert packages()()["numpy"] == facts["numpy"] == np.__version__
