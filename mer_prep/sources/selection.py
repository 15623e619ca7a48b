"""Which annotated expressions an importer keeps, and what it says of those it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mer_prep.manifest import make_clip_id
from mer_prep.sources.expressions import Expression, Reading

#: Kinds of expression a reader may choose, the default first.
EXPRESSIONS = ("all", "micro", "macro")


def of_chosen_type(
    reading: Reading, expressions: Sequence[Expression], kind: str
) -> list[Expression]:
    """Return the expressions of the kind asked for, and note how many are left out.

    Parameters
    ----------
    reading : Reading
        A finding is added to it.
    expressions : sequence of Expression
        All that are annotated.
    kind : {'all', 'micro', 'macro'}
        Which to keep.
    """
    kept = [item for item in expressions if kind in ("all", item.expression_type)]
    if len(kept) < len(expressions):
        counts = Counter(item.expression_type for item in expressions)
        other = "macro" if kind == "micro" else "micro"
        message = f"{counts[other]} {other}-expressions are left out, as asked for."
        reading.note("info", "expressions-chosen", message)
    return kept


def without_repeats(reading: Reading, expressions: Sequence[Expression]) -> list[Expression]:
    """Return the expressions without those whose clip and onset an earlier row has.

    Each that is left out gives an error of its own: in a table of thousands of rows one repeated
    row must not keep the others from being read.
    """
    first: dict[tuple[str, str, int | None], Expression] = {}
    for item in expressions:
        kept = first.setdefault((item.subject, item.clip.casefold(), item.onset), item)
        if kept is not item:
            onset = "no onset, too" if item.onset is None else f"the same onset {item.onset}"
            message = f"The row annotates the same clip as {kept.where}, with {onset}; left out."
            clip_id = make_clip_id(reading.corpus, item.subject, item.clip)
            reading.note("error", "row-repeated", message, clip_id=clip_id, where=item.where)
    return list(first.values())


def note_missing_emotions(reading: Reading, why: str) -> None:
    """Say once, not clip by clip, how many clips the annotation gives no emotion.

    Parameters
    ----------
    reading : Reading
        Its clips are built; their findings ``emotion-unknown`` are replaced by one.
    why : str
        Why they have none, as a sentence.
    """
    without = {clip.clip_id for clip in reading.clips if clip.emotion_raw is None}
    if not without:
        return
    reading.findings = [
        item
        for item in reading.findings
        if item.code != "emotion-unknown" or item.clip_id not in without
    ]
    message = f"{len(without)} of {len(reading.clips)} clips have no emotion. {why}"
    reading.note("info", "emotion-missing", message)
