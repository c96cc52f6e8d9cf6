"""SAEBench's core eval, by hand and by us."""

from __future__ import annotations

import pytest
from sae_bench.evals.core import main
from saebench_world import results

SMALL = {
    "batch_size_prompts": 4,
    "n_eval_reconstruction_batches": 2,
    "n_eval_sparsity_variance_batches": 2,
    "context_size": 16,
}


@pytest.mark.usefixtures("by_hand")
def test_equals_saebench_by_hand(hub, run, make_sae, tmp_path):
    texts = str(hub / "texts")
    (found,) = run("core", dataset=texts, **SMALL)
    main.multiple_evals(
        [("hand", make_sae(0))],
        eval_batch_size_prompts=4,
        n_eval_reconstruction_batches=2,
        n_eval_sparsity_variance_batches=2,
        compute_featurewise_density_statistics=True,
        compute_featurewise_weight_based_metrics=True,
        context_size=16,
        dataset=texts,
        output_folder=str(tmp_path / "hand"),
        device="cpu",
    )
    assert results(found.file) == results(tmp_path / "hand/hand_custom_sae_eval_results.json")
    assert found.metrics["sparsity.l0"] == pytest.approx(8)
    assert "legacy" in found.notes[0]


def test_what_saebench_swallows_is_raised(run, monkeypatch):
    from sae_bench.sae_bench_utils import general_utils

    monkeypatch.setattr(general_utils.time, "sleep", lambda _: None)
    with pytest.raises(OSError, match="no-such-dataset"):
        run("core", dataset="no/no-such-dataset", **SMALL)


def test_minus_one_is_no_number(hub, run, monkeypatch):
    found = run("core", dataset=str(hub / "texts"), **SMALL)[0]
    nan = float("nan")
    kept = main.get_downstream_reconstruction_metrics
    monkeypatch.setattr(
        main, "get_downstream_reconstruction_metrics", lambda *a, **k: kept(*a, **k) | {"ce_loss_score": nan}
    )
    again = run("core", dataset=str(hub / "texts"), **SMALL)[0]
    name = "model_performance_preservation.ce_loss_score"
    assert found.metrics[name] is not None
    assert again.metrics[name] is None
