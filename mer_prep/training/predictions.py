"""What a fold leaves behind: losses by step, a line for every clip tested, how it came about."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mer_prep.config import parse_json_object
from mer_prep.dataset import Batch
from mer_prep.errors import TrainingError
from mer_prep.metrics import FAILURE_LIMIT, landmark_errors
from mer_prep.models.output import ModelOutput
from mer_prep.records import record_text
from mer_prep.store import disk
from mer_prep.store.text import write_atomic
from mer_prep.training.timing import checked_seconds

Found = Mapping[str, Sequence[tuple[ModelOutput, Batch]]]


def mean_probabilities(outputs: Sequence[tuple[ModelOutput, Batch]]) -> torch.Tensor:
    """Return the probabilities of a clip, shape (n,), float64: the mean over its samples."""
    logits = torch.cat([output.logits for output, _ in outputs])
    return torch.softmax(logits.double(), dim=1).mean(dim=0)


def write_predictions(
    path: Path,
    entries: Mapping[str, Any],
    found: Found,
    *,
    fold: str,
    classes: Sequence[str],
    selection: str,
) -> None:
    """Write one line a clip: its label, the class predicted, and how the auxiliary tasks did.

    Parameters
    ----------
    path : Path
        The file.
    entries : mapping of str to ClipEntry
        The clips by id.
    found : mapping
        What the model gives for every sample, by clip id; see `mer_prep.training.fit.predict`.
    fold : str
        Name of the fold.
    classes : sequence of str
        Names of the classes.
    selection : str
        How the step was chosen; ``LEAKY`` stands in every line that is.
    """
    text = io.StringIO()
    head = ["clip_id", "corpus", "subject", "fold", "selection", "label", "predicted"]
    head += [f"p_{name}" for name in classes]
    head += ["flow_endpoint_error_px", "landmark_error_eye_centres", "landmark_failures", "frames"]
    head += [name for name, _ in part_scores(next(iter(found.values()), ()), classes)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for clip_id, outputs in found.items():
        entry = entries[clip_id]
        mean = mean_probabilities(outputs)
        row = [clip_id, entry.corpus, entry.subject, fold, selection, entry.label]
        row += [int(mean.argmax()), *(repr(float(one)) for one in mean)]
        row += _auxiliary(outputs)
        writer.writerow([*row, *(value for _, value in part_scores(outputs, classes))])
    write_atomic(path, text.getvalue())


def part_scores(
    outputs: Sequence[tuple[ModelOutput, Batch]], classes: Sequence[str]
) -> list[tuple[str, str]]:
    """Return the scores of the parts of a fused model, by column of ``predictions.csv``.

    Parameters
    ----------
    outputs : sequence of (ModelOutput, Batch)
        Those of a clip; scores are the mean over its samples.
    classes : sequence of str
        Names of the classes.
    """
    if not outputs or outputs[0][0].parts is None:
        return []
    columns = []
    for part in outputs[0][0].parts:
        scores = torch.cat([output.parts[part] for output, _ in outputs if output.parts])
        mean = scores.double().mean(dim=0).tolist()
        columns += [(f"{part}: {name}", repr(one)) for name, one in zip(classes, mean, strict=True)]
    return columns


def parts_of_row(row: Mapping[str, str]) -> dict[str, list[float]]:
    """Return the scores of all classes by the part of the model, from ``predictions.csv``."""
    found: dict[str, list[float]] = {}
    for column, value in row.items():
        part, colon, _ = column.partition(": ")
        if colon:
            found.setdefault(part, []).append(float(value))
    return found


def _auxiliary(outputs: Sequence[tuple[ModelOutput, Batch]]) -> list[str | int]:
    """Return end-point error, landmark error, failed frames and frames of one clip."""
    endpoint, landmark = "", ""
    failures = frames = 0
    flows = [(output.flow, batch.flow) for output, batch in outputs if output.flow is not None]
    if flows:
        errors = torch.cat([(found - true).norm(dim=2).flatten(1) for found, true in flows])
        endpoint = repr(float(errors.double().mean()))
    points = [
        (output.landmarks, batch.landmarks[:, 1:])
        for output, batch in outputs
        if output.landmarks is not None
    ]
    if points:
        found, true = (torch.cat(part).flatten(0, 1).numpy() for part in zip(*points, strict=True))
        marked = landmark_errors(found, true, normaliser="eye-centres")
        landmark = repr(float(marked.mean()))
        failures, frames = int((marked > FAILURE_LIMIT).sum()), marked.size
    return [endpoint, landmark, failures, frames]


#: Characters of a file of losses, at most: of its heading, of a number, and read at once.
_LONGEST_HEADING = 1_000
_LONGEST_NUMBER = 32
_CHUNK = 2**16


class LossLog:
    """The losses of every step as CSV.

    The file is read line by line, as it may be long or damaged: no more of it is held than what
    is asked for.

    Parameters
    ----------
    path : Path
        The file. A training that goes on from a checkpoint replaces the steps after it.
    names : sequence of str
        The losses of the training, in the order of the columns; one that a step lacks is left
        empty.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self.names = path, tuple(names)
        self._begun = False

    def add(self, step: int, losses: Mapping[str, float]) -> None:
        """Write the losses of a step."""
        if not self._begun:
            self._begin(step)
            self._begun = True
        values = ",".join(f"{losses[one]:.6g}" if one in losses else "" for one in self.names)
        disk.write_bytes(self.path, f"{step},{values}\n".encode(), mode="ab")

    def _begin(self, begin: int) -> None:
        kept = {}
        if os.path.lexists(self.path):
            # A process that was killed may have left the last line cut off.
            for line in self._lines():
                step = int(line.partition(",")[0])
                if step < begin:
                    kept[step] = line
        heading = ",".join(("step", *self.names))
        write_atomic(self.path, "\n".join([heading, *kept.values()]) + "\n")

    def rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield every step and its losses by name, as far as the step has them."""
        for line in self._lines():
            step, *values = line.split(",")
            named = zip(self.names, values, strict=True)
            yield int(step), {name: float(text) for name, text in named if text}

    def _lines(self) -> Iterator[str]:
        """Yield the lines that hold a step and its losses; others are no loss to anyone."""
        number = r"([+-]?(\d+(\.\d+)?(e[+-]?\d+)?|inf|nan))?"
        line = re.compile(rf"\d{{1,9}}(,{number}){{{len(self.names)}}}", re.ASCII)
        longest = _LONGEST_NUMBER * (len(self.names) + 1)
        if not self.path.is_file():
            return
        with self.path.open(encoding="utf-8", errors="replace") as file:
            before = file.readline(_LONGEST_HEADING)
            while text := file.readline(_CHUNK):
                whole = before.endswith("\n") and text.endswith("\n")
                before = text
                if whole and len(text) <= longest and line.fullmatch(text[:-1]):
                    yield text[:-1]

    @classmethod
    def of(cls, path: Path) -> LossLog:
        """Return the losses of a file with the names that stand in its heading."""
        with path.open(encoding="utf-8", errors="replace") as file:
            return cls(path, file.readline(_LONGEST_HEADING).rstrip("\n").split(",")[1:])

    def last(self, count: int) -> dict[str, float]:
        """Return the mean losses of the last steps by name."""
        rows = [line.split(",")[1:] for line in deque(self._lines(), count)]
        found = {
            name: [float(row[column]) for row in rows if row[column]]
            for column, name in enumerate(self.names)
        }
        return {name: sum(values) / len(values) for name, values in found.items() if values}


def write_fold(path: Path, facts: Mapping[str, Any]) -> None:
    """Write how the result of a fold came about."""
    write_atomic(path, json.dumps(facts, indent=1) + "\n")


def read_fold(path: Path) -> dict[str, Any]:
    """Return how the result of a fold came about.

    Raises
    ------
    TrainingError
        If the file is missing or damaged.
    """
    try:
        facts = parse_json_object(record_text(path))
        for name, kind in _FACTS_OF_A_FOLD.items():
            if not isinstance(facts[name], kind) or isinstance(facts[name], bool):
                raise TypeError(f"'{name}' is {facts[name]!r:.60}")
        for name in ("inner_subjects", "absent_classes"):
            if not all(isinstance(one, str) for one in facts[name]):
                raise TypeError(f"'{name}' is {facts[name]!r:.60}")
        if facts.get("training_seconds") is not None:
            checked_seconds(facts["training_seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"The facts of a fold cannot be read: {error!s:.200}.",
            where=path,
            hint="delete the folder of the fold, and it is trained again",
        ) from None
    return facts


#: What the scores of a run take of the facts of its folds.
_FACTS_OF_A_FOLD = {"step": int, "inner_subjects": list, "absent_classes": list, "computed": dict}
