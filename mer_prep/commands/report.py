"""The command report: pages of trained runs."""

from __future__ import annotations

from pathlib import Path

import click

from mer_prep.commands.common import plural, workspace_option
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="HTML file to write.")
@click.option("--no-faces", is_flag=True, help="Draw landmarks in place of faces.")
@workspace_option
def report(runs: tuple[str, ...], out: Path | None, no_faces: bool, workspace: Workspace) -> None:
    """Write the results of a trained run as a page, or compare several.

    RUN is the name of a run, or its folder. The page is one HTML file that needs no server and no
    network: scores with intervals beside the published ones, confusion matrices, subjects, losses,
    the clips that were wrong with their pictures, and a paragraph for a paper with what to cite.
    It is report.html in the folder of the run.

    With several runs the page compares them on the clips that all tested, the others against the
    first; it is reports/compare-FIRST.html in the workspace.
    """
    from mer_prep.commands.training_options import require_torch
    from mer_prep.reports.markup import check_templates
    from mer_prep.reports.page import write_page
    from mer_prep.training.study import read_study
    from mer_prep.training.weights import find_run

    require_torch()
    check_templates()
    found = [find_run(workspace, name) for name in runs]
    studies = [(folder, read_study(folder)) for _, folder in found]
    if len(runs) == 1:
        from mer_prep.reports.run import run_page

        (owner, folder), (_, study) = found[0], studies[0]
        page = run_page(owner.root, folder, study, faces=not no_faces)
        target = out or folder / "report.html"
    else:
        from mer_prep.reports.comparison import comparison_page

        page = comparison_page(studies)
        target = out or workspace.reports / f"compare-{studies[0][0].name}.html"
    size = write_page(page, target)
    marked = "".join(f", {banner.title}" for banner in page.banners)
    echo(f"report: {plural(len(runs), 'run')}, {size / 1024:,.0f} KiB{marked}, in {target}")


COMMANDS = (report,)
