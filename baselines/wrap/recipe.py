"""How an SAE was made, as far as anybody wrote it down, and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RECIPE_FIELDS: Mapping[str, str] = {
    "model_name": "language model",
    "model_from_pretrained_kwargs": "how TransformerLens processed its weights",
    "hook_name": "site",
    "hook_head_index": "attention head, where the SAE reads one",
    "context_size": "tokens per context",
    "prepend_bos": "whether contexts start with BOS",
    "dataset_path": "texts it was trained on",
    "normalize_activations": "how activations are normalised",
    "normalize_activations_in_training": "the same while it was trained: SAELens folds it in and then writes none",
    "norm_scaling_factor": "factor of expected_average_only_in: activations times it have mean norm sqrt(d_in)",
    "architecture": "architecture in training",
    "saved_as": "architecture that cfg.json names",
    "d_in": "width of the activations",
    "d_sae": "number of latents",
    "k": "active latents per token that training aimed at",
    "l0": "active latents per token, as recorded",
    "apply_b_dec_to_input": "whether b_dec is taken from the input",
    "reshape_activations": "hook_z: heads are flattened",
    "options": "further fields of the training configuration",
    "sparsity_coefficient": "coefficient of the sparsity loss (l1 or l0)",
    "tokens": "tokens of training",
    "lr": "learning rate",
    "batch_size": "tokens per step",
    "dtype": "dtype it is saved in; it is measured in float32",
    "sae_lens_version": "SAELens that wrote it",
}
"""Fields of a recipe, each with one line about it, in the order in which they are shown."""


@dataclass(frozen=True)
class Known:
    """A value and where it is from."""

    value: Any
    """The value, JSON-able."""
    source: str
    """As "cfg.json", "cfg.json (before SAELens 6)", "runner_cfg.json", "registry", "SAEBench cfg", "weights", ..."""


@dataclass(frozen=True)
class Recipe:
    """What is known about how an SAE was made; what is unknown is absent."""

    values: Mapping[str, Known] = field(default_factory=dict)
    """By name, of `RECIPE_FIELDS`."""

    def __post_init__(self) -> None:
        for name in self.values:
            if name not in RECIPE_FIELDS:
                raise ValueError(f"no such field of a recipe: {name!r} (known: {', '.join(RECIPE_FIELDS)})")

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return a value, or `default` where it is unknown."""
        return self.values[name].value if name in self.values else default

    def source(self, name: str) -> str:
        """Say where a value is from; "unknown" where it is not known."""
        return self.values[name].source if name in self.values else "unknown"

    def with_values(self, source: str, **values: Any) -> Recipe:  # noqa: ANN401
        """Return the recipe with later knowledge, which wins; a value of None is none.

        Raises:
            ValueError: for a name that is not in `RECIPE_FIELDS`.
        """
        return Recipe({**self.values, **{n: Known(v, source) for n, v in values.items() if v is not None}})

    def filled(self, source: str, **values: Any) -> Recipe:  # noqa: ANN401
        """Return the recipe with what was unknown filled in; what was known stays."""
        return self.with_values(source, **{n: v for n, v in values.items() if n not in self.values})
