"""Configurations are SAEBench's own and checked by SAEBench's own classes."""

from __future__ import annotations

import sys

import pytest

from sae_sanity.suites.saebench import EVALS, NotInstalledError, OptionError, make_config


@pytest.mark.parametrize("name", EVALS)
def test_defaults_are_saebenchs(name):
    evaluation = EVALS[name]
    config = make_config(evaluation, {}, "tiny")
    stock = type(config)()
    changed = {key for key, value in vars(config).items() if value != getattr(stock, key)}
    assert changed <= {"model_name", "llm_dtype", "llm_batch_size", *(evaluation.fixed or {})}
    assert config.model_name == "tiny"


def test_tables_of_saebench_are_used():
    config = make_config(EVALS["sparse_probing"], {}, "gemma-2-2b")
    assert (config.llm_dtype, config.llm_batch_size) == ("bfloat16", 32)
    assert make_config(EVALS["ravel"], {}, "pythia-160m-deduped").llm_batch_size == 64
    assert make_config(EVALS["ravel"], {}, "other").llm_batch_size == 32


def test_no_more_latents_are_ablated_than_there_are():
    assert make_config(EVALS["tpp"], {}, "m", d_sae=48).n_values == [2, 5, 10, 20]
    assert make_config(EVALS["tpp"], {"n_values": [2]}, "m", d_sae=48).n_values == [2]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sparse_probing", {"k_value": [1]}, "no option 'k_value'; did you mean 'k_values'"),
        ("sparse_probing", {"k_values": "many"}, r"sparse_probing\.k_values is 'many'"),
        ("sparse_probing", {"model_name": "gpt2"}, "no option 'model_name'"),
        ("tpp", {"perform_scr": True}, "no option 'perform_scr'"),
        ("sparse_probing_sae_probes", {"results_path": "x"}, "no option 'results_path'"),
        ("core", {"compute_kl": False}, "no option 'compute_kl'"),
        ("autointerp", {"override_latents": [1]}, "contradict each other"),
    ],
)
def test_bad_options_are_one_line(name, options, message):
    with pytest.raises(OptionError, match=message) as caught:
        make_config(EVALS[name], options, "m")
    assert "\n" not in str(caught.value)


def test_without_saebench_there_is_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sae_bench.evals.core.eval_config", None)
    with pytest.raises(NotInstalledError, match=r"pip install 'sae-sanity\[saebench\]'"):
        make_config(EVALS["core"], {}, "m")


def test_main_metrics():
    found = {"sae.sae_top_1_test_accuracy": 0.5, "llm.llm_test_accuracy": None, "sae.other": 1.0}
    assert EVALS["sparse_probing"].main_metrics(found) == {"sae_top_1_test_accuracy": 0.5, "llm_test_accuracy": None}
