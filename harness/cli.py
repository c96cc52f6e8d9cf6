"""The command line of `sae-sanity`: the only room that knows a terminal, besides `results/report/`."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ..results.store import StoreError
from .cli_baselines import app as baselines_app
from .cli_data import app as data_app
from .cli_release import register as release
from .cli_sweep import sweep
from .cli_synthetic import reproduce, synthetic
from .config import Settings
from .errors import USERS_TO_MEND, UsageError
from .options import (
    BaselineRun,
    Config,
    Figures,
    Format,
    Json,
    Lock,
    Names,
    Output,
    Part,
    RayAddress,
    Results,
    SetPolicy,
    Way,
    assigned,
    split,
    takes_settings,
)
from .output import check_figures, console, deliver, destinations, draw
from .progress import PlainProgress, Progress, RichProgress

# Before torch is imported. Its threads spin while they wait for each other, which on two cores shared with one other
# busy process cut forward passes from about 3,100 to 270-2,200 tokens/s (measured, by batch size).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

EXIT_USAGE, EXIT_INTERNAL, EXIT_INTERRUPTED = 2, 70, 130

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
app.add_typer(baselines_app)
app.add_typer(data_app)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars on a terminal, plain lines elsewhere, both on stderr."""
    if sys.stderr.isatty():
        with RichProgress() as bars:
            yield bars
    else:
        yield PlainProgress()


@app.command()
@takes_settings
def check(
    settings: Settings,
    *,
    max_judge_tokens: Annotated[
        int | None, typer.Option(help="Stop before judges take more tokens in this command.")
    ] = None,
    max_cost: Annotated[float | None, typer.Option(help="Stop before judges cost more in this command.")] = None,
    judge_price: Annotated[
        str | None, typer.Option(help="IN,OUT: price per million tokens of the judge, or of both.")
    ] = None,
    lock: Lock = None,
    baseline_run: BaselineRun = None,
    format_: Format = None,
    json: Json = False,
    output: Output = None,
    figures: Figures = None,
    results: Results = None,
    executor: Way = "local",
    ray_address: RayAddress = None,
    shard: Part = None,
) -> None:
    """Train the baselines, measure every arm side by side and say whether trained beats random."""
    from .check import run_check
    from .executors.executor import executing
    from .judging import parse_limits
    from .shards import Shard, Unfinished

    to = destinations(format_, json=json, output=output)
    check_figures(figures)
    limits = parse_limits(max_judge_tokens, max_cost, judge_price)
    own = Shard.parse(shard) if shard is not None else None
    try:
        with executing(executor, ray_address) as way, progress_bars() as progress:
            report = run_check(
                settings, results, progress, limits=limits, lock=lock, earlier=baseline_run, executor=way, shard=own
            )
    except Unfinished as others:
        typer.echo(f"sae-sanity: {others}", err=True)
        raise typer.Exit from None
    draw(report, figures)
    deliver(report, to)
    raise typer.Exit(report.exit_code)


@app.command()
@takes_settings
def plan(
    settings: Settings,
    *,
    lock: Annotated[Path | None, typer.Option(help="Register the plan: write it to this file, once.")] = None,
    effect: Annotated[
        float | None, typer.Option(help="Say what size would see this difference (default: the margin).")
    ] = None,
    components_from: Annotated[
        Path | None, typer.Option(help="Results folder of a finished run like this one: how scores vary.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what `check` with the same flags would do, take and be able to see; start nothing."""
    from .preregister import write_lock
    from .show_plan import Wish, plan_as_json, plan_as_table, register

    wish = Wish(effect, components_from)
    if lock is not None:
        done = "registered in" if write_lock(lock, register(settings, wish)) else "is the one already registered in"
        typer.echo(f"sae-sanity: this plan {done} {lock}", err=True)
    if json:
        typer.echo(plan_as_json(settings, wish))
    else:
        for table in plan_as_table(settings, wish):
            console().print(table)


@app.command()
def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Configuration files (default: that of the working directory).")
    ] = None,
) -> None:
    """Say whether a configuration can be used, and the registered plan that it names; start nothing."""
    from .validate import found_here, validated

    for file in files or [found_here()]:
        typer.echo(f"sae-sanity: {file}: {validated(file)}", err=True)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Results folder of a finished check.")],
    *,
    format_: Format = None,
    json: Json = False,
    output: Output = None,
    figures: Figures = None,
    saebench: Annotated[Path | None, typer.Option(help="Also write SAEBench's eval-output files to a folder.")] = None,
    latents: Annotated[bool, typer.Option("--latents", help="Show latents of every arm side by side instead.")] = False,
    lock: Lock = None,
    baseline_run: BaselineRun = None,
    config: Config = None,
    set_: SetPolicy = None,
) -> None:
    """Show the report of a finished check again, from its stored rows; needs no language model."""
    from .compare_runs import since
    from .policies import ruling
    from .preregister import read_lock, status_in
    from .record import report_of

    to = destinations(format_, json=json, output=output)
    check_figures(figures)
    if latents:
        show_latents(folder)
        return
    rules = ruling(folder, config, assigned(set_))
    plan = lock or (Path(rules.policy.lock) if rules is not None and rules.policy.lock else None)
    held = status_in(read_lock(plan), folder, rules) if plan is not None else None
    earlier = since(folder, baseline_run) if baseline_run is not None else None
    found = report_of(folder, lock=held, since=earlier, rules=rules)
    if saebench is not None:
        from .saebench import write_saebench  # late: the report itself does without torch

        files = write_saebench(folder, saebench)
        typer.echo(f"sae-sanity: wrote {len(files)} files to {saebench}", err=True)
    draw(found, figures)
    deliver(found, to)
    raise typer.Exit(found.exit_code)


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(
            help="releases, saes, suites, baselines (with the trained ones that are kept), controls, architectures, "
            "profiles or settings."
        ),
    ],
    of: Annotated[str, typer.Argument(help="Release, for saes.")] = "",
) -> None:
    """List what can be named on the command line."""
    from .show_plan import listing

    for name, line in listing(what, of):
        typer.echo(f"{name:<22} {line}")


@app.command()
def saebench(
    evals: Annotated[list[str], typer.Argument(help="SAEBench evals, such as sparse_probing_sae_probes core.")],
    *,
    results: Annotated[Path, typer.Option(help="Results folder of a finished check.")],
    arms: Annotated[Names, typer.Option(help="Arms, separated by commas; default: all.")] = None,
    set_: Annotated[Names, typer.Option("--set", help="EVAL.FIELD=VALUE: a field of the eval's own config.")] = None,
    judge: Annotated[str, typer.Option(help="Judge of autointerp; its server is OPENAI_BASE_URL.")] = "",
    device: Annotated[str, typer.Option(help="Torch device; default: that of the check.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for SAEBench's files (default: RESULTS/saebench).")] = None,
    json: Json = False,
) -> None:
    """Run SAEBench's own evals on the arms of a finished check, with its traps handled; needs sae-sanity[saebench].

    Exit code 0 if everything was measured, 4 if something could not be.
    """
    from ..results.saebench_format import to_json as as_json
    from .cli_saebench import exit_code, parse_options, tables
    from .saebench import run_saebench

    wanted, options = split(arms) or [], parse_options(set_ or [])
    with progress_bars() as progress:
        summary = run_saebench(
            results, evals, progress, out=out, arms=wanted, options=options, device=device, judge_model=judge
        )
    if json:
        sys.stdout.write(as_json(summary))
    else:
        for table in tables(summary):
            console().print(table)
        typer.echo(f"sae-sanity: SAEBench's files are in {out or results / 'saebench'}", err=True)
    raise typer.Exit(exit_code(summary))


app.command()(sweep)
release(app)
app.command()(synthetic)
app.command()(reproduce)


@app.command()
def doctor() -> None:
    """Look for the traps of an environment; each in one line with its cure."""
    from .doctor import examine

    findings = list(examine())
    for finding in findings:
        typer.echo(f"{'ok  ' if finding.ok else 'TRAP'}  {finding.name}: {finding.line}")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def show_latents(folder: Path) -> None:
    """Print a random and the most different latents of every arm, with their texts, explanations and scores.

    Raises:
        UsageError: for a folder in which no judge was asked.
    """
    from ..results.latents_seen import choose
    from ..results.report.latents import latents_parts
    from ..results.report.look import Look
    from .record import latents_of

    out = console()
    for part in latents_parts(choose(latents_of(folder)), Look.of(out)):
        out.print(part)


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
        if error.errno not in USERS_TO_MEND:
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
