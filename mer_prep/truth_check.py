"""Scores what is in the shards against the truth of synthetic corpora."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mer_prep.errors import ManifestError
from mer_prep.evaluation import TruthScores, evaluate_truth, key_frame_errors
from mer_prep.stages.key_frames import KEY_FRAMES
from mer_prep.stages.plan import SubjectPlan
from mer_prep.store.shard import open_clip, read_clip
from mer_prep.synth.truth import read_truth, truth_path
from mer_prep.workspace import Workspace


@dataclass(frozen=True)
class CorpusScores:
    """Scores of the clips of one corpus."""

    corpus: str
    clips: tuple[TruthScores, ...]


def synthetic_corpora(workspace: Workspace, names: Sequence[str]) -> list[str]:
    """Return those of the corpora that have a truth.

    Raises
    ------
    ManifestError
        If none has.
    """
    found = [name for name in names if truth_path(Path(workspace.record(name).root)).is_file()]
    if not found:
        raise ManifestError(
            "None of these corpora has a truth to compare with.",
            where=", ".join(names),
            hint="only synthetic corpora have one: `mer-prep synth`, then `mer-prep import`",
        )
    return found


def score_plans(
    workspace: Workspace,
    plans: Sequence[SubjectPlan],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[CorpusScores]:
    """Score every clip whose alignment and flow are in the shards of the plans.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    plans : sequence of SubjectPlan
        Up-to-date plans of a recipe with the stages align, flow and, for the errors of the key
        frames, apex.
    progress : callable
        Called with (clips scored, clips to score).
    """
    total = sum(len(plan.clips) for plan in plans)
    done = 0
    by_corpus: dict[str, list[TruthScores]] = {}
    for plan in plans:
        truth = truth_path(Path(workspace.record(plan.corpus).root))
        scores = by_corpus.setdefault(plan.corpus, [])
        for clip in plan.clips:
            done += 1
            failed = {
                failure.clip_id
                for name in ("flow", "apex")
                if name in plan.shards
                for failure in plan.shards[name].failures
            }
            if clip.clip_id not in failed:
                name = clip.clip_id.partition("/")[2]
                scores.append(_score(plan, clip.clip_id, name, truth))
            progress(done, total)
    return [CorpusScores(corpus, tuple(scores)) for corpus, scores in by_corpus.items()]


def _score(plan: SubjectPlan, clip_id: str, name: str, truth_file: Path) -> TruthScores:
    aligned, _ = read_clip(
        plan.shards["align"].path, clip_id, ("landmarks", "transform", "frame_numbers")
    )
    truth = read_truth(truth_file, name)
    numbers = [int(number) for number in aligned["frame_numbers"]]
    rows = [truth.position(number) for number in numbers]
    with open_clip(plan.shards["flow"].path, clip_id, ("flow", "pairs")) as (flow, _):
        scores = evaluate_truth(
            clip_id,
            landmarks=aligned["landmarks"],
            transforms=aligned["transform"],
            flow=flow["flow"],
            pairs=flow["pairs"].whole(),
            true_landmarks=truth.landmarks[rows],
            true_flow=lambda first, second: truth.flow(numbers[first], numbers[second]),
            true_motion=truth.head_motion[rows],
        )
    if "apex" not in plan.shards:
        return scores
    spotted, _ = read_clip(plan.shards["apex"].path, clip_id, ("key_frame_numbers",))
    found = dict(zip(KEY_FRAMES, map(int, spotted["key_frame_numbers"]), strict=True))
    true = {name: int(truth.facts[name]) for name in KEY_FRAMES}
    errors = key_frame_errors(found, true)
    return replace(
        scores,
        apex_error=errors["apex_error"],
        midpoint_error=errors["midpoint_error"],
        onset_error=errors["onset_error"],
        offset_error=errors["offset_error"],
    )
