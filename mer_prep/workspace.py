"""The workspace: the one folder that holds all that is made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mer_prep.checks import suggest
from mer_prep.errors import ManifestError
from mer_prep.manifest import Clip, ImportRecord, read_manifest, read_record


@dataclass(frozen=True)
class Workspace:
    """Paths below the workspace folder.

    Parameters
    ----------
    root : Path
        The folder; it need not exist yet.
    """

    root: Path

    @property
    def manifests(self) -> Path:
        """Folder of the corpora's manifests."""
        return self.root / "manifests"

    @property
    def cache(self) -> Path:
        """Folder of the shards."""
        return self.root / "cache"

    @property
    def failures(self) -> Path:
        """List of quarantined clips."""
        return self.root / "failures.jsonl"

    @property
    def reports(self) -> Path:
        """Folder of reports and pictures."""
        return self.root / "reports"

    def corpora(self) -> list[str]:
        """Return the names of the imported corpora, sorted."""
        return sorted(path.stem for path in self.manifests.glob("*.jsonl"))

    def select(self, names: tuple[str, ...]) -> list[str]:
        """Return the named corpora, each once, or all imported ones if none is named.

        Raises
        ------
        ManifestError
            If a name is not imported, or nothing is.
        """
        known = self.corpora()
        if not known:
            raise ManifestError(
                "The workspace has no imported corpus.",
                where=self.root,
                hint="run `mer-prep import CORPUS FOLDER`, or `mer-prep synth` to make one first",
            )
        for name in names:
            if name not in known:
                raise ManifestError(
                    f"Corpus '{name}' is not in the workspace.{suggest(name, known)}",
                    where=self.manifests,
                    hint=f"imported: {', '.join(known)}",
                )
        return list(dict.fromkeys(names)) or known

    def clips(self, corpus: str) -> list[Clip]:
        """Return the clips of an imported corpus.

        Raises
        ------
        ManifestError
            If the manifest is bad, or is not the one that the import wrote.
        """
        path = self.manifests / f"{corpus}.jsonl"
        clips = read_manifest(path)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        record = self.record(corpus)
        if record.manifest_sha256 != digest:
            raise ManifestError(
                "The manifest is not the one that the import wrote: lines were lost or edited.",
                where=path,
                why="clips would be missing or wrong without a word",
                hint="import the corpus again; what is unchanged is not computed again",
            )
        for clip in clips:
            if clip.root != record.root:
                raise ManifestError(
                    f"Clip {clip.clip_id} is of the folder {clip.root}, the corpus of another.",
                    where=f"{path}; {record.root}",
                    why="only files below the corpus folder are ever read",
                    hint="import the corpus again",
                )
        return clips

    def record(self, corpus: str) -> ImportRecord:
        """Return how a corpus was imported."""
        return read_record(self.manifests / f"{corpus}.json")

    def find_clip(self, clip_id: str) -> Clip:
        """Return the clip of an id, in whichever corpus it is.

        Raises
        ------
        ManifestError
            If no imported corpus has it; the nearest id is suggested.
        """
        corpus = clip_id.split("/", 1)[0]
        names = [corpus] if corpus in self.corpora() else self.select(())
        ids: list[str] = []
        for name in names:
            for clip in self.clips(name):
                if clip.clip_id == clip_id:
                    return clip
                ids.append(clip.clip_id)
        raise ManifestError(
            f"There is no clip '{clip_id}'.{suggest(clip_id, ids)}", where=self.manifests
        )
