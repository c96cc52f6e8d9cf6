"""The model at hand in place of one by name."""

from __future__ import annotations

import dataclasses
import tempfile

import jaxtyping
import pytest
import torch
from tiny_site import tiny_tokenizer
from transformer_lens import HookedTransformer
from zoo import ARCHITECTURES, random_model

from sae_sanity.suites.saebench import EVALS, LanguageModel, Unavailable, contained, lent
from sae_sanity.suites.saebench.language_model import hooked_model

BIOS = "LabHC/bias_in_bios_class_set1"


def ask(name="gemma-2-2b", **kwargs):
    return HookedTransformer.from_pretrained_no_processing(name, device="cpu", **kwargs)


@pytest.mark.parametrize(
    ("architecture", "ported"), [("llama", True), ("neox_parallel", True), ("qwen3", True), ("gemma2", False)]
)
def test_it_computes_what_transformers_computes(architecture, ported):
    model = random_model(ARCHITECTURES[architecture]())
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    tokens = torch.randint(2, 150, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model(tokens, output_hidden_states=True)
        with lent(LanguageModel("any", model, tiny_tokenizer())):
            made = ask()
            logits, cache = made.run_with_cache(tokens)
    assert isinstance(made, HookedTransformer) == ported
    hook = cache["blocks.0.hook_resid_post"]
    assert (logits.log_softmax(-1) - wanted.logits.log_softmax(-1)).abs().max() < 1e-3
    assert (hook - wanted.hidden_states[1]).abs().max() < 1e-4
    assert made.cfg.model_name == "any"
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_random_folder_that_reads_like_an_architecture_changes_nothing(monkeypatch):
    """One random name in 200 holds `t5`, by which TransformerLens would take the model for another."""
    names = iter(["at5bcdef", "llamaxyz", "abcdefgh", "ijklmnop", "qrstuvwx"])
    monkeypatch.setattr(tempfile, "_name_sequence", names)
    with lent(LanguageModel("any", random_model(ARCHITECTURES["llama"]()), tiny_tokenizer())):
        assert isinstance(ask(), HookedTransformer)


def test_a_bridge_turns_the_type_checks_off_until_the_end():
    language = LanguageModel("bridged", random_model(ARCHITECTURES["gemma2"]()), tiny_tokenizer())
    before = jaxtyping.config.jaxtyping_disable
    with lent(language):
        assert not isinstance(ask(), HookedTransformer)
        assert jaxtyping.config.jaxtyping_disable
    assert jaxtyping.config.jaxtyping_disable == before


@pytest.mark.usefixtures("hub")
def test_saebench_takes_a_bridge(make_job, tmp_path):
    """SAEBench's functions say that they take a HookedTransformer, and check it."""
    language = LanguageModel("bridged", random_model(ARCHITECTURES["gemma2"]()), tiny_tokenizer(), bos_token_id=0)
    sizes = {"dataset_names": [BIOS], "train_set_size": 40, "test_set_size": 20, "context_length": 16, "n_values": [2]}
    with lent(language), contained(tmp_path / "log", 0):
        for step in (EVALS["tpp"].prepare, EVALS["tpp"].run):
            found = step(dataclasses.replace(make_job("tpp", probe_epochs=1, **sizes), language=language))
    assert found.metrics.keys() >= {"tpp_metrics.tpp_threshold_2_total_metric"}


def test_nothing_stays(language):
    before = HookedTransformer.from_pretrained_no_processing
    with lent(language):
        assert ask().cfg.model_name == "tiny-llama"
    assert HookedTransformer.from_pretrained_no_processing == before


def test_a_tokenizer_that_was_changed_is_not_lent_again(language):
    """sae-probes cuts texts on the left from then on, and sparse probing after it would read other words."""
    with lent(language):
        first = ask()
        first.tokenizer.truncation_side = "left"
        assert ask() is first
        assert ask().tokenizer.truncation_side == "right"


def test_dtype_and_bos(language):
    with lent(language):
        assert ask(dtype=torch.bfloat16).W_E.dtype == torch.bfloat16
        assert ask().W_E.dtype == torch.float32
        assert ask().tokenizer("w0 w1").input_ids == [0, 2, 3]
    other = LanguageModel("other", language.model, tiny_tokenizer(), bos_token_id=9)
    with lent(other):
        assert ask().tokenizer("w0 w1").input_ids == [9, 2, 3]


def test_making_one_uses_no_random_numbers(language, monkeypatch):
    """Whatever a port draws: absorption sets no seed, and would see whether a model was made in this run."""
    make = HookedTransformer.from_pretrained
    monkeypatch.setattr(HookedTransformer, "from_pretrained", lambda *a, **k: (torch.rand(9), make(*a, **k))[1])
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    hooked_model(language, "cpu", torch.float32)
    assert torch.equal(torch.rand(2), wanted)


def test_centred_as_the_saes_saw_it():
    language = LanguageModel("c", random_model(ARCHITECTURES["neox_parallel"]()), tiny_tokenizer(), centre=True)
    with torch.no_grad(), lent(language):
        _, cache = ask().run_with_cache(torch.tensor([[0, 3, 4]]))
    assert cache["blocks.1.hook_resid_post"].mean(-1).abs().max() < 1e-5
    rms = LanguageModel("r", random_model(ARCHITECTURES["gemma2"]()), tiny_tokenizer(), centre=True)
    with lent(rms), pytest.raises(Unavailable, match="cannot make of r"):
        ask()


@pytest.mark.parametrize("name", ["", "org/name", "..", "/abs"])
def test_names_are_folders(language, name):
    with pytest.raises(ValueError, match="must be usable as the name of a folder"):
        LanguageModel(name, language.model, language.tokenizer)
