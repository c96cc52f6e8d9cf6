"""Sparse probing, SCR and TPP against SAEBench called by hand in a warm cache."""

from __future__ import annotations

import json

import pytest
import torch
from sae_bench.custom_saes.identity_sae import IdentitySAE
from sae_bench.evals.scr_and_tpp import main as scr_and_tpp
from sae_bench.evals.sparse_probing import main as sparse_probing
from saebench_world import results

from sae_sanity.suites.saebench.throwaway import throwaway_sae

BIOS = "LabHC/bias_in_bios_class_set1"
PROBING = {"dataset_names": [BIOS], "probe_train_set_size": 40, "probe_test_set_size": 20, "context_length": 16}
TPP = {"dataset_names": [BIOS], "train_set_size": 40, "test_set_size": 20, "context_length": 16, "probe_epochs": 3}
SCR = TPP | {"column1_vals_lookup": {BIOS: [("professor", "nurse")]}}


@pytest.mark.usefixtures("hub", "by_hand")
@pytest.mark.parametrize(
    ("name", "main", "options"),
    [("sparse_probing", sparse_probing, PROBING), ("tpp", scr_and_tpp, TPP), ("scr", scr_and_tpp, SCR)],
)
def test_equals_saebench_by_hand_in_a_warm_cache(name, main, options, run, make_job, make_sae, tmp_path):
    ours = run(name, (0, 1), **options)
    out = tmp_path / "by_hand"
    identity = IdentitySAE(48, "tiny-llama", 1, torch.device("cpu"), torch.float32)
    identity.W_enc.data, identity.W_dec.data = torch.eye(48)[:16], torch.eye(48)[:, :16]
    for saes in ([("warm", identity)], [("one", make_sae(1)), ("zero", make_sae(0))]):
        config = make_job(name, **options).config
        main.run_eval(config, saes, "cpu", str(out), force_rerun=True, artifacts_path=str(tmp_path / "hand"))
    torch.set_grad_enabled(True)
    folder = out if name == "sparse_probing" else out / name
    hands = [folder / f"{n}_custom_sae_eval_results.json" for n in ("zero", "one")]
    assert [results(found.file) for found in ours] == [results(hand) for hand in hands]
    assert results(hands[0]) != results(hands[1])


@pytest.mark.usefixtures("hub", "by_hand")
def test_the_trap_is_there(make_job, make_sae, tmp_path):
    """The same SAE twice by hand: the one that meets the cold cache gets other numbers."""
    config = make_job("sparse_probing", **PROBING).config
    saes = [("cold", make_sae(0)), ("warm", make_sae(0))]
    done = sparse_probing.run_eval(config, saes, "cpu", str(tmp_path / "o"), artifacts_path=str(tmp_path / "a"))
    cold, warm = (found["eval_result_metrics"]["sae"] for found in done.values())
    assert cold != warm


@pytest.mark.usefixtures("hub")
def test_the_order_of_saes_does_not_matter(run, tmp_path):
    options = PROBING | {"dataset_names": [BIOS, "canrager/amazon_reviews_mcauley_1and5_sentiment"]}
    first = run("sparse_probing", (0, 1), tmp_path / "one", **options)
    second = run("sparse_probing", (1, 0), tmp_path / "two", **options)
    assert results(first[0].file) == results(second[1].file)
    assert results(first[1].file) == results(second[0].file)


@pytest.mark.usefixtures("hub")
def test_metrics_and_version(run):
    (found,) = run("sparse_probing", **PROBING)
    assert 0 < found.metrics["sae.sae_top_1_test_accuracy"] <= 1
    assert json.loads(found.file.read_text())["sae_bench_commit_hash"].startswith("sae-bench 0.6")


def test_the_throwaway_is_the_same_for_every_arm(make_sae):
    one, two = throwaway_sae(make_sae(0)), throwaway_sae(make_sae(1))
    assert torch.equal(one.W_enc, two.W_enc)
    assert one.W_dec.norm(dim=1).tolist() == [1.0] * 48
    assert one.encode(torch.randn(5, 16)).shape == (5, 48)
