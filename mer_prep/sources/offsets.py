"""What to do with an expression whose offset nobody annotated."""

from __future__ import annotations

import dataclasses

from mer_prep.checks import check_option
from mer_prep.manifest import make_clip_id
from mer_prep.sources.expressions import Expression, Reading, Remark

#: ``apex`` takes the apex for the offset, so that only annotated frames are used; ``mirror``
#: takes the frame as long after the apex as the onset is before it; ``drop`` leaves the clip out.
MISSING_OFFSET = ("apex", "mirror", "drop")


def with_offset(reading: Reading, expression: Expression, policy: str) -> Expression:
    """Return an expression with an offset, by a policy where none is annotated.

    Parameters
    ----------
    reading : Reading
        A finding is added for an expression that is to be left out.
    expression : Expression
        Its offset is None where none is annotated. With neither offset nor apex nothing changes.
    policy : {'apex', 'mirror', 'drop'}
        ``apex``: offset = apex. ``mirror``: offset = 2 apex - onset. ``drop``: stays None, to be
        left out by the caller.

    Returns
    -------
    Expression
        With a remark ``offset-missing`` where an offset was filled in.
    """
    check_option("missing-offset", policy, MISSING_OFFSET)
    if expression.offset is not None:
        return expression
    if policy == "drop":
        clip_id = make_clip_id(
            reading.corpus, expression.subject, expression.clip, expression.onset
        )
        message = "No offset is annotated; left out, as asked for."
        where = expression.where
        reading.note("warning", "offset-missing", message, clip_id=clip_id, where=where)
        return expression
    apex, onset = expression.apex, expression.onset
    if apex is None or onset is None:
        return expression
    offset = apex if policy == "apex" else max(2 * apex - onset, apex)
    taken = "the apex" if policy == "apex" else "the mirror image of the onset"
    message = f"No offset is annotated; {taken}, {offset}, stands in."
    remark = Remark("warning", "offset-missing", message)
    return dataclasses.replace(expression, offset=offset, remarks=(*expression.remarks, remark))
