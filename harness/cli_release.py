"""`sae-sanity compare`, and what stands beside a release: `badge`, `card`, `cite`, `reanalyse`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import UsageError, unknown
from .options import Json, Names, split
from .output import check_file, console, save

if TYPE_CHECKING:
    from ..results.outcome import CheckReport

Folder = Annotated[Path, typer.Argument(metavar="RESULTS", help="Results folder of a finished check.")]


def compare(
    ours: Annotated[Path, typer.Argument(help="Results folder of a finished check.")],
    theirs: Annotated[Path, typer.Argument(help="Results folder of the check to compare it with.")],
    *,
    suites: Annotated[Names, typer.Option(help="Only these suites, separated by commas.")] = None,
    json: Json = False,
) -> None:
    """Pair the SAEs of two finished checks item by item: is the first one worse than the second?

    Exit code 0 not worse by the margin in any suite; 1 worse in one; 2 data, prompts or judge differ; 3 inconclusive; 4
    nothing could be paired, or an assay is invalid.
    """
    from ..results.report.look import Look
    from ..results.report.run_comparison import pieces
    from ..results.run_comparison import exit_code_of
    from .compare_runs import compare_folders

    found = compare_folders(ours, theirs, suites=split(suites) or ())
    if json:
        sys.stdout.write(found.model_dump_json(indent=2) + "\n")
    else:
        out = console()
        for piece in pieces(found, Look.of(out)):
            out.print(piece)
    raise typer.Exit(exit_code_of(found))


def badge(
    results: Folder,
    *,
    output: Annotated[Path, typer.Option(help="File to write: .svg, or .json for a shields.io endpoint.")],
) -> None:
    """Write a badge that says what the check says, and no more."""
    from ..results.release.badge import endpoint_json, svg

    formats = {".svg": svg, ".json": endpoint_json}
    if output.suffix.lower() not in formats:
        raise UsageError(f"--output is {output}: its extension must be one of {', '.join(formats)}")
    check_file(output)
    _write(output, formats[output.suffix.lower()](_public(results)))


def card(
    results: Folder,
    *,
    output: Annotated[
        Path | None, typer.Option(help="README.md of the release, made or updated; default: print.")
    ] = None,
) -> None:
    """Put the verdict and its figures into a model card of the Hugging Face hub; the rest of the card is left alone."""
    from ..results.release.model_card import with_block

    if output is not None:
        check_file(output)
    report = _public(results)
    try:
        before = output.read_bytes().decode("utf-8") if output is not None and output.exists() else ""
        text = with_block(before, report)
    except (OSError, ValueError) as error:
        raise UsageError(f"--output is {output}: {_one_line(error)}") from None
    if output is None:
        sys.stdout.write(text)
    else:
        _write(output, text)


def cite(
    results: Annotated[
        Path | None, typer.Argument(metavar="[RESULTS]", help="Results folder; default: the tool alone.")
    ] = None,
) -> None:
    """Print BibTeX of the tool and of the methods that a run used."""
    from ..results.release.citation import bibtex

    sys.stdout.write(bibtex(_report(results) if results is not None else None))


def reanalyse(
    paper: Annotated[str, typer.Argument(help="Which published tables.")] = "korznikov2026",
    *,
    json: Json = False,
) -> None:
    """Judge the tables of a paper again, under both readings of its ±; needs no model and no run."""
    from ..results.reanalysis import PAPER
    from ..results.reanalysis import reanalyse as judge_again
    from ..results.report.reanalysis import render

    if paper != PAPER:
        raise unknown("paper", paper, [PAPER])
    found = judge_again()
    if json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
    else:
        render(found, console())


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (compare, badge, card, cite, reanalyse):
        app.command()(command)


def _report(folder: Path) -> CheckReport:
    from .record import report_of

    return report_of(folder)


def _public(folder: Path) -> CheckReport:
    """A report in which a folder that reads like a repo of the hub is told from one, as `check` does it."""
    from ..results.release.public import public

    report = _report(folder)
    try:
        return public(report, local=Path(report.target).expanduser().is_dir())
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"the record in {folder} is damaged: {_one_line(error)}") from None


def _write(path: Path, text: str) -> None:
    save(path, text.encode("utf-8"))
    typer.echo(f"sae-sanity: wrote {path}", err=True)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
