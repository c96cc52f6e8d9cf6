"""One eval of SAEBench as data: its configuration, how it is prepared and run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from .job import Found, Job

INSTALL = "pip install 'sae-sanity[saebench]'"
"""How SAEBench is installed."""


class NotInstalledError(Exception):
    """SAEBench is not there, or cannot be imported; one line."""


class OptionError(ValueError):
    """An option that the eval's configuration does not take; one line."""


@dataclass(frozen=True)
class Evaluation:
    """One eval of SAEBench."""

    name: str
    """What a user calls it."""
    summary: str
    """One line for a list."""
    config: str
    """Its configuration class, as `module:name` below `sae_bench.evals`."""
    run: Callable[[Job], Found]
    """Measures one SAE in a prepared `artefacts` folder."""
    prepare: Callable[[Job], None] | None = None
    """Fills an empty `artefacts` folder, so that no SAE meets a cold cache."""
    main: str = ".*"
    """Regular expression of the metrics that the summary shows."""
    fixed: Mapping[str, Any] | None = None
    """Options that belong to the eval and that nobody may set."""
    ours: tuple[str, ...] = ()
    """Options that are set by the harness, to keep paths apart."""
    batch_divisor: int = 1
    """SAEBench runs the eval at its table's batch size over this; RAVEL's numbers depend on it."""
    version: int = 1
    """Raised when a change here changes numbers."""

    def main_metrics(self, found: Mapping[str, float | None]) -> dict[str, float | None]:
        """Those metrics of a result that the summary shows, without their category."""
        named = {name.split(".", 1)[1]: value for name, value in found.items()}
        return {name: value for name, value in named.items() if re.fullmatch(self.main, name)}


def make_config(evaluation: Evaluation, options: Mapping[str, Any], model_name: str, d_sae: int | None = None) -> Any:  # noqa: ANN401
    """SAEBench's configuration of an eval, checked by SAEBench's own class.

    Args:
        evaluation: The eval.
        options: Values by name; the others are SAEBench's defaults, but for what follows.
        model_name: Name of the language model. SAEBench's tables give dtype and batch size by it; they know six
            models, and for the others it is float32 and 32.
        d_sae: Latents of the SAEs: SCR and TPP refuse to ablate more than there are, so their default is cut there.

    Raises:
        NotInstalledError: SAEBench is not there.
        OptionError: An unknown name or a value that SAEBench refuses.
    """
    cls = _load(evaluation.config)
    known = {f.name for f in fields(cls)} - set(evaluation.fixed or ()) - set(evaluation.ours) - {"model_name"}
    _refuse_unknown(evaluation, options, known)
    values = _defaults(cls, model_name, d_sae, evaluation.batch_divisor) | dict(options) | dict(evaluation.fixed or {})
    try:
        return cls(**values)
    except ValidationError as error:
        raise OptionError(_explain(evaluation.name, error, options)) from None


def _explain(name: str, error: ValidationError, options: Mapping[str, Any]) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if not where:  # SAEBench asserts things of several values at once, and says nothing
        return f"options of {name} contradict each other: {dict(options)}"
    return f"{name}.{where} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _load(path: str) -> Any:  # noqa: ANN401
    module, name = path.split(":")
    try:
        return getattr(import_module(f"sae_bench.evals.{module}"), name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that does not fit torch
        raise NotInstalledError(f"SAEBench cannot be imported ({str(error).splitlines()[0]}): {INSTALL}") from None


def _refuse_unknown(evaluation: Evaluation, options: Mapping[str, Any], known: set[str]) -> None:
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise OptionError(f"{evaluation.name} has no option {name!r}{hint} (known: {', '.join(sorted(known))})")


def _defaults(cls: Any, name: str, d_sae: int | None, divisor: int) -> dict[str, Any]:  # noqa: ANN401
    from sae_bench.sae_bench_utils.activation_collection import LLM_NAME_TO_BATCH_SIZE, LLM_NAME_TO_DTYPE

    found = {
        "model_name": name,
        "llm_dtype": LLM_NAME_TO_DTYPE.get(name, "float32"),
        "llm_batch_size": LLM_NAME_TO_BATCH_SIZE.get(name, 32 * divisor) // divisor,
    }
    declared = {f.name: f for f in fields(cls)}
    if d_sae is not None and "n_values" in declared:
        factory: Any = declared["n_values"].default
        found["n_values"] = [n for n in factory.default_factory() if n <= d_sae]
    return {key: value for key, value in found.items() if key in declared}
