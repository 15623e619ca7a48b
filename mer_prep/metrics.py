"""Scores of recognisers, pooled over all folds, and of flow and landmarks.

All scores of classes come from one confusion matrix over the predictions of all folds, with a
fixed list of classes. There is no function that averages scores over folds: on LOSO folds, most
of which lack a class, such averages say something else, and a perfect recogniser does not reach 1.

References
----------
.. [1] J. See, M. H. Yap, J. Li, X. Hong, S.-J. Wang, "MEGC 2019 - the second facial
   micro-expressions grand challenge", FG 2019. doi:10.1109/FG.2019.8756611
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ManifestError
from mer_prep.ops.similarity import eye_centre_distance, eye_distance

#: Distances that `landmark_errors` divides by.
NORMALISERS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "eye-centres": eye_centre_distance,
    "outer-corners": eye_distance,
}

#: The scores of classes in the order of tables, and their names for people.
SCORES: Mapping[str, str] = {"uf1": "UF1", "uar": "UAR", "acc": "Acc", "wf1": "WF1"}

#: Landmark error above which a frame counts as failed.
FAILURE_LIMIT = 0.1


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class.

    Parameters
    ----------
    f1, precision, recall : float
        2 TP / (2 TP + FP + FN), TP / (TP + FP) and TP / (TP + FN), 0 to 1; 0 where there is
        nothing to divide.
    support : int
        Clips of the class.
    """

    f1: float
    precision: float
    recall: float
    support: int


@dataclass(frozen=True)
class Scores:
    """Scores of a recogniser, from one pooled confusion matrix.

    Parameters
    ----------
    accuracy : float
        Part of the clips that are right.
    uf1 : float
        Unweighted F1: the mean of the F1 of all classes.
    uar : float
        Unweighted average recall: the mean of the recall of all classes.
    wf1 : float
        F1 weighted by the clips of the classes.
    classes : mapping of str to ClassScores
        Scores by class.
    confusion : ndarray, shape (C, C), int64
        Clips of class i taken for class j.
    """

    accuracy: float
    uf1: float
    uar: float
    wf1: float
    classes: Mapping[str, ClassScores]
    confusion: np.ndarray

    @property
    def clips(self) -> int:
        """Number of clips scored."""
        return int(self.confusion.sum())

    def summary(self) -> dict[str, float]:
        """Return the four scores by name."""
        return {"acc": self.accuracy, "uf1": self.uf1, "uar": self.uar, "wf1": self.wf1}


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, *, classes: int) -> np.ndarray:
    """Return how often a class was taken for another.

    Parameters
    ----------
    labels, predicted : array_like, shape (N,), int
        True and predicted classes, 0 to `classes` - 1.
    classes : int
        Number of classes C, fixed by the task and not by what occurs.

    Returns
    -------
    ndarray, shape (C, C), int64
        Row: true class; column: predicted class.

    Raises
    ------
    ValueError
        If lengths differ, there is nothing to score, or a class is out of range.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.shape != predicted.shape or labels.ndim != 1 or not labels.size:
        raise ValueError(
            f"labels and predictions must be as many and at least one, not {labels.shape} and "
            f"{predicted.shape}"
        )
    for name, values in (("labels", labels), ("predicted", predicted)):
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"'{name}' must be whole numbers, not {values.dtype}")
        if values.min() < 0 or values.max() >= classes:
            raise ValueError(f"'{name}' must lie in 0 to {classes - 1}")
    counts = np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def scores_of(confusion: np.ndarray, names: Sequence[str]) -> Scores:
    """Return all scores of a pooled confusion matrix.

    Parameters
    ----------
    confusion : ndarray, shape (C, C), int
        See `confusion_matrix`; sums of it over folds are pooled scores.
    names : sequence of str
        Names of the classes.

    Notes
    -----
    As in [1]_: ``UF1 = mean_c 2 TP_c / (2 TP_c + FP_c + FN_c)``, ``UAR = mean_c TP_c / N_c``; 0
    divided by 0 counts as 0.
    """
    confusion = np.asarray(confusion, np.int64)
    if confusion.shape != (len(names), len(names)):
        raise ValueError(f"{len(names)} classes need a square matrix, not {confusion.shape}")
    right = np.diag(confusion).astype(np.float64)
    support, taken = confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = _ratio(2 * right, support + taken)
    precision, recall = _ratio(right, taken), _ratio(right, support)
    total = confusion.sum()
    return Scores(
        accuracy=float(right.sum() / total),
        uf1=float(f1.mean()),
        uar=float(recall.mean()),
        wf1=float((support * f1).sum() / total),
        classes={
            name: ClassScores(float(f), float(p), float(r), int(n))
            for name, f, p, r, n in zip(names, f1, precision, recall, support, strict=True)
        },
        confusion=confusion,
    )


def score(labels: ArrayLike, predicted: ArrayLike, names: Sequence[str]) -> Scores:
    """Return all scores of the predictions of all folds together.

    Parameters
    ----------
    labels, predicted : array_like, shape (N,), int
        True and predicted classes of every clip that was tested.
    names : sequence of str
        Names of all classes of the task.
    """
    return scores_of(confusion_matrix(labels, predicted, classes=len(names)), names)


def largest_class(labels: ArrayLike, names: Sequence[str]) -> tuple[str, Scores]:
    """Return the class with the most clips, and the scores of always saying it.

    Parameters
    ----------
    labels : array_like, shape (N,), int
        True classes; of classes of one size the first counts.
    names : sequence of str
        Names of all classes of the task.
    """
    labels = np.asarray(labels)
    largest = int(np.bincount(labels, minlength=len(names)).argmax())
    return names[largest], score(labels, np.full_like(labels, largest), names)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros(above.shape), where=below > 0)


@dataclass(frozen=True)
class ConfidenceInterval:
    """A confidence interval of a score.

    Parameters
    ----------
    low, high : float
        Ends of the interval.
    lacking : float
        Part of the resamplings, 0 to 1, that lacked a class and were averaged over the others; 0
        for scores that average over no classes.
    """

    low: float
    high: float
    lacking: float = 0.0


def resample_subjects(counts: np.ndarray, *, rounds: int, seed: int) -> np.ndarray:
    """Return the summed counts of subjects drawn with replacement.

    Clips of one person are alike, so it is subjects that are drawn, each with all that belongs to
    it, and as many as there are.

    Parameters
    ----------
    counts : ndarray, shape (S, ...), int
        Whatever is counted of every subject.
    rounds : int
        Number of resamplings R, at least 1.
    seed : int
        Seed of the resampling.

    Returns
    -------
    ndarray, shape (R, ...), int64
        Sums over the subjects of every draw.

    Raises
    ------
    ConfigError
        If the number of rounds is out of range.

    References
    ----------
    B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    check_range("rounds", rounds, low=1)
    people = len(counts)
    drawn = np.random.default_rng(seed).integers(0, people, (rounds, people))
    # How often every subject is drawn, by round: a table of it is small, one of counts is not.
    places = drawn + people * np.arange(rounds)[:, None]
    times = np.bincount(places.ravel(), minlength=rounds * people).reshape(rounds, people)
    return np.tensordot(times, np.asarray(counts, np.int64), axes=1)


def percentile_interval(
    scores: np.ndarray, *, level: float = 0.95, lacking: float = 0.0
) -> ConfidenceInterval:
    """Return the interval that holds the middle part of resampled scores.

    Parameters
    ----------
    scores : ndarray, shape (R,), float
        Score of every resampling.
    level : float
        Part of the scores inside the interval, 0 to 1, both excluded.
    lacking : float
        See `ConfidenceInterval`.

    Raises
    ------
    ConfigError
        If the level is out of range.
    """
    check_range("level", level, low=0, high=1 - 1e-9, open_low=True)
    low, high = np.percentile(scores, [50 * (1 - level), 50 * (1 + level)])
    return ConfidenceInterval(float(low), float(high), lacking)


def bootstrap(
    labels: ArrayLike,
    predicted: ArrayLike,
    subjects: Sequence[str],
    names: Sequence[str],
    *,
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> dict[str, ConfidenceInterval]:
    """Return confidence intervals of the four scores, by resampling subjects.

    Parameters
    ----------
    labels, predicted : array_like, shape (N,), int
        True and predicted classes.
    subjects : sequence of str
        Subject of every clip, named across corpora.
    names : sequence of str
        Names of all classes.
    level : float
        Part of the resampled scores inside the interval, 0 to 1, both excluded.
    rounds : int
        Number of resamplings.
    seed : int
        Seed of the resampling.

    Returns
    -------
    dict of str to ConfidenceInterval
        Percentile intervals of ``acc``, ``uf1``, ``uar`` and ``wf1``; those of ``uf1`` and ``uar``
        say how many of the draws lacked a class.

    Raises
    ------
    ConfigError
        If the level or the number of rounds is out of range.

    Notes
    -----
    See `resample_subjects`. A draw without the only subjects who show a class has no F1 and no
    recall of it. Counting them as 0 would pull the interval down, that of a perfect recogniser
    too, so UF1 and UAR of a draw are means over the classes that occur in the truth of the draw. A
    class that occurs nowhere in `labels` counts as 0 in `score`, and so it does in every draw:

    ``UF1_draw = (K / C) mean_(c in draw) F1_c``, with K of the C classes in `labels`.

    The draws that lack a class are scored on an easier or a harder task than the others. Where
    they are many, the interval is of a mixture of the two: read it with its `lacking`.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    people, of = np.unique(np.asarray(subjects), return_inverse=True)
    per_subject = np.stack(
        [
            confusion_matrix(labels[of == one], predicted[of == one], classes=len(names))
            for one in range(len(people))
        ]
    )
    drawn = resample_subjects(per_subject, rounds=rounds, seed=seed)
    right = np.diagonal(drawn, axis1=1, axis2=2)
    support, taken = drawn.sum(axis=2), drawn.sum(axis=1)
    f1, recall = _ratio(2 * right, support + taken), _ratio(right, support)
    total = support.sum(axis=1)
    occurring = per_subject.sum(axis=(0, 2)) > 0
    present = support > 0
    # Absent classes have an F1 and a recall of 0, so that sums are over those that are present.
    scale = occurring.mean() / present.sum(axis=1)
    lacking = float((present.sum(axis=1) < occurring.sum()).mean())
    return {
        "acc": percentile_interval(right.sum(axis=1) / total, level=level),
        "uf1": percentile_interval(f1.sum(axis=1) * scale, level=level, lacking=lacking),
        "uar": percentile_interval(recall.sum(axis=1) * scale, level=level, lacking=lacking),
        "wf1": percentile_interval((support * f1).sum(axis=1) / total, level=level),
    }


@dataclass(frozen=True)
class Comparison:
    """McNemar's test of two recognisers on the same clips.

    Parameters
    ----------
    only_first, only_second : int
        Clips that only the first, or only the second, has right.
    p_value : float
        Probability of a difference at least as large if both are equally good; two-sided, exact.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(
    labels: Mapping[str, int], first: Mapping[str, int], second: Mapping[str, int]
) -> Comparison:
    """Compare two recognisers on the same clips.

    Parameters
    ----------
    labels, first, second : mapping of str to int
        True class, and that of the two recognisers, by clip id.

    Raises
    ------
    ManifestError
        If the clips are not the same.

    References
    ----------
    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12, 1947. doi:10.1007/BF02295996
    """
    from scipy.stats import binomtest

    for name, other in (("first", first), ("second", second)):
        different = sorted(labels.keys() ^ other.keys())
        if different:
            raise ManifestError(
                f"The {name} run is not of the same clips: {', '.join(different[:5])}.",
                why="recognisers can only be compared on the same clips",
            )
    only_first = sum(first[one] == truth != second[one] for one, truth in labels.items())
    only_second = sum(second[one] == truth != first[one] for one, truth in labels.items())
    unlike = only_first + only_second
    p_value = 1.0 if not unlike else float(binomtest(only_first, unlike, 0.5).pvalue)
    return Comparison(only_first, only_second, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for several tests at once.

    Parameters
    ----------
    p_values : sequence of float
        Of every test, 0 to 1.

    Returns
    -------
    list of float
        In the same order; rejecting those below a level a, at least one wrongly with a probability
        of at most a, whatever the tests have to do with one another.

    Notes
    -----
    ``p'_(i) = max_(j <= i) min(1, (m - j + 1) p_(j))`` for the m values in ascending order.

    References
    ----------
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda one: p_values[one])
    found, highest = [0.0] * len(p_values), 0.0
    for rank, one in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[one]))
        found[one] = highest
    return found


def landmark_errors(
    found: np.ndarray, true: np.ndarray, *, normaliser: str = "eye-centres"
) -> np.ndarray:
    """Return the normalised mean error of the landmarks of every frame.

    Parameters
    ----------
    found, true : ndarray, shape (T, 68, 2)
        Landmarks in px.
    normaliser : {'eye-centres', 'outer-corners'}
        The true distance that is divided by: that of the eye centres, each the mean of the six
        points of an eye, as in [2]_, or that of the outer eye corners (points 36 and 45), as in
        the 300-W challenge [3]_. The latter is longer, so its errors are smaller.

    Returns
    -------
    ndarray, shape (T,), float64
        ``mean_i |p_i - q_i| / d`` over the points p with truth q; unitless.

    Raises
    ------
    ConfigError
        If there is no such normaliser.
    ValueError
        If shapes do not fit.

    References
    ----------
    .. [2] Z. Shao et al., "MOL: Joint Estimation of Micro-Expression, Optical Flow, and Landmark
       via Transformer-Graph-Style Convolution", IEEE TPAMI, 2025. arXiv:2506.14511.
    .. [3] C. Sagonas et al., "300 Faces In-The-Wild Challenge: database and results", Image and
       Vision Computing 47, 2016. doi:10.1016/j.imavis.2016.01.002
    """
    check_option("normaliser", normaliser, NORMALISERS)
    found, true = np.asarray(found, np.float64), np.asarray(true, np.float64)
    if found.shape != true.shape or true.ndim != 3 or true.shape[1:] != (68, 2):
        raise ValueError(f"landmarks must have shape (T, 68, 2): {found.shape}, {true.shape}")
    distance = NORMALISERS[normaliser](true)
    return np.linalg.norm(found - true, axis=-1).mean(axis=1) / distance


def failure_rate(errors: np.ndarray, *, limit: float = FAILURE_LIMIT) -> float:
    """Return the part of frames whose `landmark_errors` exceed a limit."""
    return float((np.asarray(errors) > limit).mean())


def endpoint_errors(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the end-point error of every flow.

    Parameters
    ----------
    found, true : ndarray, shape (P, 2, H, W)
        Flow (u, v) in px.

    Returns
    -------
    ndarray, shape (P,), float64
        Mean over pixels of ``sqrt((u - u*)^2 + (v - v*)^2)``, px.
    """
    found, true = np.asarray(found, np.float64), np.asarray(true, np.float64)
    if found.shape != true.shape or true.ndim != 4 or true.shape[1] != 2:
        raise ValueError(f"flow must have shape (P, 2, H, W): {found.shape}, {true.shape}")
    return np.hypot(*np.moveaxis(found - true, 1, 0)).mean(axis=(1, 2))
