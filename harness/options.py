"""The flags of commands that plan or run a check: one table, so that `check` and `plan` cannot drift apart."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .config import LISTS, POLICY_LISTS, Settings, resolve
from .errors import UsageError

Names = list[str] | None


def _text(help_: str, metavar: str = "TEXT") -> Any:  # noqa: ANN401
    # Numbers arrive as text: the settings convert and refuse them in one place, with the value in the message.
    return Annotated[str | None, typer.Option(metavar=metavar, help=help_)]


def _names(help_: str) -> Any:  # noqa: ANN401
    return Annotated[Names, typer.Option(help=help_)]


SETTING_FLAGS: dict[str, Any] = {
    "sae_id": _names("Which SAEs of the target: ids or globs, separated by commas; see `list saes RELEASE`."),
    "model": _text("Language model (hub id, TransformerLens name or folder) where the SAE names none or another."),
    "texts": _text("`packaged`, a folder or file of texts, or a hub dataset; default: the SAE's own dataset."),
    "suites": _names("Suites, separated by commas."),
    "baselines": _names("Baselines, separated by commas; see `list baselines`."),
    "baselines_from": _text("Folder or hf:// path of exported baselines, instead of training them.", "PLACE"),
    "architecture": _text("Architecture of the SAEs that are trained; see `list architectures`."),
    "hook_name": _text("TransformerLens hook name or module path."),
    "seeds": _text("Seeds of every arm that is trained.", "INTEGER"),
    "random_seeds": _text("Seeds of every arm that is not.", "INTEGER"),
    "tokens": _text("Tokens that every arm is trained on.", "INTEGER"),
    "d_sae": Annotated[str | None, typer.Option("--d-sae", metavar="INTEGER", help="Latents of every arm.")],
    "l0": Annotated[str | None, typer.Option("--l0", metavar="NUMBER", help="Active latents per token of every arm.")],
    "tau": _names("Rungs of the soft-frozen ladder, in (0, 1], separated by commas."),
    "profile": _text("smoke, demo or release."),
    "judge": _text("Judge of autointerp: local, token_statistics, or a model; the key is in the environment."),
    "judge_url": _text("Address of the judge's OpenAI-compatible server (default: OpenAI's).", "URL"),
    "second_judge": _text("Another judge for a share of the latents, to see whether two agree; it enters no score."),
    "second_judge_url": _text("Address of its server (default: OpenAI's); its key is in SECOND_JUDGE_API_KEY.", "URL"),
    "latents": _text("Latents of every SAE that the judge is asked about.", "INTEGER"),
    "device": _text("Torch device."),
    "seed": _text("Base seed.", "INTEGER"),
}
"""Settings with a flag of their own."""

Target = Annotated[
    str,
    typer.Argument(help="demo, a SAELens release, org/repo, hf://org/repo/path, a folder, or package.module:factory."),
]
Config = Annotated[
    Path | None, typer.Option(help="Configuration file (default: sae-sanity.toml, else pyproject.toml).")
]
Set = Annotated[Names, typer.Option("--set", help="Any other setting, NAME=VALUE; see docs/configuration.md.")]
SetPolicy = Annotated[
    Names, typer.Option("--set", help="A field of the policy, policy.NAME=VALUE; see docs/policy.md.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help="On stdout: table (default), json, markdown, junit, github or html."),
]
Output = Annotated[
    list[Path] | None,
    typer.Option(help="Also write the report to FILE (.txt .json .md .xml .html); repeatable.", metavar="FILE"),
]
Figures = Annotated[Path | None, typer.Option(help="Also draw the figures, as PNG and SVG, into this folder.")]
BaselineRun = Annotated[
    Path | None, typer.Option(help="Results folder of an earlier check: say whether this one is worse.")
]
Lock = Annotated[Path | None, typer.Option(help="Registered plan to hold the run against (`plan --lock` writes one).")]
Results = Annotated[Path | None, typer.Option(help="Folder for results (default: sae-sanity-results/TARGET-HASH).")]
Way = Annotated[
    str, typer.Option("--executor", help="Who measures: local (this process) or ray; the scores are the same.")
]
RayAddress = Annotated[
    str | None, typer.Option(help="Ray cluster (default: RAY_ADDRESS, else one on this machine).", metavar="ADDRESS")
]
Part = Annotated[
    str | None,
    typer.Option("--shard", help="Measure the I-th of N shares; start N of these on one folder.", metavar="I/N"),
]

_LISTS = ("sae_id", "suites", "baselines", "tau")


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a command that takes `settings` into one that takes a target and every flag of a setting.

    Args:
        command: its first parameter is the resolved `Settings`; the others stay options of the command.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    names = {parameter.name for parameter in own}

    @functools.wraps(command)
    def run(**values: Any) -> None:  # noqa: ANN401
        rest = {name: values.pop(name) for name in names}
        command(settings_of(**values), **rest)

    parameters = [_parameter("target", Target, "demo"), *(_parameter(n, a) for n, a in SETTING_FLAGS.items())]
    parameters += [_parameter("config", Config), _parameter("set_", Set)]
    parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _parameter(name: str, annotation: Any, default: object = None) -> inspect.Parameter:  # noqa: ANN401
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def settings_of(*, config: Path | None = None, set_: Names = None, **flags: Any) -> Settings:  # noqa: ANN401
    """Resolve flags, files and the environment.

    Raises:
        UsageError: for anything that is not a setting or not a value of it.
    """
    for name in _LISTS:
        flags[name] = split(flags.get(name))
    return resolve(flags | assigned(set_), config=config)


def assigned(set_: Names) -> dict[str, Any]:
    """What `--set NAME=VALUE` gives, by name.

    Raises:
        UsageError: for anything without an equals sign.
    """
    found: dict[str, Any] = {}
    for assignment in set_ or []:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set is {assignment!r}; it must be NAME=VALUE")
        name = _name(name.strip())
        lists = name in LISTS or name in {f"policy.{field}" for field in POLICY_LISTS}
        found[name] = split([value]) if lists else value.strip()
    return found


def _name(written: str) -> str:
    """A setting's name as it is spelt in Python; what follows `policy.margins.` is a suite's own name."""
    setting, dot, rest = written.partition(".")
    field, second, suite = rest.partition(".")
    return f"{setting.replace('-', '_')}{dot}{field.replace('-', '_')}{second}{suite}"


def split(values: Names) -> list[str] | None:
    """Names of a repeatable option that also takes several at once, separated by commas."""
    return [part.strip() for value in values for part in value.split(",")] if values else None
