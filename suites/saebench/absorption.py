"""Absorption, which would write its results into site-packages and into the working directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

from transformer_lens import HookedTransformer

from .contained import versioned
from .job import Found, Job, read_result, resid_post_only
from .unavailable import Unavailable


def prepare_absorption(job: Job) -> None:
    """Train the first-letter probes of the language model, which all SAEs share.

    Raises:
        Unavailable: for an SAE on a hook that the eval does not read.
    """
    from sae_bench.evals.absorption import common
    from sae_bench.sae_bench_utils.general_utils import str_to_dtype

    resid_post_only(job)
    dtype = str_to_dtype(job.config.llm_dtype)
    with ordered_vocabulary():
        common.load_or_train_probe(
            model=HookedTransformer.from_pretrained_no_processing(job.config.model_name, dtype=dtype),
            base_template=job.config.prompt_template,
            pos_idx=job.config.prompt_token_pos,
            layer=int(job.hook_name.split(".")[1]),
            probes_dir=job.artefacts / "probes",
            device=job.device,
        )


def run_absorption(job: Job) -> Found:
    """Measure one SAE by SAEBench's absorption eval.

    Raises:
        Unavailable: when the language model itself knows too few first letters.
    """
    from sae_bench.evals.absorption import main

    own, probes = job.work.absolute(), (job.artefacts / "probes").absolute()
    k_sparse = partial(main.run_k_sparse_probing_experiment, experiment_dir=own / "k_sparse", probes_dir=probes)
    absorption = partial(
        main.run_feature_absortion_experiment,
        experiment_dir=own / "feature_absorption",
        sparse_probing_experiment_dir=own / "k_sparse",
        probes_dir=probes,
    )
    output = job.output.absolute()
    with (
        versioned(main),
        ordered_vocabulary(),
        patch.object(main, "run_k_sparse_probing_experiment", k_sparse),
        patch.object(main, "run_feature_absortion_experiment", absorption),
        chdir(own),
    ):
        main.run_eval(job.config, [(job.name, job.sae)], job.device, str(output), force_rerun=True)
    if not job.result.exists():
        raise Unavailable(
            f"fewer than {job.config.min_feats_for_eval} first letters can be read from this language model "
            f"with F1 above {job.config.min_GT_probe_f1:g}"
        )
    return Found(job.result, read_result(job.result), _notes(job))


@contextmanager
def ordered_vocabulary() -> Iterator[None]:
    """Read the tokenizer's words in the order of the alphabet.

    They come in another order at every call (the tokenizers library keeps them in a randomised hash map), so that the
    split of the probes and the examples in the prompts would be others too, whatever the seed.
    """
    from sae_bench.evals.absorption import common, feature_absorption

    def ordered(*args: Any, **kwargs: Any) -> list[str]:  # noqa: ANN401
        return sorted(found(*args, **kwargs))

    found = common.get_alpha_tokens
    with (
        patch.object(common, "get_alpha_tokens", ordered),
        patch.object(feature_absorption, "get_alpha_tokens", ordered),
    ):
        yield


def _notes(job: Job) -> tuple[str, ...]:
    """SAEBench's position of the word is that of tokenizers which cut the rest of the template into five tokens."""
    rest = job.config.prompt_template.split("{word}")[-1]
    right = -1 - len(job.language.tokenizer.encode(rest, add_special_tokens=False))
    if right == job.config.prompt_token_pos:
        return ()
    return (f"prompt_token_pos is {job.config.prompt_token_pos}, but the word ends at {right} with this tokenizer",)
