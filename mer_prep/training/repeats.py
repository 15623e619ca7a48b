"""Several runs of one study that differ in their seeds alone: mean and deviation of the scores."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mer_prep.errors import ConfigError
from mer_prep.store.text import write_atomic

#: Scores that are summed up.
SCORES = ("uf1", "uar", "acc", "wf1")

#: What runs may differ in and still be repetitions of one another.
_MAY_DIFFER = ("seed", "draw_seed")
_SAME = (
    *("model", "preset", "architecture", "training", "labels", "protocol", "selection"),
    *("shuffled_labels", "synthetic", "leaky", "transductive", "classes"),
)


def summary(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation of the scores of several runs.

    Parameters
    ----------
    results : mapping of str to mapping
        ``results.json`` of every run, by the name of its folder; two or more.

    Returns
    -------
    dict
        ``runs`` with the seeds and scores of each; ``mean`` and ``deviation`` by score, the latter
        that of a sample, with n - 1; and what they have in common.

    Raises
    ------
    ConfigError
        If there are fewer than two runs, or they differ in more than their seeds.
    """
    if len(results) < 2:
        raise ConfigError("A mean and a deviation need two runs or more.")
    first = next(iter(results.values()))
    for name, one in results.items():
        differing = [key for key in _SAME if one[key] != first[key]]
        if differing:
            raise ConfigError(
                f"The run is no repetition of the first one: {', '.join(differing)} differ.",
                where=name,
            )
    rows = {
        name: {key: one[key] for key in _MAY_DIFFER}
        | {"clips": one["clips"]}
        | {key: one["scores"]["all"][key] for key in SCORES}
        for name, one in results.items()
    }
    columns = {key: [row[key] for row in rows.values()] for key in SCORES}
    return {
        **{key: first[key] for key in _SAME if key not in ("architecture", "training")},
        "runs": rows,
        "mean": {key: statistics.fmean(values) for key, values in columns.items()},
        "deviation": {key: statistics.stdev(values) for key, values in columns.items()},
        "published": first["published"],
        "published_left_out": first["published_left_out"],
        "note": first["note"],
    }


def write_summary(runs: Sequence[Path]) -> tuple[Path, dict[str, Any]]:
    """Sum up finished runs in ``repeats.json`` in the folder of the first, and return it.

    Parameters
    ----------
    runs : sequence of Path
        Folders of the runs.
    """
    found = summary(
        {run.name: json.loads((run / "results.json").read_text("utf-8")) for run in runs}
    )
    path = runs[0] / "repeats.json"
    write_atomic(path, json.dumps(found, indent=1) + "\n")
    return path, found
