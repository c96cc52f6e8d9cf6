"""The evals of SAEBench that can be run."""

from __future__ import annotations

from .absorption import prepare_absorption, run_absorption
from .autointerp import run_autointerp
from .cached_probes import prepare_scr_and_tpp, prepare_sparse_probing, run_scr_and_tpp, run_sparse_probing
from .core import run_core
from .evaluation import Evaluation
from .ravel import prepare_ravel, run_ravel
from .sae_probes import run_sae_probes

# The first five are computed whatever the configuration says; without the last two, tables of the result are empty.
_OF_CORE: tuple[str, ...] = (
    *("compute_kl", "compute_ce_loss", "compute_l2_norms", "compute_sparsity_metrics", "compute_variance_metrics"),
    *("compute_featurewise_density_statistics", "compute_featurewise_weight_based_metrics"),
)

_ALL = (
    Evaluation(
        name="sparse_probing",
        summary="k-sparse probing on 8 datasets of the hub, 36 classes",
        config="sparse_probing.eval_config:SparseProbingEvalConfig",
        run=run_sparse_probing,
        prepare=prepare_sparse_probing,
        main=r"(sae|llm)(_top_\d+)?_test_accuracy",
    ),
    Evaluation(
        name="sparse_probing_sae_probes",
        summary="k-sparse probing on the 113 datasets that come with sae-probes; needs no network",
        config="sparse_probing_sae_probes.eval_config:SparseProbingSaeProbesEvalConfig",
        run=run_sae_probes,
        main=r"sae_top_\d+_test_\w+|llm_test_\w+",
        ours=("results_path", "model_cache_path"),
    ),
    Evaluation(
        name="autointerp",
        summary="an LLM judge explains latents and is scored on its predictions; needs a judge and the Pile",
        config="autointerp.eval_config:AutoInterpEvalConfig",
        run=run_autointerp,
    ),
    Evaluation(
        name="ravel",
        summary="disentanglement of facts about entities by swapping latents",
        config="ravel.eval_config:RAVELEvalConfig",
        run=run_ravel,
        prepare=prepare_ravel,
        batch_divisor=4,
    ),
    Evaluation(
        name="core",
        summary="reconstruction, sparsity and loss recovered on a text dataset",
        config="core.eval_config:CoreEvalConfig",
        run=run_core,
        main="explained_variance(_legacy)?|mse|cossim|l0|ce_loss_score|kl_div_score",
        fixed=dict.fromkeys(_OF_CORE, True),
    ),
    Evaluation(
        name="absorption",
        summary="first-letter features that other latents absorb; needs no dataset",
        config="absorption.eval_config:AbsorptionEvalConfig",
        run=run_absorption,
        prepare=prepare_absorption,
        main="mean_.*",
    ),
    Evaluation(
        name="scr",
        summary="spurious correlation removal on 2 datasets of the hub, 8 pairs",
        config="scr_and_tpp.eval_config:ScrAndTppEvalConfig",
        run=run_scr_and_tpp,
        prepare=prepare_scr_and_tpp,
        main=r"scr_metric_threshold_\d+",
        fixed={"perform_scr": True},
    ),
    Evaluation(
        name="tpp",
        summary="targeted probe perturbation on 2 datasets of the hub, 10 classes",
        config="scr_and_tpp.eval_config:ScrAndTppEvalConfig",
        run=run_scr_and_tpp,
        prepare=prepare_scr_and_tpp,
        main=r"tpp_threshold_\d+_total_metric",
        fixed={"perform_scr": False},
    ),
)

EVALS: dict[str, Evaluation] = {evaluation.name: evaluation for evaluation in _ALL}
"""By name. Left out are unlearning (two gated models only) and mdl (its library call is broken in 0.6)."""
