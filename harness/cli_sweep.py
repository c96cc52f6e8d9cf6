"""`sae-sanity sweep`: many checks from one file, planned, run and shown together."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import UsageError
from .options import Json
from .output import check_file, console, destinations, encoded, save
from .progress import PlainProgress, RichProgress

if TYPE_CHECKING:
    from ..results.sweep import SweepOverview
    from .sweep import Sweep
    from .sweep_progress import SweepProgress

Output = Annotated[
    list[Path] | None,
    typer.Option(
        help="Also write FILE: the plot (.svg .png), this overview (.json .txt), or the report of all SAEs "
        "(.md .xml .html); repeatable.",
        metavar="FILE",
    ),
]


def sweep(
    config: Annotated[Path, typer.Argument(help="TOML file with [defaults] and one [[run]] or more.")],
    *,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be done and what it takes.")] = False,
    max_judge_tokens: Annotated[
        int | None, typer.Option(help="Stop asking before judges take more tokens, over all checks.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Stop asking before judges cost more, over all checks.")
    ] = None,
    judge_price: Annotated[
        str | None, typer.Option(help="IN,OUT: price per million tokens of the judge, or of both.")
    ] = None,
    json: Json = False,
    output: Output = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder for results (default: sae-sanity-results/sweep-NAME).")
    ] = None,
) -> None:
    """Check many SAEs from one file, and show side by side what beats random. The same command goes on after a stop."""
    from .judging import parse_limits
    from .sweep import plan_sweep, run_sweep

    files = places(output or ())
    limits = parse_limits(max_judge_tokens, max_cost, judge_price)
    found = plan_sweep(config)
    folder = results or found.folder
    if plan:
        if files:
            raise UsageError("--plan writes no file; leave --output out, or take --json")
        _show_plan(found, folder, as_json=json)
        return
    with _view() as progress:
        report = run_sweep(found, folder, progress, limits)
    seen = overview_of(folder)
    for file in files:
        file.write(seen)
    if json:
        sys.stdout.write(_json(seen))
    else:
        from ..results.report.sweep import render_sweep

        render_sweep(seen, console())
        typer.echo(f"sae-sanity: everything: sae-sanity report {folder}", err=True)
    raise typer.Exit(report.exit_code)


def overview_of(folder: Path) -> SweepOverview:
    """A finished sweep at a glance, from its folder alone.

    Raises:
        UsageError: for a folder that holds no finished sweep, or a damaged one.
    """
    from ..results.sweep import SweptSAE, overview
    from .record import SEVERAL, load_record, load_several, several_report

    if not (folder / SEVERAL).is_file():
        raise UsageError(f"{folder} holds no finished sweep: there is no {SEVERAL} in it")
    several = load_several(folder / SEVERAL)
    saes: dict[str, SweptSAE] = {}
    for name, place in several.members.items():
        settings = load_record(folder / place).manifest.settings
        d_sae, hook = settings.get("d_sae"), str(settings.get("hook_name") or "")
        saes[name] = SweptSAE(
            name=name,
            folder=place,
            model=str(settings.get("model") or settings.get("target") or ""),
            hook_name=hook,
            architecture=str(settings.get("architecture") or ""),
            d_sae=d_sae if isinstance(d_sae, int) else None,
        )
    return overview(several_report(folder, several), saes)


@dataclass(frozen=True)
class Place:
    """A file that a sweep is written to."""

    path: Path
    """The file."""
    kind: str
    """Its format, by its extension."""

    def write(self, found: SweepOverview) -> None:
        """Write the sweep; what was there before stays as it was if that fails.

        Raises:
            UsageError: for a file that cannot be written.
        """
        save(self.path, _bytes(found, self.kind))


def places(output: Sequence[Path]) -> tuple[Place, ...]:
    """Read `--output` and refuse what cannot be written, before anything is computed.

    Raises:
        UsageError: for an unknown extension, a folder, or a file in a folder that does not exist.
    """
    from ..results.report.sweep import PLOTS

    return tuple(_place(path, PLOTS) for path in output)


def _place(path: Path, plots: Sequence[str]) -> Place:
    kind = path.suffix.lower().lstrip(".")
    if kind not in plots:
        try:
            ((_, kind),) = destinations(output=[path]).files
        except UsageError as error:
            known = ", ".join(f".{plot}" for plot in plots)
            raise UsageError(str(error).replace("must be one of ", f"must be one of {known} (plot), ")) from None
        return Place(path, kind)
    check_file(path)
    return Place(path, kind)


def _bytes(found: SweepOverview, kind: str) -> bytes:
    from ..results.report import FORMATS
    from ..results.report.sweep import PLOTS, sweep_plot, sweep_text

    if kind in PLOTS:
        return sweep_plot(found, kind)
    text = {"json": _json, "table": sweep_text}.get(kind, lambda seen: FORMATS[kind](seen.report))(found)
    return encoded(text)


def _json(found: SweepOverview) -> str:
    return found.model_dump_json(indent=1) + "\n"


def _show_plan(found: Sweep, folder: Path, *, as_json: bool) -> None:
    from .sweep_plan import sweep_as_json, sweep_as_tables

    if as_json:
        sys.stdout.write(sweep_as_json(found, folder) + "\n")
        return
    out = console()
    for table in sweep_as_tables(found, folder):
        out.print(table)


@contextmanager
def _view() -> Iterator[SweepProgress]:
    from .sweep_progress import RichSweepProgress, SweepProgress

    if sys.stderr.isatty():
        with RichProgress() as bars:
            yield RichSweepProgress(bars)
    else:
        yield SweepProgress(PlainProgress())
