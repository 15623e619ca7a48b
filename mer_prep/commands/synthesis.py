"""The command synth, which makes corpora."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mer_prep.commands.common import SEED, FiniteRange, jobs_option, plural, say_next
from mer_prep.progress import Progress, duration
from mer_prep.terminal import echo

#: Those of the three-class composite; made where no corpus is named.
_COMPOSITE = ("casme2", "samm", "smic")

_SYNTHETIC = (
    *_COMPOSITE,
    *("casme", "casme_sq", "casme3", "mmew", "4dme", "samm_lv", "affwild2"),
)


@click.command()
@click.argument("corpora", nargs=-1, metavar="[CORPUS]...")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("synthetic"),
    show_default=True,
    help="Folder; each corpus gets one of its own below it.",
)
@click.option(
    "--subjects",
    type=click.IntRange(1, 10_000),
    default=3,
    show_default=True,
    help="Subjects of each corpus.",
)
@click.option(
    "--clips",
    type=click.IntRange(1, 10_000),
    default=4,
    show_default=True,
    help="Clips of each subject.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Same seed, same bytes.")
@click.option("--variant", help="Form of the corpus, e.g. raw or cropped for casme2.")
@click.option(
    "--amplitude",
    type=(FiniteRange(0, 100), FiniteRange(0, 100)),
    default=(0.7, 1.5),
    show_default=True,
    metavar="MIN MAX",
    help="Peak motion in px at 144x144.",
)
@click.option(
    "--head-motion",
    type=FiniteRange(0, 100),
    default=1.0,
    show_default=True,
    help="Scale of the rigid head motion; 0 for none.",
)
@click.option("--blinks", is_flag=True, help="Let subjects blink.")
@jobs_option
def synth(
    corpora: tuple[str, ...],
    out: Path,
    subjects: int,
    clips: int,
    seed: int,
    variant: str | None,
    amplitude: tuple[float, float],
    head_motion: float,
    blinks: bool,
    jobs: int,
) -> None:
    """Write synthetic corpora laid out as the real ones.

    CORPUS is casme, casme2, samm, smic, casme_sq, casme3, mmew, 4dme, samm_lv or affwild2;
    casme2, samm and smic if none is named. Two public-domain portraits are animated with
    action-unit-like motion. Folders, file names and annotation files are those of the real
    corpora, quirks included; the true landmarks, motion, onset, apex and offset lie beside them
    in mer-prep-truth.h5.
    """
    from mer_prep.checks import check_option
    from mer_prep.synth.corpus import write_corpus

    for corpus in corpora:
        check_option("CORPUS", corpus, _SYNTHETIC)
    started = time.monotonic()
    written = current = 0
    following = []
    for corpus in corpora or _COMPOSITE:
        with Progress(f"synth {corpus}") as progress:
            made = write_corpus(
                corpus,
                out,
                subjects=subjects,
                clips=clips,
                seed=seed,
                variant=variant,
                amplitude=amplitude,
                head_motion=head_motion,
                blinks=blinks,
                jobs=jobs,
                progress=progress,
            )
        count = len(made.clips)
        if made.written:
            written += count
        else:
            current += count
        state = "written" if made.written else "up to date"
        echo(
            f"{corpus}: {plural(count, 'clip')} of {plural(subjects, 'subject')} {state} "
            f"in {made.root}"
        )
        following.append(f"mer-prep import {corpus} {made.root}")
    say_next(None, *following)
    echo(
        f"synth: {written} clips written, {current} up to date, "
        f"{duration(time.monotonic() - started)}, SYNTHETIC, in {out}"
    )


COMMANDS = (synth,)
