"""Spot-then-recognise: the emotion of what was spotted, and the score of both steps together.

References
----------
.. [1] G.-B. Liong, J. See, C. S. Chan, "Spot-then-recognize: A micro-expression analysis network
   for seamless evaluation of long videos", Signal Processing: Image Communication 110, 2023.
   doi:10.1016/j.image.2022.116875
.. [2] G.-B. Liong, STRS-Metric, https://github.com/genbing99/STRS-Metric, the script that the
   challenges give out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_prep.checks import check_option
from mer_prep.errors import ManifestError
from mer_prep.metrics import scores_of
from mer_prep.spotting.intervals import Interval, Truth
from mer_prep.spotting.matching import THRESHOLD, Counts, check_threshold, overlaps
from mer_prep.spotting.scores import by_video, check_listed, score_spotting

#: See `spot_then_recognise`.
STRS_MODES = ("strict", "reference")


@dataclass(frozen=True)
class Analysis:
    """Recognition of the expressions that were spotted.

    Parameters
    ----------
    f1 : float
        Harmonic mean of `precision` and `recall`: the F1 of the analysis that the STRS takes.
    precision, recall : float
        Means over all classes of TP / (TP + FP) and TP / (TP + FN). The mean recall is the UAR;
        what the reference script prints as UAR is the mean precision.
    uf1 : float
        Mean over all classes of their F1, which is another number than `f1`.
    classes : tuple of str
        Emotions that occur in the annotation or the predictions, sorted.
    confusion : ndarray, shape (C, C), int64
        Pairs whose annotated emotion is i and whose predicted one is j.
    """

    f1: float
    precision: float
    recall: float
    uf1: float
    classes: tuple[str, ...]
    confusion: np.ndarray


@dataclass(frozen=True)
class SpotThenRecognise:
    """The spot-then-recognise score and what it is made of.

    Parameters
    ----------
    strs : float
        F1 of the spotting times F1 of the analysis, 0 to 1.
    spotting : Counts
        Counts of the mode.
    analysis : Analysis
        Recognition of the matched pairs.
    mode : {'strict', 'reference'}
        How they were counted.
    """

    strs: float
    spotting: Counts
    analysis: Analysis
    mode: str


def spot_then_recognise(
    truth: Truth,
    spotted: Sequence[Interval],
    *,
    types: Sequence[str] = ("micro",),
    mode: str = "strict",
    threshold: float = THRESHOLD,
) -> SpotThenRecognise:
    """Return the spot-then-recognise score (STRS).

    Parameters
    ----------
    truth : Truth
        All videos, and the expressions in them with their emotions.
    spotted : sequence of Interval
        With their predicted emotions.
    types : sequence of {'micro', 'macro'}
        Types that are scored together. In mode ``strict`` pairs are of one type.
    mode : {'strict', 'reference'}
        ``strict``: the matching and the videos of `score_spotting`. ``reference``: as the
        reference script [2]_ counts, see the notes.
    threshold : float
        Smallest intersection over union of a match, above 0 and up to 1.

    Returns
    -------
    SpotThenRecognise

    Raises
    ------
    ConfigError
        If the mode or the threshold is out of range.
    ManifestError
        If an expression of the types has no emotion, annotated or predicted, or, in mode
        ``reference``, a video that matters has no subject.

    Notes
    -----
    ``STRS = F1_spotting * F1_analysis`` [1]_, the analysis being of the matched pairs alone. Both
    modes take the harmonic mean of the mean precision and the mean recall for the latter, over
    all emotions that occur anywhere; 0 divided by 0 counts as 0. They differ in three things:

    * The reference script pairs without marking what is taken. A spotted interval that matches
      two expressions is two true positives, and so are two intervals that match one expression.
    * It knows no types. Where several are chosen, a spotted macro-expression that overlaps an
      annotated micro-expression enough is a true positive. Score one type at a time, or state it.
    * It visits only subjects for whom something is spotted, and of these only videos in which
      something is annotated. False positives in all other videos, and false negatives of all
      other subjects, are not counted.

    Where a single emotion occurs in the pairs, or an emotion in none of them, the script of [2]_
    stops with an error or divides by zero; here the same sums are carried through.
    """
    check_option("mode", mode, STRS_MODES)
    check_threshold(threshold)
    check_listed(truth, spotted)
    annotated = [one for one in truth.intervals if one.type in types]
    chosen = [one for one in spotted if one.type in types]
    hint = "score one type alone (--type), or give a ground truth with emotions"
    _check_emotions("annotated", annotated, hint)
    _check_emotions("spotted", chosen, "give every line of the predictions an emotion")
    counts = Counts()
    pairs: list[tuple[Interval, Interval]] = []
    if mode == "strict":
        scores = score_spotting(truth, chosen, types=types, threshold=threshold)
        counts = scores.overall
        for one in scores.videos:
            pairs += [(one.annotated[i], one.spotted[j]) for i, j in one.match.pairs]
    else:
        expressions, guesses = by_video(annotated), by_video(chosen)
        for video in sorted(_visited(truth, annotated, chosen)):
            more, matched = _reference_video(expressions[video], guesses[video], threshold)
            counts += more
            pairs += matched
    classes = tuple(sorted({str(one.emotion) for one in (*annotated, *chosen)}))
    analysis = _analyse(pairs, classes)
    return SpotThenRecognise(counts.f1 * analysis.f1, counts, analysis, mode)


def _check_emotions(what: str, intervals: Sequence[Interval], hint: str) -> None:
    without = [one for one in intervals if not one.emotion]
    if without:
        first = without[0]
        raise ManifestError(
            f"{len(without)} of {len(intervals)} {what} expressions have no emotion; the first is "
            f"{first.type}, {first.onset} to {first.offset}.",
            where=first.video,
            why="the spot-then-recognise score compares emotions",
            hint=hint,
        )


def _visited(
    truth: Truth, annotated: Sequence[Interval], spotted: Sequence[Interval]
) -> frozenset[str]:
    """Return the videos that the reference script looks at.

    Raises
    ------
    ManifestError
        If the subject of a video that matters is not known.
    """
    subjects = {video.name: video.subject for video in truth.videos}
    unknown = [one.video for one in (*annotated, *spotted) if not subjects[one.video]]
    if unknown:
        raise ManifestError(
            f"The subject of video '{unknown[0]}' is not known.",
            why="the reference script passes over subjects for whom nothing is spotted",
            hint="give the ground truth a column 'subject', or take the mode strict",
        )
    seen = {subjects[one.video] for one in spotted}
    return frozenset(one.video for one in annotated if subjects[one.video] in seen)


def _reference_video(
    annotated: Sequence[Interval], spotted: Sequence[Interval], threshold: float
) -> tuple[Counts, list[tuple[Interval, Interval]]]:
    """Count one video as the reference script does: every pair that matches is a true positive."""
    matches = overlaps(annotated, spotted) >= threshold
    counts = Counts(
        tp=int(matches.sum()),
        fp=int((~matches.any(axis=0)).sum()),
        fn=int((~matches.any(axis=1)).sum()),
    )
    return counts, [(annotated[i], spotted[j]) for i, j in np.argwhere(matches)]


def _analyse(pairs: Sequence[tuple[Interval, Interval]], classes: tuple[str, ...]) -> Analysis:
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    for annotated, spotted in pairs:
        confusion[classes.index(str(annotated.emotion)), classes.index(str(spotted.emotion))] += 1
    if not pairs:
        return Analysis(0.0, 0.0, 0.0, 0.0, classes, confusion)
    scores = scores_of(confusion, classes)
    precision = float(np.mean([one.precision for one in scores.classes.values()]))
    recall = scores.uar
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return Analysis(f1, precision, recall, scores.uf1, classes, confusion)
