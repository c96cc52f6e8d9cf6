"""`sae-sanity synthetic` and `sae-sanity reproduce`: recipes judged where the truth is known."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic.fields import FieldInfo

from .errors import unknown
from .options import Figures, Format, Json, Names, Output, split
from .output import check_figures, console, deliver, destinations, draw
from .synthetic.config import SyntheticSettings

if TYPE_CHECKING:
    from ..results.replication import Replication

Results = Annotated[Path | None, typer.Option(help="Folder for results (default: one in sae-sanity-results).")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes that work side by side.")]

_LISTS = ("baselines", "tau")
_SHARED = ("world", "architecture")


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    # As in `options`: values arrive as text, the settings convert and refuse them in one place.
    kind = Names if name in _LISTS else str | None
    metavar = "INTEGER" if "int" in str(field.annotation) else "NUMBER" if "float" in str(field.annotation) else "TEXT"
    flag = typer.Option(f"--{name.replace('_', '-')}", help=field.description, metavar=metavar)
    annotation = Annotated[kind, flag]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def takes_synthetic(leave_out: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command every flag of `SyntheticSettings`; its first parameter takes what was given, by name.

    Args:
        leave_out: settings that the command decides itself.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        fields = {n: f for n, f in SyntheticSettings.model_fields.items() if n not in leave_out}

        @functools.wraps(command)
        def run(**values: Any) -> None:  # noqa: ANN401
            rest = {parameter.name: values.pop(parameter.name) for parameter in own}
            for name in _LISTS:
                values[name] = split(values.get(name))
            command({name: value for name, value in values.items() if value is not None}, **rest)

        parameters = [_option(name, field) for name, field in fields.items()]
        parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


@takes_synthetic()
def synthetic(
    flags: dict[str, Any],
    *,
    figures: Figures = None,
    format_: Format = None,
    json: Json = False,
    output: Output = None,
    results: Results = None,
) -> None:
    """Train a recipe in synthetic worlds whose true features are known, and say whether it beats random."""
    from .cli import progress_bars
    from .synthetic.config import resolve_synthetic
    from .synthetic.judge import run_synthetic

    to = destinations(format_, json=json, output=output)
    check_figures(figures)
    settings = resolve_synthetic(flags)
    with progress_bars() as progress:
        report = run_synthetic(settings, results, progress)
    draw(report, figures)
    deliver(report, to)
    raise typer.Exit(report.exit_code)


@takes_synthetic(leave_out=_SHARED)
def reproduce(
    flags: dict[str, Any],
    *,
    experiment: Annotated[str, typer.Argument(help="Which published experiment.")] = "korznikov2026-synthetic",
    jobs: Jobs = 2,
    json: Json = False,
    results: Results = None,
) -> None:
    """Run a published experiment again and print its numbers beside ours, each with PASS or how far it differs.

    Exit code 1 if at the published size (that of --preset paper) a number differs, else 0.
    """
    from ..results.report.replication import render
    from .cli import progress_bars
    from .synthetic import reproduce as module

    if experiment != module.PAPER:
        raise unknown("experiment", experiment, [module.PAPER])
    folder = results or Path("sae-sanity-results") / f"{module.PAPER}-{flags.get('preset', 'small')}"
    with progress_bars() as progress:
        found = module.reproduce(folder, flags, progress, jobs=jobs)
    if json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
    else:
        render(found, console())
    raise typer.Exit(exit_code_of(found))


def exit_code_of(found: Replication) -> int:
    """1 where a number of the paper differs at its own size; in smaller worlds numbers need not agree."""
    return int(found.published_size and any(line.verdict != "PASS" for line in found.lines))
