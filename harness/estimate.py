"""What a plan will cost, before anything is started: rules of thumb, corrected by what earlier runs here took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from ..baselines.cpu import has_bfloat16_units
from ..suites.hard_probing.conditions import profile
from ..suites.probe_data import profile_datasets
from ..suites.shard_file import bytes_of_shard
from ..suites.suite import suite_classes
from .measures import SYNTHETIC, site_suites
from .plan import Plan
from .run import is_joint, measured_by, steps_sparsely
from .speeds import About, Speeds
from .synthetic.config import of_check
from .synthetic.run import synthetic_plan
from .timing import READING, Expected

if TYPE_CHECKING:
    from .config import Settings
    from .synthetic.config import SyntheticSettings

# Rules of thumb: two cores of an AMD EPYC, no GPU, nothing else at work (the run of docs/demo.md). What earlier runs
# on this machine took (`speeds`) is put in their place, so they have to be right in proportion more than in size.
START_SECONDS = 12.0
"""Imports, until a check begins; once for each command."""
LOADING_SECONDS, CLEANING_SECONDS = 17.5, 2.2e-5
"""Loading the language model; cleaning a token of the texts. On an AVX2 server both took 19.1, 19.3 and 20.1 s with
65,000 tokens and 24.2 with 298,000, on the newer one 18 with these (once)."""
REPORT_SECONDS = 3.0
"""Statistics and the record."""
TOKENS_PER_SECOND, IN_FLOAT32, EMULATED = 5_000, 1_100, 200
"""Activations at layer 12 of SmolLM2-135M in bfloat16 (245,760 tokens took 47 s); on a CPU that has no units for it, in
float32 (65,152 took 56 to 61 s in four runs, 298,240 took 283) and in bfloat16 (106 tokens a second and core)."""
OLDER_CPU, OLDER_TRAINING, OLDER_ENCODING = 1.9, 2.6, 1.3
"""Work on SAEs on a CPU without units for bfloat16, which is an older one, in times of one with them: in suites and
worlds, in the arms' training, and where their L0 is matched. Two cores of an AVX2 server took 1.2 to 1.6 times as long
in synthetic worlds, 2.5 to 2.9 to train, 1.1 to 2.0 to match. Imports, loading and the report hardly took longer."""
SECONDS_PER_MAC = 5.3e-11
"""Per token x d_in x d_sae of one SAE's optimiser step through SAELens: 120 steps of 12 SAEs took 92 s."""
SECONDS_PER_STEP, SECONDS_PER_LATENT, SECONDS_PER_SPARSE_MAC, SECONDS_PER_ENTRY = 1.4e-3, 2e-9, 1.3e-11, 1.8e-10
"""The sparse step of one SAE: in itself, per token x d_sae (which are active), per token x d_in x d_sae (the encoder
and Adam), per token x L0 x d_in (decoding and gradients). Fitted by hand to BatchTopK, right to 16 % there: CPU time
beside other work for 192 latents in R^24 (1.8 ms a step, batches of 256), 800 in R^50 (4.1, 1,024), 3,200 in R^100 (11,
1,024) and 4,096 in R^576 (75, 2,048); wall time of runs recorded in a cache for 512 and 1,024 in R^576 (19, 31)."""
TOPK_TIMES = 1.7
"""The largest of each row are dearer to find: 800 latents 6.4 ms a step, 1,024 in R^576 46 (both CPU time)."""
UNKNOWN_L0 = 64.0
"""Taken where the L0 of a given SAE is yet to be measured."""
SECONDS_PER_ENCODED_MAC = 1.3e-11
"""Per token x d_in x d_sae of what only goes through an SAE's encoder."""
CALIBRATION_PASSES = 3
"""Times that the calibration texts go through an SAE until its L0 matches."""
SECONDS_PER_CALIBRATED_LATENT, SECONDS_PER_MEASURED_LATENT = 3e-8, 1.5e-8
"""In a synthetic world, per sample x d_sae: until the L0 of an SAE matches, and until it is measured. By CPU time of
presets smoke and small (fewer samples), beside other work."""
SECONDS_PER_DOCUMENT_MAC = 8e-11
"""Per token x d_in x d_sae of what is encoded and decoded document by document."""
SECONDS_PER_SPLICED_TOKEN, SPLICED_IN_FLOAT32 = 2.3e-4, 1.7e-3
"""A token through the layers above the hook, with logits; in float32 (7 s for 4,096 tokens, 1.7 for 1,024), where it
lost more than reading did."""
SECONDS_PER_PROBE = 0.19
"""The probes of one SAE on one dataset of 500 prompts."""
SECONDS_PER_PROBLEM, DENSE_SHARE = 0.4, 1.0
"""The two arrows of one SAE at one hard problem; how many SAEs the dense probes cost."""
SECONDS_PER_SEARCH = 20.0
"""XGBoost's random search at one hard problem: 11 at 250 training rows, 28 at 1,024."""
SECONDS_PER_CELL = 2.5
"""One SAE in a suite that nothing more is known of."""
SECONDS_PER_SURVEYED_MAC, SECONDS_PER_SURVEYED_TOKEN, SECONDS_PER_SHOWN_LATENT = 3.3e-11, 2.8e-5, 0.013
"""One SAE in `autointerp`, without what its judge takes: per token x d_in x d_sae (encoded twice), per token, for
windows are counted, and per latent, whose windows are drawn. By three runs of 15 SAEs at L0 32 with 4 latents and judge
`token_statistics`, and one of 5 SAEs with 60 latents, all on an older CPU and divided by `OLDER_CPU`."""
REFERENCES = 2
"""References of a suite, chance and ceiling: each is measured like an SAE."""
D_IN = 576
"""Width of the demo's language model."""
TOKENS_PER_PROMPT = 25
"""Mean length of a probing prompt of the demo: 184,000 tokens in 16 x 500 prompts."""
BYTES_PER_ROW = 6
"""One score in a compressed Parquet file, with its manifest's share."""
BYTES_PER_CELL = 3_000
"""The rest of a cell's two files."""

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
    """What one plan is expected to take, with nothing cached."""

    tokens: int
    """Tokens that the language model reads for activations."""
    cells: int
    """Suite x SAE, references left out."""
    stages: Mapping[str, float]
    """Seconds of wall time by stage: `start`, `loading`, `activations`, `training`, `arms`, one for each suite, and
    `report`."""
    measured: frozenset[str] = frozenset()
    """Stages whose time is known from earlier runs on this machine; the others are by rules of thumb."""
    results_bytes: int = 0
    """Disk that the results folder takes."""
    cache_bytes: int = 0
    """Disk that activations take in the cache; trained baselines are kept as links into the results folder."""

    @property
    def seconds(self) -> float:
        """Wall time of all stages."""
        return sum(self.stages.values())

    @property
    def source(self) -> str:
        """From where the time is known, in words."""
        shares = {name: value for name, value in self.stages.items() if value > 0}
        known = sum(value for name, value in shares.items() if name in self.measured)
        if known >= 0.9 * self.seconds:
            return "as fast as earlier runs on this machine"
        if known > 0:
            rest = ", ".join(name for name in shares if name not in self.measured)
            return f"as fast as earlier runs on this machine; by rules of thumb: {rest}"
        return "by rules of thumb for two CPU cores; the next plan knows what this machine took"


def clusters_of(settings: Settings) -> dict[str, int]:
    """Clusters that each suite of the settings will have."""
    found = {name: suite_classes()[name].clusters(settings.model_dump()) for name in site_suites(settings)}
    return found | ({SYNTHETIC: of_check(settings).worlds} if SYNTHETIC in settings.suites else {})


def estimate(
    plan: Plan, clusters: dict[str, int], d_in: int | None = None, *, speeds: Speeds | None = None
) -> Estimate:
    """Estimate a plan.

    Args:
        plan: what will run.
        clusters: number of clusters of each suite.
        d_in: width of the activations; by default that of the demo's language model.
        speeds: what earlier runs on this machine took; None for rules of thumb alone.
    """
    thumbs, settings = thumb_stages(plan, clusters, d_in), plan.settings
    stages, measured = corrected(thumbs, about_of(settings), speeds)
    on_site = [name for name in site_suites(settings) if name in clusters]
    # Suites that probe read the same texts.
    probed = max((clusters[name] for name in READING if name in clusters), default=0)
    tokens = _tokens(settings) + _probed_tokens(settings, probed) if on_site else 0
    saes = len(plan.saes())
    return Estimate(
        tokens,
        saes * len(on_site) + saes * clusters.get(SYNTHETIC, 0),
        stages,
        measured,
        results_bytes=_results_bytes(plan, clusters, d_in or D_IN),
        cache_bytes=bytes_of_shard(d_in or D_IN, tokens, tokens, 0, settings.activation_precision) if tokens else 0,
    )


def corrected(
    thumbs: Mapping[str, float], about: About, speeds: Speeds | None
) -> tuple[dict[str, float], frozenset[str]]:
    """Stages with what earlier runs of their kind took, compared with the same rules of thumb, and which they are."""
    factors = {name: speeds.factor(name, about, thumb) if speeds else None for name, thumb in thumbs.items()}
    known = [factor for factor in factors.values() if factor is not None]
    # Nobody times the imports before a check begins; they are taken to be off their rule as the rest is.
    factors["start"] = median(known) if known else None
    stages = {name: thumb * (factors[name] or 1.0) for name, thumb in thumbs.items()}
    return stages, frozenset(name for name, factor in factors.items() if factor is not None)


def about_of(settings: Settings) -> About:
    """What the speed of a check depends on besides its size."""
    model = settings.model or settings.target
    computes = "" if settings.arithmetic == "auto" else f" in {settings.arithmetic}"
    return About(settings.device, f"{model}{computes}", settings.architecture)


def expected(plan: Plan, d_in: int | None = None) -> Expected:
    """What is known of a check before it begins, by which to time it.

    Args:
        plan: what will run.
        d_in: width of the activations; by default that of the demo's language model.
    """
    known, names = suite_classes(), site_suites(plan.settings)
    alone = {name: len(measured_by(known[name], plan)) + REFERENCES for name in names if not is_joint(known[name])}
    trainings = len(plan.trained) * plan.settings.seeds
    return Expected(about_of(plan.settings), thumb_stages(plan, clusters_of(plan.settings), d_in), trainings, alone)


def expected_in_worlds(settings: SyntheticSettings) -> Expected:
    """What is known of a synthetic run before it begins."""
    thumbs = _stages_of_worlds(settings)
    return Expected(about_of_worlds(settings), thumbs, 0, {})


def thumb_stages(plan: Plan, clusters: Mapping[str, int], d_in: int | None = None) -> dict[str, float]:
    """Seconds of every stage of a check by rules of thumb alone."""
    s, d = plan.settings, d_in or D_IN
    on_site = [name for name in site_suites(s) if name in clusters]
    older = slowness(s.device) > 1
    stages: dict[str, float] = {"start": START_SECONDS}
    if on_site:
        macs, saes = d * s.d_sae, len(plan.saes())
        held_out = s.held_out_documents * s.context_size
        stages["loading"] = LOADING_SECONDS + _tokens(s) * CLEANING_SECONDS
        stages["activations"] = _tokens(s) / tokens_per_second(s)
        how = {"architecture": s.architecture, "sparse": steps_sparsely(s)}
        each = seconds_of_steps(plan.steps, s.batch_size, (d, s.d_sae), s.l0, **how)
        stages["training"] = len(plan.trained) * s.seeds * each * (OLDER_TRAINING if older else 1.0)
        encoded = s.calibration_tokens * CALIBRATION_PASSES + held_out
        stages["arms"] = saes * encoded * macs * SECONDS_PER_ENCODED_MAC * (OLDER_ENCODING if older else 1.0)
        stages |= {name: _seconds_of_suite(name, plan, clusters, macs) for name in on_site}
    if SYNTHETIC in clusters:
        stages[SYNTHETIC] = thumb_worlds(of_check(s))
    return stages | {"report": REPORT_SECONDS}


def slowness(device: str) -> float:
    """How much longer than on the server of the rules of thumb suites and worlds take, but for the language model."""
    return 1.0 if device != "cpu" or has_bfloat16_units() else OLDER_CPU


def tokens_per_second(settings: Settings) -> int:
    """Tokens that the demo's language model reads in a second by rule of thumb."""
    if settings.device != "cpu" or (has_bfloat16_units() and settings.arithmetic in ("auto", "bfloat16")):
        return TOKENS_PER_SECOND
    return EMULATED if settings.arithmetic == "bfloat16" else IN_FLOAT32


def _seconds_of_splicing(settings: Settings) -> float:
    """A token, in the arithmetic of the language model."""
    if (rate := tokens_per_second(settings)) == TOKENS_PER_SECOND:
        return SECONDS_PER_SPLICED_TOKEN
    return SPLICED_IN_FLOAT32 * IN_FLOAT32 / rate  # no emulated run was timed: as slow as reading is


def seconds_of_steps(
    steps: int, batch_size: int, size: tuple[int, int], l0: float | None, *, architecture: str, sparse: bool
) -> float:
    """Training time of one SAE of several on a stream.

    Args:
        steps: of the optimiser.
        batch_size: tokens or samples of each.
        size: d_in and d_sae.
        l0: active latents; None where it is not known yet.
        architecture: of the SAE.
        sparse: whether the step costs what active latents cost.
    """
    (d_in, d_sae), tokens = size, steps * batch_size
    if not sparse:
        return tokens * d_in * d_sae * SECONDS_PER_MAC
    each = d_sae * SECONDS_PER_LATENT + d_in * d_sae * SECONDS_PER_SPARSE_MAC
    found = steps * SECONDS_PER_STEP + tokens * (each + (l0 or UNKNOWN_L0) * d_in * SECONDS_PER_ENTRY)
    return found * (TOPK_TIMES if architecture == "topk" else 1.0)


def _stages_of_worlds(settings: SyntheticSettings) -> dict[str, float]:
    return {SYNTHETIC: thumb_worlds(settings), "report": REPORT_SECONDS}


def thumb_worlds(settings: SyntheticSettings) -> float:
    """Seconds of a synthetic run by rules of thumb."""
    plan = synthetic_plan(settings)
    found = seconds_in_worlds(settings, len(plan.trained) * settings.starts, len(plan.saes()))
    return found * slowness(settings.device)


def _seconds_of_suite(name: str, plan: Plan, clusters: Mapping[str, int], macs: int) -> float:
    s = plan.settings
    saes = len(measured_by(suite_classes()[name], plan)) if name in suite_classes() else len(plan.saes())
    reading = _probed_tokens(s, clusters[name]) / tokens_per_second(s) if name in READING else 0.0
    return reading + slowness(s.device) * _seconds_but_reading(name, plan, clusters[name], saes, macs)


def _seconds_but_reading(name: str, plan: Plan, n_clusters: int, saes: int, macs: int) -> float:
    """Of a suite, on the server of the rules of thumb."""
    s = plan.settings
    if name == "reconstruction":
        spliced = s.ce_documents * s.context_size * _seconds_of_splicing(s)
        encoded = s.held_out_documents * s.context_size * macs * SECONDS_PER_DOCUMENT_MAC
        return (saes + REFERENCES) * (encoded + spliced / slowness(s.device))
    encoded = (saes + REFERENCES) * _probed_tokens(s, n_clusters) * macs * SECONDS_PER_ENCODED_MAC
    if name == "hard_probing":
        probed = profile(s.probe_conditions)
        n_problems = len(profile_datasets(s.probe_datasets)) * len(probed.conditions) * len(probed.seeds)
        dense = n_problems * SECONDS_PER_SEARCH if "xgboost" in probed.arrows else 0.0
        return encoded + dense + (saes + DENSE_SHARE) * n_problems * SECONDS_PER_PROBLEM
    if name == "sparse_probing":
        probes = n_clusters * SECONDS_PER_PROBE * (0.5 + s.probe_prompts / 1000)
        return encoded + (saes + REFERENCES) * probes
    if name == "causal_editing":
        return seconds_of_edits(s, saes)
    if name == "autointerp":
        read = s.calibration_tokens + s.held_out_documents * s.context_size
        looked_at = read * (macs * SECONDS_PER_SURVEYED_MAC + SECONDS_PER_SURVEYED_TOKEN)
        looked_at += s.latents * SECONDS_PER_SHOWN_LATENT
        return saes * looked_at + (judge_cost(plan).tokens / LOCAL_TOKENS_PER_SECOND if s.judge == "local" else 0.0)
    return saes * SECONDS_PER_CELL


def reading_share(name: str, plan: Plan, clusters: Mapping[str, int]) -> float:
    """Share of a suite's time in which the language model reads texts of its own, once for all SAEs of a site."""
    if name not in READING:
        return 0.0
    reading = _probed_tokens(plan.settings, clusters[name]) / tokens_per_second(plan.settings)
    return reading / _seconds_of_suite(name, plan, clusters, D_IN * plan.settings.d_sae)


def _tokens(settings: Settings) -> int:
    """Tokens of the texts that arms are made from and measured on."""
    s = settings
    return s.tokens + s.calibration_tokens + s.held_out_documents * s.context_size


def _probed_tokens(settings: Settings, datasets: int) -> int:
    return datasets * settings.probe_prompts * TOKENS_PER_PROMPT


def _results_bytes(plan: Plan, clusters: Mapping[str, int], d_in: int) -> int:
    """Weights in float32 and score rows; of random latents only the decoder is saved, of a world its own sizes."""
    s, found = plan.settings, 0
    if any(name in clusters for name in site_suites(s)):
        found += sum(sae_bytes(d_in, s.d_sae, half=sae.arm == "random_latents") for sae in plan.saes())
    for name in clusters:
        rows = 2 * s.held_out_documents + s.ce_documents if name == "reconstruction" else 10 * clusters[name]
        cells = len(plan.saes()) + REFERENCES
        found += cells * (rows * BYTES_PER_ROW + BYTES_PER_CELL)
    return found + (bytes_of_worlds(of_check(s)) if SYNTHETIC in clusters else 0)


def sae_bytes(d_in: int, d_sae: int, *, half: bool = False) -> int:
    """Bytes of a saved SAE: two matrices (of random latents one), two rows of biases and thresholds, the record."""
    return 4 * (d_in * d_sae * (1 if half else 2) + 2 * d_sae + d_in) + 2_000


def bytes_of_worlds(settings: SyntheticSettings) -> int:
    """Disk that a synthetic run takes: the SAEs and the scores of all worlds; its samples are not kept."""
    saes = synthetic_plan(settings).saes()
    weights = sum(sae_bytes(settings.d_in, settings.width, half=sae.arm == "random_latents") for sae in saes)
    rows = (len(saes) + 4) * (BYTES_PER_CELL + 3 * settings.n_features * BYTES_PER_ROW)
    return settings.worlds * (weights + rows)


def estimate_worlds(settings: SyntheticSettings, speeds: Speeds | None = None) -> Estimate:
    """Estimate a synthetic run."""
    thumbs = {"start": START_SECONDS, **_stages_of_worlds(settings)}
    stages, measured = corrected(thumbs, about_of_worlds(settings), speeds)
    cells = len(synthetic_plan(settings).saes()) * settings.worlds
    return Estimate(0, cells, stages, measured, results_bytes=bytes_of_worlds(settings))


def about_of_worlds(settings: SyntheticSettings) -> About:
    """What the speed of a synthetic run depends on besides its size."""
    return About(settings.device, settings.world, settings.architecture)


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
    s, steps = settings, settings.samples // settings.batch_size
    # Of what a world may be of, SAELens' step alone knows `standard`.
    how = {"architecture": s.architecture, "sparse": s.architecture != "standard"}
    training = arms * seconds_of_steps(steps, s.batch_size, (s.d_in, s.width), s.target_l0, **how)
    calibrating = s.calibration_samples * s.width * SECONDS_PER_CALIBRATED_LATENT
    measuring = s.evaluation_samples * s.width * SECONDS_PER_MEASURED_LATENT
    matching = 1.0 * (s.n_features / 3200) ** 2
    return s.worlds * (training + saes * (calibrating + measuring + matching))
