"""The command line of `sae-sanity`: the only room that knows a terminal, besides `results/report/`."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..results.store import StoreError
from .config import Settings, resolve
from .errors import UsageError
from .progress import PlainProgress, Progress, RichProgress

# Before torch is imported. Its threads spin while they wait for each other, which on two cores shared with one other
# busy process cut forward passes from about 3,100 to 270-2,200 tokens/s (measured, by batch size).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

EXIT_USAGE, EXIT_INTERNAL, EXIT_INTERRUPTED = 2, 70, 130

_USERS_TO_MEND = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors of the system that a user can do something about: a full disk, a folder that is not theirs."""

app = typer.Typer(
    name="sae-sanity",
    help="Does this sparse autoencoder beat random?",
    epilog=(
        "Exit codes: 0 beats every required baseline in every suite; 1 does not; 2 usage or bad input; "
        "3 inconclusive; 4 invalid or incomplete; 70 internal error; 130 interrupted."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Numbers arrive as text: the settings convert and refuse them in one place, with the value in the message.
Target = Annotated[str, typer.Argument(help="What to check: demo.")]
Names = list[str] | None
Suites = Annotated[Names, typer.Option(help="Suites, separated by commas.")]
Baselines = Annotated[Names, typer.Option(help="Baselines, separated by commas; see `list baselines`.")]
Architecture = Annotated[str | None, typer.Option(help="topk, batchtopk, jumprelu or standard.")]
HookName = Annotated[str | None, typer.Option(help="TransformerLens hook name or module path.")]
Seeds = Annotated[str | None, typer.Option(metavar="INTEGER", help="Seeds of every arm that is trained.")]
RandomSeeds = Annotated[str | None, typer.Option(metavar="INTEGER", help="Seeds of every arm that is not.")]
Tokens = Annotated[str | None, typer.Option(metavar="INTEGER", help="Tokens that every arm is trained on.")]
DSae = Annotated[str | None, typer.Option("--d-sae", metavar="INTEGER", help="Latents of every arm.")]
L0 = Annotated[str | None, typer.Option("--l0", metavar="NUMBER", help="Active latents per token of every arm.")]
Tau = Annotated[Names, typer.Option(help="Rungs of the soft-frozen ladder, in (0, 1], separated by commas.")]
Profile = Annotated[str | None, typer.Option(help="smoke, demo or release.")]
Device = Annotated[str | None, typer.Option(help="Torch device.")]
Seed = Annotated[str | None, typer.Option(metavar="INTEGER", help="Base seed.")]
Config = Annotated[Path | None, typer.Option(help="Configuration file (default: sae-sanity.toml if there is one).")]
Set = Annotated[Names, typer.Option("--set", help="Any other setting, NAME=VALUE; see docs/configuration.md.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")]
Output = Annotated[Path | None, typer.Option(help="Also write the report to this file; .json for JSON, else text.")]
Results = Annotated[Path | None, typer.Option(help="Folder for results (default: sae-sanity-results/TARGET-HASH).")]


def _split(values: Names) -> list[str] | None:
    return [part.strip() for value in values for part in value.split(",")] if values else None


def _settings(config: Path | None, extra: Names, **flags: Any) -> Settings:  # noqa: ANN401
    for name in ("suites", "baselines", "tau"):
        flags[name] = _split(flags[name])
    for assignment in extra or []:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set is {assignment!r}; it must be NAME=VALUE")
        flags[name.strip().replace("-", "_")] = value.strip()
    return resolve(flags, config=config)


@contextmanager
def _progress() -> Iterator[Progress]:
    if sys.stderr.isatty():
        with RichProgress() as bars:
            yield bars
    else:
        yield PlainProgress()


@app.command()
def check(
    target: Target = "demo",
    *,
    suites: Suites = None,
    baselines: Baselines = None,
    architecture: Architecture = None,
    hook_name: HookName = None,
    seeds: Seeds = None,
    random_seeds: RandomSeeds = None,
    tokens: Tokens = None,
    d_sae: DSae = None,
    l0: L0 = None,
    tau: Tau = None,
    profile: Profile = None,
    device: Device = None,
    seed: Seed = None,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
    output: Output = None,
    results: Results = None,
) -> None:
    """Train the baselines, measure every arm side by side and say whether trained beats random."""
    from .check import run_check

    settings = _settings(
        config,
        set_,
        target=target,
        suites=suites,
        baselines=baselines,
        architecture=architecture,
        hook_name=hook_name,
        seeds=seeds,
        random_seeds=random_seeds,
        tokens=tokens,
        d_sae=d_sae,
        l0=l0,
        tau=tau,
        profile=profile,
        device=device,
        seed=seed,
    )
    _check_output(output)
    with _progress() as progress:
        report = run_check(settings, results, progress)
    _show(report, json=json, output=output)
    raise typer.Exit(report.exit_code)


@app.command()
def plan(
    target: Target = "demo",
    *,
    suites: Suites = None,
    baselines: Baselines = None,
    architecture: Architecture = None,
    hook_name: HookName = None,
    seeds: Seeds = None,
    random_seeds: RandomSeeds = None,
    tokens: Tokens = None,
    d_sae: DSae = None,
    l0: L0 = None,
    tau: Tau = None,
    profile: Profile = None,
    device: Device = None,
    seed: Seed = None,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Say what `check` with the same flags would do, take and be able to see; start nothing."""
    from .show_plan import plan_as_json, plan_as_table

    settings = _settings(
        config,
        set_,
        target=target,
        suites=suites,
        baselines=baselines,
        architecture=architecture,
        hook_name=hook_name,
        seeds=seeds,
        random_seeds=random_seeds,
        tokens=tokens,
        d_sae=d_sae,
        l0=l0,
        tau=tau,
        profile=profile,
        device=device,
        seed=seed,
    )
    if json:
        typer.echo(plan_as_json(settings))
    else:
        _console().print(plan_as_table(settings))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Results folder of a finished check.")],
    *,
    json: Json = False,
    output: Output = None,
) -> None:
    """Show the report of a finished check again, from its stored rows; needs no language model."""
    from .record import report_of

    _check_output(output)
    found = report_of(folder)
    _show(found, json=json, output=output)
    raise typer.Exit(found.exit_code)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="suites, baselines, controls, architectures, profiles or settings.")],
) -> None:
    """List what can be named on the command line."""
    from .show_plan import listing

    for name, line in listing(what):
        typer.echo(f"{name:<22} {line}")


@app.command()
def doctor() -> None:
    """Look for the traps of an environment; each in one line with its cure."""
    from .doctor import examine

    findings = list(examine())
    for finding in findings:
        typer.echo(f"{'ok  ' if finding.ok else 'TRAP'}  {finding.name}: {finding.line}")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def _console() -> Any:  # noqa: ANN401  # rich's Console, imported late to keep `--help` fast
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=100)


def _show(found: Any, *, json: bool, output: Path | None) -> None:  # noqa: ANN401
    from ..results.report import render_text, to_json

    if output is not None:
        _write(output, found)
    if json:
        sys.stdout.write(to_json(found))
    else:
        render_text(found, _console())


def _check_output(path: Path | None) -> None:
    if path is not None and path.is_dir():
        raise UsageError(f"--output is {path}: it is a folder; name a file")
    if path is not None and not path.absolute().parent.is_dir():
        raise UsageError(f"--output is {path}: there is no folder {path.absolute().parent}")


def _write(path: Path, found: Any) -> None:  # noqa: ANN401
    from rich.console import Console

    from ..results.report import render_text, to_json

    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            if path.suffix == ".json":
                file.write(to_json(found))
            else:
                render_text(found, Console(file=file, width=100))
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"--output is {path}: it cannot be written ({error.strerror})") from None


def _terminated(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; the codes are documented in `--help` and the README."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return _run(arguments)
    except (UsageError, StoreError) as error:
        sys.stderr.write(f"sae-sanity: {error}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("sae-sanity: interrupted; what was finished is kept, the same command goes on from there\n")
        return EXIT_INTERRUPTED
    except OSError as error:
        if error.errno not in _USERS_TO_MEND:
            traceback.print_exc()
            return EXIT_INTERNAL
        where = error.filename or "the cache or results folder"
        sys.stderr.write(f"sae-sanity: cannot write {where}: {error.strerror}; what was finished is kept\n")
        return EXIT_USAGE
    except BaseException as error:  # the outermost frame: every bug has to end in exit code 70
        if isinstance(error, SystemExit):
            raise
        traceback.print_exc()
        sys.stderr.write("sae-sanity: internal error; what was finished is kept\n")
        return EXIT_INTERNAL


def _run(arguments: list[str] | None) -> int:
    from typer._click.exceptions import ClickException

    try:
        code = int(app(arguments, standalone_mode=False) or 0)
    except ClickException as error:
        sys.stderr.write(f"sae-sanity: {error.format_message()}\n")
        return EXIT_USAGE
    if code == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this code and says nothing
        raise KeyboardInterrupt
    return code
