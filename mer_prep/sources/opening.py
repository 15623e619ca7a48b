"""What the importers of corpora do alike: open the folder, read the table, make the clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_prep.errors import AnnotationError
from mer_prep.sources.annotations import Column, Table, find_table, read_sheets
from mer_prep.sources.expressions import (
    Expression,
    Reading,
    apply_errata,
    build_clips,
    normalise_emotion,
)
from mer_prep.sources.facts import (
    CorpusFacts,
    Erratum,
    chosen_errata,
    corpus_facts,
    recognise_version,
)
from mer_prep.sources.folders import Folder, not_this_corpus, walk
from mer_prep.sources.trees import (
    Request,
    Tree,
    check_own_table,
    choose_tree,
    first_workbook,
    holds_table,
)


@dataclass(frozen=True, slots=True)
class OpenedCorpus:
    """A corpus folder that has been walked; its importer takes the steps below, in their order.

    Parameters
    ----------
    request : Request
        What the importer is asked to read.
    facts : CorpusFacts
        What is known of the corpus.
    errata : tuple of Erratum
        Those to apply.
    reading : Reading
        What has been read so far; every step adds its findings to it.
    folders : list of Folder
        All folders below the root.
    """

    request: Request
    facts: CorpusFacts
    errata: tuple[Erratum, ...]
    reading: Reading
    folders: list[Folder]

    def choose_tree(self, trees: Sequence[Tree], preference: Sequence[str]) -> Tree:
        """Return the tree to read; see `mer_prep.sources.trees.choose_tree`.

        Raises
        ------
        ConfigError
            If the variant asked for does not exist for this corpus.
        ManifestError
            If there is no tree, or none of the variant asked for.
        """
        if not trees:
            raise not_this_corpus(self.request.root, self.folders, self.facts.name)
        return choose_tree(self.reading, trees, preference, self.facts, self.request.variant)

    def find_annotation(
        self, *patterns: str, expected: str, accepts: Callable[[Path], bool] | None = None
    ) -> Path:
        """Return the annotation workbook, and remember in the reading which file it is.

        Parameters
        ----------
        *patterns : str
            Regular expressions that file names of the workbook hold; the first that finds one.
        expected : str
            File name of the release, for the message if there is none.
        accepts : callable, optional
            Tells a workbook of another name by its content.

        Raises
        ------
        AnnotationError
            If it is missing.
        """
        found = self.request.annotations
        found = found or first_workbook(self.reading, self.folders, patterns, accepts)
        if found is None:
            raise AnnotationError(
                f"The annotation workbook of {self.facts.title} was not found.",
                where=self.reading.root,
                why="onset, apex, offset and emotion are only there",
                hint=f"put {expected} into the corpus folder, or give it with --annotations",
            )
        self.reading.annotations = found
        return found

    def read_table(
        self,
        *,
        columns: Sequence[Column],
        pattern: str,
        expected: str,
        clip: str = "Filename",
        named_as: str | None = None,
    ) -> Table:
        """Find and read the annotation.

        Parameters
        ----------
        columns : sequence of Column
            Columns of the table; they tell a workbook of another name, too.
        pattern, expected
            As for `find_annotation`.
        clip : str
            Column of the clip names.
        named_as : str, optional
            Corpus whose clip names these are taken for; this one if None.

        Raises
        ------
        AnnotationError
            If it is missing, cannot be understood, or is that of another corpus.
        """
        path = self.find_annotation(
            pattern, expected=expected, accepts=lambda path: holds_table(path, columns)
        )
        table = find_table(read_sheets(path), columns)
        check_own_table(table, named_as or self.facts.name, clip)
        return table

    def recognise(self, expressions: Sequence[Expression]) -> None:
        """Recognise the version of the annotation by the expressions as they stand in it."""
        labels = [
            (item.number, item.clip, item.emotion or normalise_emotion(item.emotion_raw or ""))
            for item in expressions
        ]
        types = [item.expression_type for item in expressions]
        self.reading.version, findings = recognise_version(self.facts, labels, types=types)
        self.reading.findings += findings

    def corrected(self, expressions: Sequence[Expression]) -> list[Expression]:
        """Return the expressions with the errata applied."""
        return apply_errata(self.reading, expressions, self.errata)

    def build_clips(
        self, tree: Tree, expressions: Sequence[Expression], *, context: int | None = None
    ) -> None:
        """Make the clips; see `mer_prep.sources.expressions.build_clips`."""
        build_clips(
            self.reading, expressions, tree.folders, emotions=self.facts.emotions, context=context
        )


def open_corpus(request: Request, corpus: str, *, cut: bool = False) -> OpenedCorpus:
    """Walk the folder of a corpus.

    Parameters
    ----------
    request : Request
        What is to be read.
    corpus : str
        Which corpus, as in ``manifests/corpora``.
    cut : bool
        See `Reading`.

    Raises
    ------
    ConfigError
        For an erratum that the corpus does not have.
    ManifestError
        If the folder cannot be walked.
    """
    facts = corpus_facts(corpus)
    reading = Reading(request.name, request.root, cut=cut)
    errata = chosen_errata(facts, request.errata)
    return OpenedCorpus(request, facts, errata, reading, walk(request.root, reading.findings))
