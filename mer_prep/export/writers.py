"""Formats an export can have: folders of PNG or NumPy files, or WebDataset shards."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.export.pictures import SIDECAR, Picture, is_picture, pictures_of, png_bytes
from mer_prep.stages.base import Field
from mer_prep.store import disk
from mer_prep.store.shard import group_name

FORMATS = ("png", "npy", "webdataset")

Facts = dict[str, Any]


def clip_path(clip_id: str) -> str:
    """Return the relative path of a clip in an export, ``<corpus>/<subject>/<clip>``.

    Whatever is no letter, digit, ``-``, ``_`` or ``@`` stands as ``%`` and its code, so that
    paths are safe everywhere and hold no dot, where WebDataset would end the key.
    """
    corpus, subject, _ = clip_id.split("/", 2)
    return "/".join(_safe(part) for part in (corpus, subject, group_name(clip_id)))


def _safe(name: str) -> str:
    return re.sub(r"[^\w@-]", lambda found: f"%{ord(found[0]):02X}", name)


def json_text(facts: Mapping[str, Any]) -> str:
    """Return facts as the text of a JSON file."""
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def npy_bytes(array: np.ndarray) -> bytes:
    """Return an array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


class FolderWriter:
    """Writes a folder a clip: every picture as PNG, or every dataset as .npy.

    Parameters
    ----------
    folder : Path
        Where to write.
    scaling, largest : str and float, optional
        How pictures that are not 8-bit are scaled; None writes .npy only.

    Attributes
    ----------
    files : int
        Files written.
    clipped : int
        Values outside of the range, in all pictures.
    errors : dict of str to float
        By dataset and units, the largest error that 8 bits make in any picture.
    """

    def __init__(
        self, folder: Path, *, scaling: str | None = None, largest: float | None = None
    ) -> None:
        self._folder = folder
        self._scaling = scaling
        self._largest = largest
        self.files = 0
        self.clipped = 0
        self.errors: dict[str, float] = {}

    def add(
        self,
        clip_id: str,
        facts: Facts,
        fields: Sequence[Field],
        arrays: Mapping[str, np.ndarray],
    ) -> str:
        """Write one clip and return its path."""
        name = clip_path(clip_id)
        folder = self._folder / name
        disk.make_folder(folder, fresh=True)
        pictures: Facts = {}
        datasets: Facts = {}
        for field in fields:
            if self._scaling is not None and is_picture(field):
                for picture in pictures_of(
                    field, arrays[field.name], scaling=self._scaling, largest=self._largest
                ):
                    file = f"{picture.name}.png"
                    disk.write_bytes(folder / file, png_bytes(picture.codes))
                    pictures[file] = picture.facts()
                    self._note(picture)
            else:
                file = f"{field.name}.npy"
                disk.write_bytes(folder / file, npy_bytes(arrays[field.name]))
                datasets[file] = dataset_facts(field)
        if self._scaling is not None:
            facts = {**facts, "formula": "value = offset + step * code", "pictures": pictures}
        text = json_text({**facts, "arrays": datasets})
        disk.write_text(folder / SIDECAR, text)
        self.files += len(pictures) + len(datasets) + 1
        return name

    def _note(self, picture: Picture) -> None:
        name = f"{picture.dataset}, {picture.units}"
        error = picture.facts()["largest_error"]
        self.errors[name] = max(error, self.errors.get(name, 0.0))
        self.clipped += picture.coding.clipped

    def close(self) -> None:
        """End writing."""


class WebDatasetWriter:
    """Writes tar shards, a clip a sample: .npy, .json, and .cls if there are labels.

    8-bit pictures are PNG members; both lose nothing. Members are in order of their names, owned
    by nobody, of time 0, so that equal results give equal bytes.

    Parameters
    ----------
    folder : Path
        Where to write.
    samples_per_shard : int
        Clips of one tar file.

    Attributes
    ----------
    files : int
        Files written.
    """

    def __init__(self, folder: Path, *, samples_per_shard: int) -> None:
        self._folder = folder
        self._most = samples_per_shard
        self._samples = 0
        self._file: io.BufferedWriter | None = None
        self._tar: tarfile.TarFile | None = None
        self._name = ""
        self.files = 0

    def add(
        self,
        clip_id: str,
        facts: Facts,
        fields: Sequence[Field],
        arrays: Mapping[str, np.ndarray],
    ) -> str:
        """Write one clip and return the path of its shard."""
        members: dict[str, bytes] = {}
        for field in fields:
            array = arrays[field.name]
            if array.dtype == np.uint8 and is_picture(field):
                # 8-bit values are not scaled, whatever the scaling.
                for picture in pictures_of(field, array, scaling="min-max", largest=None):
                    members[f"{picture.name}.png"] = png_bytes(picture.codes)
            else:
                members[f"{field.name}.npy"] = npy_bytes(array)
        described = {field.name: dataset_facts(field) for field in fields}
        members["json"] = json_text({**facts, "datasets": described}).encode()
        if facts["label"] is not None:
            members["cls"] = str(facts["label"]).encode()
        if self._samples % self._most == 0:
            self.close()
            self._name = f"shard-{self._samples // self._most:06d}.tar"
            self._file = io.BufferedWriter(disk.create(self._folder / self._name))
            self._tar = tarfile.open(fileobj=self._file, mode="w")  # noqa: SIM115
            self.files += 1
        for name in sorted(members):
            self._write(f"{clip_path(clip_id)}.{name}", members[name])
        self._samples += 1
        return self._name

    def _write(self, name: str, data: bytes) -> None:
        assert self._tar is not None
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.mode = 0o644
        self._tar.addfile(info, io.BytesIO(data))

    def close(self) -> None:
        """Finish the shard that is open."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None
        if self._file is not None:
            self._file.close()
            self._file = None


def dataset_facts(field: Field) -> Facts:
    """Return what is said of a dataset."""
    return {
        "axes": field.axes,
        "units": field.units,
        "channels": field.channels,
        "note": field.note,
    }
