"""Writes an export: into a folder of its own, which appears when it is whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep import __version__
from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError
from mer_prep.export.coding import SCALINGS
from mer_prep.export.pictures import is_picture
from mer_prep.export.selection import Item, Selection
from mer_prep.export.target import DESCRIPTION, FOLDS, INDEX, RESTRICTED_MARK, appearing
from mer_prep.export.writers import FORMATS, FolderWriter, WebDatasetWriter, json_text
from mer_prep.manifest import SYNTHETIC_MARK
from mer_prep.records import record_bytes
from mer_prep.stages.base import Field
from mer_prep.store import disk
from mer_prep.store.shard import read_clip

SCHEMA = 1

_RESTRICTED = (
    "Made from licensed corpora ({corpora}). Their licences do not allow to pass on frames, or "
    "what is derived from them: keep this folder to those who have signed.\n"
)
_SYNTHETIC = "Made from synthetic clips of mer-prep: nobody's expression, and no corpus.\n"

#: What results say of the frames that were compared.
_CARRIED = ("onset_number", "onset_source", "apex_number", "apex_source")

#: The columns that tell it, whatever the annotation has.
_USED = {
    "used_onset": "onset_number",
    "used_apex": "apex_number",
    "used_apex_source": "apex_source",
}

#: No dataset has larger values; infinity would code all of them as zero.
LARGEST_RANGE = 1e12

_COLUMNS = (
    "clip_id",
    "corpus",
    "subject",
    "label",
    "class",
    "emotion",
    "fps",
    "onset",
    "apex",
    "apex_source",
    "offset",
    "used_onset",
    "used_apex",
    "used_apex_source",
    "fold",
    "restricted",
    "synthetic",
    "path",
)


@dataclass(frozen=True)
class ExportOptions:
    """How results are written.

    Parameters
    ----------
    format : {'png', 'npy', 'webdataset'}
        See `mer_prep.export.writers`.
    scaling : {'symmetric', 'positive', 'min-max'}
        How PNG pictures of values that are not 8-bit are scaled.
    range : float, optional
        Largest magnitude that is coded, in the dataset's units; by default each clip's own.
    samples_per_shard : int
        Clips of one WebDataset shard, 1 or more.
    preset : str
        Name of the preset that these are from, if any.
    """

    format: str
    scaling: str = "symmetric"
    range: float | None = None
    samples_per_shard: int = 100
    preset: str = ""

    def __post_init__(self) -> None:
        check_option("--to", self.format, FORMATS)
        check_option("--scaling", self.scaling, SCALINGS)
        check_range("--samples-per-shard", self.samples_per_shard, low=1)
        if self.range is not None:
            check_range("--range", self.range, low=0, high=LARGEST_RANGE, open_low=True)
            if self.scaling == "min-max":
                raise ConfigError("The scaling 'min-max' takes its range from every picture.")


def check_content(selection: Selection, options: ExportOptions) -> None:
    """Raise `ConfigError` if a stage gives no picture and pictures are asked for."""
    if options.format == "png" and not any(map(is_picture, selection.stage.fields)):
        raise ConfigError(
            f"The stage '{selection.stage.name}' gives no pictures.",
            hint="use --to npy or --to webdataset",
        )


def write_export(
    selection: Selection,
    out: Path,
    options: ExportOptions,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write an export.

    The folder appears under its name when it is whole, and an earlier one is replaced only then.

    Parameters
    ----------
    selection : Selection
        What to write.
    out : Path
        Where; see `mer_prep.export.target.check_target`.
    options : ExportOptions
        How.
    progress : callable
        Called with (clips written, clips to write).

    Returns
    -------
    dict
        What ``export.json`` says.

    Raises
    ------
    ConfigError
        If pictures are asked for and the stage gives none, or the folder holds files that are
        not of an export.
    LockedError
        If another export to the same folder is running.
    ShardError
        If a shard is damaged.
    """
    check_content(selection, options)
    with appearing(out.resolve()) as folder:
        # First, so that what a killed export leaves behind has them too.
        _write_marks(folder, selection)
        writer: FolderWriter | WebDatasetWriter
        if options.format == "webdataset":
            writer = WebDatasetWriter(folder, samples_per_shard=options.samples_per_shard)
        elif options.format == "png":
            writer = FolderWriter(folder, scaling=options.scaling, largest=options.range)
        else:
            writer = FolderWriter(folder)
        rows = []
        try:
            for number, item in enumerate(selection.items, start=1):
                fields, arrays, attributes = _content(item, selection)
                facts = _clip_facts(item, selection)
                facts["frame_numbers"] = arrays.pop("frame_numbers").tolist()
                facts["attributes"] = attributes
                facts |= {name: attributes.get(key) for name, key in _USED.items()}
                path = writer.add(item.clip.clip_id, facts, fields, arrays)
                rows.append({**facts, "path": path})
                progress(number, len(selection.items))
        finally:
            writer.close()
        _write_index(folder / INDEX, rows)
        description = _description(selection, options, writer)
        disk.write_text(folder / DESCRIPTION, json_text(description))
        if selection.folds is not None:
            disk.write_bytes(folder / FOLDS, record_bytes(selection.folds))
    return description


def _content(
    item: Item, selection: Selection
) -> tuple[tuple[Field, ...], dict[str, np.ndarray], dict[str, Any]]:
    """Return the datasets of a clip, their arrays, and its attributes.

    What tells the frames compared comes from the stage that chose them, where that is another.
    """
    fields = selection.stage.fields
    names = [field.name for field in fields]
    arrays, attributes = read_clip(item.shard, item.clip.clip_id, [*names, "frame_numbers"])
    if item.pairs_shard is None:
        return fields, arrays, attributes
    further = selection.pair_fields
    pairs, chosen = read_clip(
        item.pairs_shard, item.clip.clip_id, [field.name for field in further]
    )
    carried = {key: chosen[key] for key in _CARRIED if key in chosen}
    return (*fields, *further), {**arrays, **pairs}, {**carried, **attributes}


def _clip_facts(item: Item, selection: Selection) -> dict[str, Any]:
    clip = item.clip
    facts: dict[str, Any] = {
        "clip_id": clip.clip_id,
        "corpus": clip.corpus,
        "subject": clip.subject_id,
        "label": item.label,
        "class": item.class_name or None,
        "fold": item.fold or None,
        "emotion": clip.emotion,
        "fps": clip.fps,
        "onset": clip.onset,
        "apex": clip.apex,
        "apex_source": clip.apex_source,
        "offset": clip.offset,
        "restricted": clip.restricted,
        "synthetic": clip.synthetic,
        "stage": selection.stage.name,
        "source_digest": clip.source_digest,
    }
    if clip.restricted:
        facts["licence"] = _RESTRICTED.format(corpora=clip.corpus).strip()
    return facts


def _description(
    selection: Selection, options: ExportOptions, writer: FolderWriter | WebDatasetWriter
) -> dict[str, Any]:
    description: dict[str, Any] = {
        "schema": SCHEMA,
        "mer_prep": __version__,
        "stage": selection.stage.name,
        "format": options.format,
        "synthetic": selection.synthetic,
        "restricted": selection.restricted,
        "clips": len(selection.items),
        "subjects": len({item.clip.subject_id for item in selection.items}),
        "files": writer.files,
        "quarantined": list(selection.failed),
        "unlabelled": selection.unlabelled,
        "labels": selection.labels or None,
        "classes": list(selection.classes),
        "recipe": selection.recipe,
        "shards": selection.keys,
    }
    if isinstance(writer, FolderWriter) and options.format == "png":
        description["scaling"] = {
            "name": options.scaling,
            "range": options.range,
            "preset": options.preset or None,
            "largest_errors": writer.errors,
            "clipped": writer.clipped,
            "formula": "value = offset + step * code; see clip.json, mer_prep.export.read_png",
        }
    if selection.restricted:
        description["licence"] = restricted_text(selection).strip()
    return description


def restricted_text(selection: Selection) -> str:
    """Return what a folder with restricted clips says of its licence."""
    corpora = sorted({item.clip.corpus for item in selection.items if item.clip.restricted})
    return _RESTRICTED.format(corpora=", ".join(corpora))


def _write_index(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    disk.write_text(path, text.getvalue())


def _write_marks(folder: Path, selection: Selection) -> None:
    if selection.restricted:
        disk.write_text(folder / RESTRICTED_MARK, restricted_text(selection))
    if selection.synthetic:
        disk.write_text(folder / SYNTHETIC_MARK, _SYNTHETIC)
