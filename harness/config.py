"""Settings of a check: profile, then file, then environment, then flags; the later the stronger."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from ..results.policy import Policy
from .errors import UsageError, unknown
from .profiles import PROFILES

FILE_NAME = "sae-sanity.toml"
PYPROJECT, TABLE = "pyproject.toml", "sae-sanity"
"""Where settings are read from without a file of their own: the table [tool.sae-sanity]."""
ENV_PREFIX = "SAE_SANITY_"
_NOT_SETTINGS = frozenset({"CACHE", "CACHE_MAX", "BASELINES"})
FLAGS = frozenset(
    (
        *("sae_id", "model", "texts", "suites", "baselines", "architecture", "hook_name", "seeds", "random_seeds"),
        *("tokens", "d_sae", "l0", "tau", "profile", "device", "seed", "baselines_from"),
        *("judge", "judge_url", "latents", "second_judge", "second_judge_url"),
    )
)
"""Settings with a flag of their own; the others are given as `--set NAME=VALUE`."""
LISTS = frozenset({"sae_id", "suites", "baselines", "tau", "ravel_attributes"})
"""Settings that are lists: separated by commas in the environment and in `--set`."""
POLICY_LISTS = frozenset({"suites", "baselines"})
"""Fields of the policy that are lists."""

Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Everything that decides the numbers of a check; hashed into the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    target: str = "demo"
    """What is checked: `demo`, a SAELens release, org/repo, hf://org/repo/path, a folder, or module:factory."""
    sae_id: tuple[str, ...] = ()
    """Which SAEs of the target: ids or globs; none needed where it has one."""
    model: str = ""
    """Language model, by hub id, TransformerLens name or folder; empty for the one that the SAE names."""
    texts: str = ""
    """`packaged`, a folder or file of texts, or a hub dataset; empty for the SAE's own dataset, else `packaged`."""
    profile: Literal["smoke", "demo", "release"] = "demo"
    """Which set of defaults."""
    suites: Annotated[tuple[str, ...], Field(min_length=1)] = ("reconstruction", "sparse_probing")
    """Suites to run."""
    baselines: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "frozen_decoder",
        "soft_frozen",
        "frozen_encoder",
        "random",
    )
    """Baselines to compare with; `random` is always measured, because it is the floor of the scale."""
    tau: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.8,)
    """Rungs of the soft-frozen ladder: least cosines, in (0, 1]."""
    architecture: str = "batchtopk"
    """SAE architecture of every arm that is made here; a given SAE's own, unless it is named."""
    hook_name: str = "blocks.12.hook_resid_post"
    """Where the SAE sits: a TransformerLens hook name or a module path; a given SAE names its own."""
    context_size: Annotated[int, Field(ge=8)] = 128
    """Tokens per document, BOS included; fewer where a given SAE was trained on fewer."""
    prepend_bos: bool = True
    """Whether documents start with a BOS token; a given SAE says."""
    d_sae: Count
    """Latents of every arm; those of a given SAE."""
    l0: Annotated[float, Field(gt=0)] | None = 32.0
    """Target active latents per token of every arm; what is measured on a given SAE."""
    seeds: Count
    """Seeds of every arm that is trained."""
    random_seeds: Annotated[int, Field(ge=3)]
    """Seeds of every arm that is not; the assay gate needs 3 to compare random with random."""
    tokens: Annotated[int, Field(ge=4096)]
    """Tokens that every arm is trained on."""
    batch_size: Count = 2048
    """Tokens per optimiser step."""
    lr: Annotated[float, Field(gt=0)] = 3e-3
    """Peak learning rate."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Base seed: data order, splits, permutations; arm seeds count up from it."""
    held_out_documents: Annotated[int, Field(ge=2)]
    """Documents for `reconstruction`."""
    ce_documents: Count
    """How many of them are spliced into the language model."""
    calibration_tokens: Annotated[int, Field(ge=1024)]
    """Tokens on which thresholds are set so that L0 matches."""
    probe_datasets: Literal["smoke", "demo", "release"]
    """Which of the 113 probing datasets."""
    probe_prompts: Annotated[int, Field(ge=50)]
    """Prompts per dataset, train and test together."""
    probe_conditions: Literal["smoke", "demo", "release"]
    """How `hard_probing` makes probing hard: which conditions, seeds and dense probes."""
    world: Literal["constant", "variable", "correlated", "hierarchical", "synthsaebench"] = "variable"
    """Kind of world of the suite `synthetic`; its size is that of the preset that belongs to the profile."""
    judge: str = ""
    """Judge of `autointerp`: `local`, `token_statistics`, or a model of the server at `judge_url`."""
    judge_url: str = ""
    """Address of an OpenAI-compatible server, without a key in it; empty for OpenAI's own."""
    second_judge: str = ""
    """Judge that is asked a share of the same, to see whether two agree; like `judge`, and empty for none."""
    second_judge_url: str = ""
    """Address of its server, without a key in it; empty for OpenAI's own. Its key is in SECOND_JUDGE_API_KEY."""
    second_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the latents that it is asked about."""
    latents: Annotated[int, Field(ge=2)]
    """Latents of every SAE that the judge is asked about."""
    detection_examples: Annotated[int, Field(ge=4, multiple_of=2)]
    """Texts per latent in which the judge looks for it, half of them with it (the paper took 100)."""
    early_stop: bool = False
    """Whether `autointerp` asks about latents step by step and stops where the anytime-valid interval decides."""
    hard_negatives: bool = False
    """Whether texts without the latent are neighbours of texts with it, instead of random ones."""
    ravel: str = ""
    """Data of `causal_editing` in RAVEL's layout: a folder or hub dataset; empty for packaged facts about cities."""
    ravel_entity: str = "city"
    """Kind of entity in that data."""
    ravel_attributes: tuple[str, ...] = ()
    """Attributes that are asked for; empty for those that SAEBench asks of cities and Nobel prize winners, else all."""
    editing_entities: Annotated[int, Field(ge=16)]
    """Entities that the model is asked about; those that it knows are edited."""
    editing_pairs: Annotated[int, Field(ge=16)]
    """Pairs from which a mask learns which latents carry an attribute."""
    editing_sources: Count = 1
    """Entities with which each one is edited in the test."""
    masks: Count
    """Masks for each SAE and attribute: a given SAE needs two, or its mask's luck is not known."""
    error_term: Literal["dropped", "kept"] = "dropped"
    """What happens to an SAE's reconstruction error where it edits; SAEBench drops it."""
    arithmetic: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """In which type the language model computes; `auto` is its files' own, but float32 where a CPU has no bfloat16."""
    activation_precision: Literal["bfloat16", "float32"] = "bfloat16"
    """How activations are kept on disk: float32 is twice as large, and rounds nothing of a float32 model."""
    device: str = "cpu"
    """Torch device."""
    baselines_from: str = ""
    """Folder or hf:// path of baselines that somebody has trained; empty to train them, or reuse one's own."""
    policy: Policy = Field(default_factory=Policy)
    """What the check must show, and what follows where it does not: the table [policy]; see docs/policy.md."""

    _given: frozenset[str] = PrivateAttr(frozenset())
    _from_file: frozenset[str] = PrivateAttr(frozenset())

    @property
    def from_file(self) -> frozenset[str]:
        """Names whose value is from a configuration file, which may be a stranger's: no flag or variable gave it."""
        return self._from_file

    @property
    def given(self) -> frozenset[str]:
        """Names that a file, the environment or a flag gave: they win over what an SAE says of itself."""
        return self._given

    def arms(self) -> tuple[str, ...]:
        """Names of the baselines as they are run: `soft_frozen` once per tau, `random` always."""
        names: list[str] = []
        for name in self.baselines:
            names += [f"soft_frozen@{t:g}" for t in self.tau] if name == "soft_frozen" else [name]
        return tuple(dict.fromkeys([*names, "random"]))


def read_file(path: Path) -> dict[str, Any]:
    """Read a configuration file; of a pyproject.toml the table [tool.sae-sanity].

    Raises:
        UsageError: when it cannot be read or is not TOML, or for a pyproject.toml without that table.
    """
    if path.name != PYPROJECT:
        return _toml(path)
    if (table := pyproject_table(path)) is None:
        raise UsageError(f"configuration file {path} has no table [tool.{TABLE}]")
    return table


def pyproject_table(path: Path) -> dict[str, Any] | None:
    """The table [tool.sae-sanity] of a pyproject.toml; None where it has none.

    Raises:
        UsageError: when the file cannot be read or is not TOML, or the table is none.
    """
    tool = _toml(path).get("tool", {})
    table = tool.get(TABLE) if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UsageError(f"tool.{TABLE} in {path} is {table!r}; it must be a table")
    return table


def find_file() -> Path | None:
    """The configuration file of the working directory: sae-sanity.toml, else a pyproject.toml with our table."""
    if Path(FILE_NAME).exists():
        return Path(FILE_NAME)
    pyproject = Path(PYPROJECT)
    return pyproject if pyproject.is_file() and pyproject_table(pyproject) is not None else None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"configuration file {path} cannot be read: {error}; it must be TOML") from None


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Take settings from variables such as `SAE_SANITY_TOKENS`; lists are separated by commas.

    Raises:
        UsageError: for a policy or a field of one: a gate is not to be moved by what a job happens to export.
    """
    found = {k[len(ENV_PREFIX) :]: v for k, v in environ.items() if k.startswith(ENV_PREFIX)}
    if policy := next((name for name in found if name.upper().startswith("POLICY")), None):
        raise UsageError(f"{ENV_PREFIX}{policy} is set; a policy is in a file or in --set, never in the environment")
    return {k.lower(): _split(k.lower(), v) for k, v in found.items() if k not in _NOT_SETTINGS}


def _split(name: str, value: str) -> str | list[str]:
    return [part.strip() for part in value.split(",")] if name in LISTS else value


def resolve(
    flags: Mapping[str, Any], *, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Merge profile < file < environment < flags into settings.

    Args:
        flags: settings given on the command line; None means not given. Fields of the policy have dotted names, as in
            `policy.margins.reconstruction`, and leave the others as they are.
        config: configuration file; by default that of the working directory, if there is one (`find_file`).
        environ: environment variables; the process's own by default.

    Raises:
        UsageError: for an unreadable file, an unknown name or a value out of range.
    """
    path = config or find_file()
    from_file = configured(path) if path else {}
    given = {k: v for k, v in flags.items() if v is not None}
    return merge(from_file, read_environment(os.environ if environ is None else environ) | given)


def merge(from_file: Mapping[str, Any], nearer: Mapping[str, Any]) -> Settings:
    """Merge a profile, the tables of a file and what was given nearer by into settings.

    Args:
        from_file: settings as a configuration file has them.
        nearer: settings of the environment or the command line, which win; names of the policy are dotted.

    Raises:
        UsageError: for an unknown name or a value out of range.
    """
    merged = _with_policy(from_file, nearer)
    profile = merged.get("profile", "demo")
    if not isinstance(profile, str) or profile not in PROFILES:
        raise unknown("profile", str(profile), PROFILES)
    try:
        settings = Settings.model_validate(PROFILES[profile] | merged)
    except ValidationError as error:
        raise _explain(error) from None
    settings._given = frozenset(merged) - {"target", "profile"}
    settings._from_file = frozenset(from_file) - frozenset(nearer)
    return settings


def configured(path: Path) -> dict[str, Any]:
    """Settings of a configuration file, with the registered plan that it names where that lies.

    Raises:
        UsageError: as for `read_file`.
    """
    return _beside(read_file(path), path)


def _beside(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """With the registered plan that a file names taken from the file's own folder, wherever the command runs."""
    policy = values.get("policy")
    if not isinstance(policy, dict) or not isinstance(lock := policy.get("lock"), str) or not lock:
        return values
    return values | {"policy": policy | {"lock": str(path.parent / lock)}}


def _with_policy(values: Mapping[str, Any], nearer: Mapping[str, Any]) -> dict[str, Any]:
    """Nearer values win, and `policy.NAME` or `policy.margins.SUITE` replaces that field alone."""
    merged = {name: value for name, value in {**values, **nearer}.items() if not name.startswith("policy.")}
    for name, value in nearer.items():
        if name.startswith("policy."):
            _put(merged, name.split(".", 2), value)
    return merged


def _put(values: dict[str, Any], path: Sequence[str], value: object) -> None:
    """Set a value in nested tables, which are copied; what is no table is left for the validation to name."""
    first, *rest = path
    inner = values.get(first, {})
    if not rest:
        values[first] = value
    elif isinstance(inner, Mapping):
        values[first] = dict(inner)
        _put(values[first], rest, value)


def flat_policy(policy: Policy) -> dict[str, Any]:
    """Fields of a policy that are not the default, by dotted name, one for each margin."""
    changed = policy.model_dump(exclude_defaults=True)
    margins = changed.pop("margins", {})
    fields = {f"policy.{name}": list(value) if isinstance(value, tuple) else value for name, value in changed.items()}
    return fields | {f"policy.margins.{suite}": margin for suite, margin in margins.items()}


def described() -> dict[str, str]:
    """Every setting with its meaning, fields of the policy by dotted name."""
    own = {name: field.description or "" for name, field in Settings.model_fields.items() if name != "policy"}
    return own | {f"policy.{name}": field.description or "" for name, field in Policy.model_fields.items()}


def profile_defaults(profile: str) -> Settings:
    """Return a profile's settings, with nothing from files or the environment."""
    return Settings.model_validate(PROFILES[profile] | {"profile": profile})


def _explain(error: ValidationError) -> UsageError:
    """One line for the first thing that is wrong."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return unknown("setting", name, described())
    return UsageError(f"{name} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}")
