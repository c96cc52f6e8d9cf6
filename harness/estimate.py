"""What a plan will cost and could see, before anything is started: rules of thumb, each with where it was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..results.stats import mde
from .plan import Plan

if TYPE_CHECKING:
    from .config import Settings
    from .synthetic.config import SyntheticSettings

# Measured in the run of docs/demo.md: two cores of an AMD EPYC, no GPU.
TOKENS_PER_SECOND = 5_000
"""Activations at layer 12 of SmolLM2-135M in bfloat16: 245,760 tokens took 47 s."""
SECONDS_PER_MAC = 5.3e-11
"""Per token x d_in x d_sae of one SAE's optimiser step: 120 steps of 12 SAEs took 92 s."""
SETUP_SECONDS = 40
"""Imports, converting the language model, cleaning the texts, the report."""
D_IN = 576
"""Width of the demo's language model."""
TOKENS_PER_PROMPT = 25
"""Mean length of a probing prompt of the demo: 184,000 tokens in 16 x 500 prompts."""
SECONDS_PER_CELL = {"reconstruction": 2.0, "sparse_probing": 4.5}
"""One SAE in one suite at the demo profile."""

CLUSTER_SD = {"reconstruction": 0.062, "sparse_probing": 0.052, "causal_editing": 0.16, "synthetic": 0.005}
"""SD over clusters of a paired difference: the largest against a required baseline in the run of docs/demo.md. METHOD
section 6 has .018-.027 for probing over 113 datasets with three times the prompts."""
SEED_SD = {"reconstruction": 0.002, "sparse_probing": 0.010, "causal_editing": 0.014, "synthetic": 0.0}
"""SD over seeds of an arm's mean in that run; of starts it is in that of the worlds."""

# Measured in the run of docs/causal-editing.md: three attributes, at most three templates each, 35 tokens a prompt.
PROMPTS_PER_ENTITY, ATTRIBUTES, EPOCHS = 7.5, 3, 2
SECONDS_PER_ANSWER, SECONDS_PER_LESSON, SECONDS_PER_FIRST_TOKEN = 0.015, 0.018, 0.006
"""A greedy answer of four tokens; a pair forwards and backwards through the upper layers; a first token."""


@dataclass(frozen=True)
class JudgeCost:
    """What a plan asks its judges; one price is taken for both."""

    questions: int
    """Questions."""
    prompt_tokens: int
    """Tokens of the questions, for a tokenizer of about four letters a token."""
    completion_tokens: int
    """Tokens of the answers."""

    @property
    def tokens(self) -> int:
        """Both."""
        return self.prompt_tokens + self.completion_tokens


# Measured with SmolLM2's tokenizer in the run of docs/autointerp.md.
EXPLANATION_TOKENS, SAEBENCH_TOKENS, BALANCED_TOKENS, TOKENS_PER_EXAMPLE = 850, 590, 280, 24
ANSWER_TOKENS, TOKENS_PER_TEXT, PLANTED, AGAIN = 25, 2, 13, 0.1
"""Of an explanation or a short list; of a list in the balanced layout per text: half of them named, at 4 tokens (50 of
100 in JSON took 199)."""
LOCAL_TOKENS_PER_SECOND = 220
"""Questions and answers that `--judge local` reads in a second on two cores."""


def judge_cost(plan: Plan) -> JudgeCost:
    """Estimate what `autointerp` asks: three questions for each latent, a tenth of the last ones twice.

    A second judge is asked the last ones of its share. Controls cost nothing: a permuted decoder leads to the same
    questions, and the others are not asked about.
    """
    s = plan.settings
    saes = len(plan.saes()) - len(plan.controls) * len(plan.test_seeds)
    latents = saes * s.latents + PLANTED
    balanced = BALANCED_TOKENS + TOKENS_PER_EXAMPLE * s.detection_examples
    twice = 1 + AGAIN + (s.second_share if s.second_judge else 0.0)
    asked = EXPLANATION_TOKENS + SAEBENCH_TOKENS + twice * balanced
    answered = 2 * ANSWER_TOKENS + twice * (ANSWER_TOKENS + TOKENS_PER_TEXT * s.detection_examples)
    return JudgeCost(round(latents * (2 + twice)), round(latents * asked), round(latents * answered))


@dataclass(frozen=True)
class Estimate:
    """What one plan is expected to take."""

    tokens: int
    """Tokens that the language model reads for activations."""
    cells: int
    """Suite x SAE, references left out."""
    seconds: float
    """Wall time on two CPU cores with nothing cached."""
    detectable: dict[str, float]
    """Per suite: the smallest difference found with 80 % power, if SDs are the assumed ones."""


def estimate(plan: Plan, clusters: dict[str, int], d_in: int | None = None, in_worlds: float = 0.0) -> Estimate:
    """Estimate a plan.

    Args:
        plan: what will run.
        clusters: number of clusters of each suite.
        d_in: width of the activations; by default that of the demo's language model.
        in_worlds: seconds of the suite `synthetic`, from `seconds_in_worlds`.
    """
    s = plan.settings
    probing = clusters.get("sparse_probing", 0) * s.probe_prompts * TOKENS_PER_PROMPT
    tokens = s.tokens + s.calibration_tokens + s.held_out_documents * s.context_size + probing
    training = plan.steps * s.batch_size * (d_in or D_IN) * s.d_sae * SECONDS_PER_MAC * len(plan.trained) * s.seeds
    saes, on_site = len(plan.saes()), [name for name in s.suites if name in clusters and name != "synthetic"]
    measuring = saes * sum(SECONDS_PER_CELL.get(name, 5.0) for name in on_site if name != "causal_editing")
    if "causal_editing" in on_site:
        measuring += seconds_of_edits(s, saes)
    if not on_site:  # nothing needs the language model
        tokens, training = 0, 0.0
    seconds = SETUP_SECONDS + tokens / TOKENS_PER_SECOND + training + measuring + in_worlds
    detectable = {name: detectable_difference(plan, name, clusters[name]) for name in s.suites if name in clusters}
    return Estimate(tokens, saes * len(on_site) + saes * clusters.get("synthetic", 0), seconds, detectable)


def seconds_of_edits(settings: Settings, saes: int) -> float:
    """Wall time of `causal_editing`: the model is asked what it knows, then masks learn and are tried."""
    asking = settings.editing_entities * PROMPTS_PER_ENTITY * SECONDS_PER_ANSWER
    items = settings.editing_entities / 3 * settings.editing_sources
    trying = items * ATTRIBUTES * (SECONDS_PER_ANSWER + 3 * SECONDS_PER_FIRST_TOKEN)
    learning = settings.editing_pairs * EPOCHS * SECONDS_PER_LESSON
    return asking + saes * ATTRIBUTES * settings.masks * (learning + trying)


def seconds_in_worlds(settings: SyntheticSettings, arms: int, saes: int) -> float:
    """Wall time of a synthetic run.

    Args:
        settings: of the run.
        arms: trained arms in every world, starts counted.
        saes: SAEs that are measured in every world.
    """
    macs = settings.samples * settings.d_in * settings.width
    matching = saes * 1.0 * (settings.n_features / 3200) ** 2
    return settings.worlds * (arms * macs * SECONDS_PER_MAC + matching)


def detectable_difference(plan: Plan, suite: str, clusters: int) -> float:
    """MDE of trained against a trained baseline, from the assumed SDs; seeds of both arms count."""
    seeds = plan.settings.seeds
    between = CLUSTER_SD.get(suite, 0.05) ** 2 / clusters
    over_seeds = 2 * SEED_SD.get(suite, 0.01) ** 2 / seeds
    df_parts = between**2 / max(clusters - 1, 1) + over_seeds**2 / max(2 * (seeds - 1), 1)
    return mde((between + over_seeds) ** 0.5, (between + over_seeds) ** 2 / df_parts)
