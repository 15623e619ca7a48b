"""Reads CASME: ``sub01/EP01_5/EP01_5-113.jpg`` and the coding workbook.

A folder may hold several expressions; their clips are told apart by onset. As with CASME II the
cut selection is preferred over the whole recordings, and both over the registered crops.

References
----------
Yan et al. (2013). CASME database: A dataset of spontaneous micro-expressions collected from
neutralized faces. FG 2013. doi:10.1109/FG.2013.6553799
"""

from __future__ import annotations

from mer_prep.sources.annotations import Column, Row, Table
from mer_prep.sources.episodes import episode_key, episode_trees
from mer_prep.sources.expressions import Expression, Reading, Remark
from mer_prep.sources.opening import open_corpus
from mer_prep.sources.trees import Request, optional_text, read_rows

PREFERENCE = ("selected", "raw", "cropped")

# CASME II heads its columns OnsetFrame and ApexFrame: its workbook is not taken for this one.
COLUMNS = (
    Column("Subject"),
    Column("Filename", ("File name", "Clip")),
    Column("OnsetF"),
    Column("ApexF1", ("ApexF",)),
    Column("ApexF2", required=False),
    Column("OffsetF"),
    Column("AU", ("AUs", "Action Unit", "Action Units"), required=False),
    Column("Emotion", ("Estimated Emotion",)),
)


def read(request: Request) -> Reading:
    """Read a CASME folder.

    Raises
    ------
    ManifestError
        If it is another corpus, or lacks the variant asked for.
    AnnotationError
        If the workbook is missing or cannot be understood.
    """
    corpus = open_corpus(request, "casme")
    reading = corpus.reading
    tree = corpus.choose_tree(episode_trees(reading, corpus.folders, "casme"), PREFERENCE)
    reading.cut = tree.variant != "raw"
    table = corpus.read_table(
        columns=COLUMNS,
        pattern=r"casme(?![-_ ]?(2|3|ii|sq|\()).*\.(xlsx?|csv)$",
        expected="the coding workbook (casme.xls)",
        # The two corpora share their clip names.
        named_as="casme2",
    )
    expressions = _expressions(reading, table)
    corpus.recognise(expressions)
    expressions = corpus.corrected(expressions)
    corpus.build_clips(tree, expressions)
    return reading


def _expressions(reading: Reading, table: Table) -> list[Expression]:
    def parse(number: int, row: Row) -> Expression:
        return Expression(
            key=episode_key(number, row.text("Filename")),
            number=number,
            subject=f"sub{number:02d}",
            clip=row.text("Filename"),
            onset=row.whole("OnsetF"),
            apex=row.optional_whole("ApexF1"),
            offset=row.optional_whole("OffsetF"),
            emotion_raw=optional_text(row, "Emotion"),
            action_units_raw=optional_text(row, "AU"),
            where=row.where(),
            remarks=_remarks(row),
        )

    return read_rows(reading, table, parse, subject="Subject", clip="Filename", onset="OnsetF")


def _remarks(row: Row) -> tuple[Remark, ...]:
    second = row.optional_whole("ApexF2")
    if second is None:
        return ()
    message = f"A second apex, {second}, is annotated; the first column alone is read."
    return (Remark("info", "apex-second", message),)
