"""`sae-sanity data`: make data that suites read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Names, split

app = typer.Typer(name="data", help="Make data that suites read.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Make data that suites read."""


@app.command()
def build_ravel(
    out: Annotated[Path, typer.Argument(help="Folder to write: new, empty, or with such data, which is replaced.")],
    *,
    entity: Annotated[str, typer.Option(help="city or country.")] = "city",
    cities: Annotated[int | None, typer.Option(help="The largest so many cities (default: 500).")] = None,
    attributes: Annotated[Names, typer.Option(help="Attributes, separated by commas; default: three.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split of the entities into train and test.")] = 0,
) -> None:
    """Write RAVEL-like data of packaged facts, as RAVEL's four files with their sources; needs sae-sanity[ravel]."""
    from .ravel_data import build_ravel as build

    found, files = build(out, entity, cities, split(attributes), seed)
    for file in files:
        typer.echo(f"{file.stat().st_size:>12,} bytes  {file}")
    for source in found.sources:
        typer.echo(f"source: {source.name} {source.version} ({source.licence}): {source.what}")
    n, k = len(found.values), sum(map(len, found.templates.values()))
    typer.echo(f"{n} entities, {len(found.attributes)} attributes, {k} templates; sha256 {found.sha256}")
