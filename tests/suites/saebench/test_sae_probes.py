"""sae-probes through SAEBench, by hand and by us."""

from __future__ import annotations

import pytest
from sae_bench.evals.sparse_probing_sae_probes import main
from saebench_world import results

from sae_sanity.suites.saebench import Unavailable

SMALL = {"dataset_names": ["118_us_state_CA"], "ks": [1, 2]}


@pytest.mark.usefixtures("by_hand")
def test_equals_saebench_by_hand(run, make_job, make_sae, tmp_path):
    ours = run("sparse_probing_sae_probes", (0, 1), **SMALL)
    config = make_job("sparse_probing_sae_probes", **SMALL).config
    config.results_path, config.model_cache_path = str(tmp_path / "r"), str(tmp_path / "m")
    main.run_eval(config, [("one", make_sae(1)), ("zero", make_sae(0))], "cpu", str(tmp_path / "hand"))
    hands = [tmp_path / f"hand/{n}_custom_sae_eval_results.json" for n in ("zero", "one")]
    assert [results(found.file) for found in ours] == [results(hand) for hand in hands]
    assert {"sae.sae_top_1_test_accuracy", "llm.llm_test_auc"} <= set(ours[0].metrics)


def test_results_of_another_sae_of_the_same_name_are_not_reused(run, make_job, make_sae, language, tmp_path):
    from sae_sanity.suites.saebench import contained, lent
    from sae_sanity.suites.saebench.sae_probes import run_sae_probes

    with lent(language), contained(tmp_path / "log", 0):
        one, two = (
            run_sae_probes(make_job("sparse_probing_sae_probes", 7, sae=make_sae(seed), **SMALL)) for seed in (0, 1)
        )
    assert one.file == two.file
    assert one.metrics != two.metrics


def test_a_result_without_datasets_is_a_failure(run):
    with pytest.raises(RuntimeError, match="binarize"):
        run("sparse_probing_sae_probes", binarize=True, **SMALL)


def test_an_unknown_dataset_is_one_line(run):
    with pytest.raises(Unavailable, match="no binary dataset '118_us_state_C'; did you mean '118_us_state_CA'"):
        run("sparse_probing_sae_probes", dataset_names=["118_us_state_C"])
