"""AutoInterp: SAEBench's prompts to any judge that speaks OpenAI's protocol, with the latents that are lost counted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from .contained import versioned
from .job import Found, Job, read_result
from .unavailable import Unavailable


def run_autointerp(job: Job) -> Found:
    """Measure one SAE by SAEBench's AutoInterp; the judge's address and key come from the environment.

    Raises:
        Unavailable: without a judge, or when it does not answer.
    """
    import openai
    from sae_bench.evals.autointerp import main

    try:
        with versioned(main), _judge(main, job.judge_model), _counted(main) as asked:
            # SAEBench takes no sparsity here and counts activations itself: the log of it, which it would find
            # beside a release, it takes for a frequency and then calls every latent dead.
            main.run_eval(
                job.config,
                [(job.name, job.sae)],
                job.device,
                judge_key(),
                str(job.output),
                force_rerun=True,
                artifacts_path=str(job.artefacts),
            )
    except openai.OpenAIError as error:
        raise Unavailable(f"the judge fails: {str(error).splitlines()[0]}") from None
    return Found(job.result, read_result(job.result), (_lost(job, asked),))


def judge_key() -> str:
    """Key of the judge, from the environment.

    Raises:
        Unavailable: when neither a key nor another address is set.
    """
    key = os.environ.get("OPENAI_API_KEY", "")
    if not key and not os.environ.get("OPENAI_BASE_URL"):
        raise Unavailable("it needs a judge: set OPENAI_API_KEY, and OPENAI_BASE_URL for another one than OpenAI's")
    return key or "not needed"


@contextmanager
def _judge(main: Any, model: str) -> Iterator[None]:  # noqa: ANN401
    """Ask for another model than the one whose name SAEBench has written into its code."""
    make = main.OpenAI

    def client(**kwargs: Any) -> Any:  # noqa: ANN401
        made = make(**kwargs)
        create = made.chat.completions.create
        made.chat.completions.create = lambda **k: create(**k | ({"model": model} if model else {}))
        return made

    with patch.object(main, "OpenAI", client):
        yield


@contextmanager
def _counted(main: Any) -> Iterator[dict[str, int]]:  # noqa: ANN401
    """Count the latents that are chosen and those that have enough examples to be asked about."""
    counts = {"chosen": 0, "asked": 0}
    gather = main.AutoInterp.gather_data

    def counting(self: Any) -> Any:  # noqa: ANN401
        generation, scoring = gather(self)
        counts.update(chosen=self.n_latents, asked=len(generation))
        return generation, scoring

    with patch.object(main.AutoInterp, "gather_data", counting):
        yield counts


def _lost(job: Job, counts: dict[str, int]) -> str:
    scored = len(json.loads(job.result.read_text(encoding="utf-8"))["eval_result_unstructured"])
    unread, silent = counts["asked"] - scored, counts["chosen"] - counts["asked"]
    return (
        f"{scored} latents scored; {unread} dropped because the judge's answer could not be read, "
        f"{silent} because too few texts activate them"
    )
