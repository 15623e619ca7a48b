"""The file of the 68-point landmark model: where it is and which one it is."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
from pathlib import Path

from mer_prep.errors import DependencyError

logger = logging.getLogger(__name__)

FILE_NAME = "shape_predictor_68_face_landmarks.dat"

#: SHA-256 of the model that dlib publishes and that results are compared on.
KNOWN_DIGEST = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"

#: Environment variable that names another file.
VARIABLE = "MER_PREP_PREDICTOR"

DEBIAN_FILE = Path("/usr/share/dlib") / FILE_NAME

LICENCE_NOTE = (
    "dlib's 68-point model was trained on the iBUG 300-W faces, whose terms exclude commercial use."
)


def predictor_file(explicit: str | Path | None = None) -> Path:
    """Return the file of the 68-point landmark model.

    Parameters
    ----------
    explicit : str or Path, optional
        A file to use; it is then not looked for anywhere else.

    Returns
    -------
    Path
        The first that exists of: `explicit`, ``$MER_PREP_PREDICTOR``, Debian's
        ``/usr/share/dlib``, the ``face_recognition_models`` package.

    Raises
    ------
    DependencyError
        If there is none, or if the one that was named does not exist.
    """
    named = {"the predictor parameter": explicit, f"${VARIABLE}": os.environ.get(VARIABLE)}
    for origin, name in named.items():
        if name:
            path = Path(name).expanduser()
            if not path.is_file():
                raise DependencyError(
                    f"The landmark model named by {origin} is not a file.",
                    where=path,
                    hint=f"name the file {FILE_NAME}, or leave it out for the one installed",
                )
            return path
    if DEBIAN_FILE.is_file():
        return DEBIAN_FILE
    packaged = _packaged_file()
    if packaged is not None:
        return packaged
    raise DependencyError(
        f"The landmark model {FILE_NAME} was not found.",
        why="faces are aligned by its 68 points",
        hint='pip install "mer-prep[dlib]", or on Debian: apt-get install libdlib-data; '
        f"or name the file in ${VARIABLE}",
    )


def _packaged_file() -> Path | None:
    # The package imports pkg_resources, which newer setuptools no longer has: it is not imported.
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "models" / FILE_NAME
        if path.is_file():
            return path
    return None


def predictor_digest(path: Path) -> str:
    """Return the SHA-256 of a model file, read once per process.

    A file other than the known one is reported once: its landmarks differ.
    """
    return _digest(str(path.resolve()))


@functools.cache
def _digest(path: str) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != KNOWN_DIGEST:
        logger.warning(
            "%s is not the published 68-point model (SHA-256 %s...); landmarks will differ.",
            path,
            digest[:12],
        )
    return digest
