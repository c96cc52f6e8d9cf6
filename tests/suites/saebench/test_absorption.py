"""SAEBench's absorption eval leaves nothing outside our folders and is the same at every run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import sae_bench
import torch
from sae_bench.evals.absorption import common, feature_absorption, k_sparse_probing
from sae_bench.evals.absorption import main as absorption
from saebench_world import results
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sae_sanity.suites.saebench import LanguageModel, Unavailable
from sae_sanity.suites.saebench.absorption import ordered_vocabulary, prepare_absorption
from sae_sanity.suites.saebench.language_model import hooked_model

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SMALL = {
    "prompt_token_pos": -5,
    "max_k_value": 2,
    "k_sparse_probe_num_epochs": 2,
    "min_GT_probe_f1": -1.0,
    "min_feats_for_eval": 1,
    "precalc_k_sparse_probe_sae_acts": True,
    "llm_batch_size": 64,
}


@pytest.fixture(scope="module")
def language():
    """A model whose vocabulary has five words for every letter."""
    words = [first + second * 2 for first in LETTERS for second in LETTERS[:5]]
    vocabulary = {"<bos>": 0, "<unk>": 1} | {word: i + 2 for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    sizes = {"vocab_size": len(vocabulary), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, max_position_embeddings=128)).eval()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", unk_token="<unk>")
    return LanguageModel("alphabet", model, fast, bos_token_id=0)


def files_of_saebench() -> set[Path]:
    return {p for p in Path(sae_bench.__file__).parent.rglob("*") if p.suffix != ".pyc" and p.name != "__pycache__"}


def test_equals_saebench_by_hand_and_leaves_nothing_elsewhere(run, make_job, make_sae, language, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    before = files_of_saebench()
    folder = tmp_path / "results"
    ours = run("absorption", (0, 1), folder, **SMALL)
    assert ours[0].metrics.keys() >= {"mean.mean_absorption_fraction_score"}
    assert ours[0].notes == ()
    details = results(ours[0].file)["eval_result_details"]
    fractions = {d["first_letter"]: d["mean_absorption_fraction"] for d in details}
    hand = _by_hand(make_sae, make_job("absorption", **SMALL), language, folder)
    assert fractions == pytest.approx(hand, nan_ok=True)
    assert files_of_saebench() == before
    assert list(here.iterdir()) == []


def _by_hand(make_sae, job, language, folder) -> dict[str, float]:
    """By hand, where SAEBench can be told its folders: the two functions under `run_eval`, on the same probes."""
    common_arguments = {
        "model": hooked_model(language, "cpu", torch.float32),
        "layer": 1,
        "sae_name": "hand",
        "max_k_value": 2,
        "prompt_template": job.config.prompt_template,
        "prompt_token_pos": -5,
        "device": "cpu",
        "probes_dir": folder / "artefacts/probes",
    }
    with ordered_vocabulary():
        random.seed(42)
        torch.manual_seed(42)
        k_sparse_probing.run_k_sparse_probing_experiment(
            sae=make_sae(0),
            experiment_dir=folder / "k",
            k_sparse_probe_num_epochs=2,
            precalc_k_sparse_probe_sae_acts=True,
            **common_arguments,
        )
        raw = feature_absorption.run_feature_absortion_experiment(
            sae=make_sae(0),
            experiment_dir=folder / "f",
            sparse_probing_experiment_dir=folder / "k",
            batch_size=64,
            **common_arguments,
        )
    return absorption._aggregate_results_df(raw).set_index("letter")["mean_absorption_fraction"].to_dict()


def test_the_same_numbers_twice_and_in_any_order(run, tmp_path):
    one, two = run("absorption", (0, 1), tmp_path / "a", **SMALL), run("absorption", (1, 0), tmp_path / "b", **SMALL)
    pairs = [(results(one[n].file), results(two[1 - n].file)) for n in (0, 1)]
    for first, second in pairs:
        split = [[d["num_split_features"] for d in found["eval_result_details"]] for found in (first, second)]
        assert split[0] == split[1]
    assert all(first == second for first, second in pairs)


def test_a_model_that_cannot_spell_is_said(run):
    with pytest.raises(Unavailable, match="fewer than 1 first letters can be read from this language model"):
        run("absorption", **SMALL | {"min_GT_probe_f1": 1.0})


def test_a_wrong_position_is_noted(run):
    (found,) = run("absorption", **SMALL | {"prompt_token_pos": -4})
    assert found.notes == ("prompt_token_pos is -4, but the word ends at -5 with this tokenizer",)


def test_another_hook_is_refused(make_job, make_sae):
    sae = make_sae(0)
    sae.cfg.metadata.hook_name = "blocks.1.hook_mlp_out"
    with pytest.raises(Unavailable, match=r"this SAE is on blocks\.1\.hook_mlp_out"):
        prepare_absorption(make_job("absorption", sae=sae, **SMALL))


def test_the_vocabulary_has_an_order(language):
    from sae_bench.evals.absorption import common

    with ordered_vocabulary():
        words = common.get_alpha_tokens(language.tokenizer)
    assert words == sorted(words)
    assert len(words) == 26 * 5


def test_saebenchs_own_folders_are_in_site_packages():
    """The trap: if this fails, SAEBench has mended it, and `absorption.py` can go."""
    assert Path(sae_bench.__file__).parent in common.RESULTS_DIR.parents
