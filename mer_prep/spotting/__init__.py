"""Spotting in long videos: ground truth, matching of intervals, and scores."""

from mer_prep.spotting.files import read_predictions, read_truth, write_truth
from mer_prep.spotting.intervals import Interval, Truth, Video, half_mean_length, iou
from mer_prep.spotting.log import write_log
from mer_prep.spotting.matching import Counts, Match, match_intervals
from mer_prep.spotting.recognition import (
    STRS_MODES,
    Analysis,
    SpotThenRecognise,
    spot_then_recognise,
)
from mer_prep.spotting.scores import SpottingScores, VideoScores, bootstrap_f1, score_spotting
from mer_prep.spotting.truth import corpora_with_recordings, read_ground_truth

__all__ = [
    "STRS_MODES",
    "Analysis",
    "Counts",
    "Interval",
    "Match",
    "SpotThenRecognise",
    "SpottingScores",
    "Truth",
    "Video",
    "VideoScores",
    "bootstrap_f1",
    "corpora_with_recordings",
    "half_mean_length",
    "iou",
    "match_intervals",
    "read_ground_truth",
    "read_predictions",
    "read_truth",
    "score_spotting",
    "spot_then_recognise",
    "write_log",
    "write_truth",
]
