"""`sae-sanity baselines`: take trained baselines to another machine or to the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .errors import UsageError

app = typer.Typer(name="baselines", help="Trained baselines: export them, share them.", no_args_is_help=True)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write, an ordinary SAELens repo.")],
    *,
    recipe: Annotated[str, typer.Option(help="Eight digits from `list baselines`; default: all that are kept.")] = "",
    results: Annotated[Path | None, typer.Option(help="Take those of one results folder, not those kept.")] = None,
) -> None:
    """Write trained baselines as a folder that SAELens loads and `check --baselines-from` takes."""
    from .baseline_store import BaselineStore, find_arms
    from .baseline_store import export as write

    arms = tuple(find_arms(results)) if results else BaselineStore.of_user().arms()
    chosen = tuple(arm for arm in arms if arm.group.startswith(recipe))
    if not chosen:
        where = f"in {results}" if results else "in the store; `list baselines` shows what there is"
        raise UsageError(f"no trained baselines{f' of recipe {recipe}' if recipe else ''} {where}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder; name a new one")
    for path in write(chosen, folder):
        typer.echo(str(path))


@app.command()
def upload(
    folder: Annotated[Path, typer.Argument(help="What `baselines export` wrote.")],
    repo: Annotated[str, typer.Argument(help="Hub repo, org/name.")],
    *,
    push: Annotated[bool, typer.Option("--push", help="Really upload; without it, only say what would be.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repo private.")] = False,
) -> None:
    """Upload exported baselines to the hub: a dry run, unless --push is given. The token comes from HF_TOKEN."""
    from .share import check_repo, exported_files
    from .share import upload as send

    check_repo(repo)
    files = exported_files(folder)
    sizes = [(folder / file).stat().st_size for file in files]
    for file, size in zip(files, sizes, strict=True):
        typer.echo(f"{size:>14,} bytes  {file.as_posix()}")
    total = f"{len(files)} files, {sum(sizes):,} bytes"
    if not push:
        typer.echo(f"dry run: {total} would go to {repo}; --push uploads them")
        return
    typer.echo(f"{total} uploaded: {send(folder, files, repo, private=private)}")
