"""Questions; that they are SAEBench's, byte for byte, is in `test_parity.py`."""

from __future__ import annotations

import builtins
import json
import random
import re

import jaxtyping
import pytest
import torch
from sae_bench.evals.autointerp.eval_config import AutoInterpEvalConfig
from tiny_site import WORDS, tiny_model, tiny_tokenizer

from sae_sanity.suites.autointerp.latent import Example, Latent
from sae_sanity.suites.autointerp.prompts import Decoder, detection_question, explanation_question, saebench_example
from sae_sanity.suites.saebench import LanguageModel, NotInstalledError
from sae_sanity.suites.saebench.language_model import hooked_model
from sae_sanity.suites.smollm2 import converted_model


def example(kind, *acts, tokens=None):
    return Example(tuple(tokens or [f" t{i}" for i in range(len(acts))]), tuple(acts), 0.5, kind, 0, 0)


BALANCED = [example("activating", 0.0, 2.0)] * 7 + [example("random", 0.0, 0.0)] * 7


def test_the_strongest_example_comes_first_with_its_marks():
    latent = Latent(3, 0.1, 0, (example("top", 0.0, 1.0), example("weighted", 3.0, 0.4, 0.6)), (), ())
    question = explanation_question(latent, attempt=2)
    assert question.messages[1][1].endswith("1. << t0>> t1<< t2>>\n2.  t0<< t1>>")
    assert (question.purpose, question.n_examples, question.attempt, question.max_tokens) == ("explanation", 0, 2, 30)


def test_numbers_in_the_detection_prompt_are_true():
    question = detection_question("cats", BALANCED, attempt=1)
    system, user = (content for _, content in question.messages)
    assert "be shown 14 example sequences" in system
    answer = re.search(r'look like "([\d, ]+)"', system)[1].split(", ")
    assert len(answer) == 7
    assert user.startswith("Here is the explanation: this neuron fires on cats.\n")
    assert user.endswith("14.  t0 t1")
    assert "<<" not in user
    assert (question.purpose, question.n_examples, question.attempt) == ("detection", 14, 1)


def test_how_long_an_answer_may_be():
    """As SAEBench says in its layout; in the balanced one a list of all examples fits, in words and in JSON."""
    saebench = [example("top", 0.0, 2.0)] * 2 + [example("weighted", 0.0, 2.0)] * 2 + [example("random", 0.0)] * 10
    assert detection_question("cats", saebench).max_tokens == AutoInterpEvalConfig().max_tokens_in_prediction == 33
    hundred = [example("activating", 0.0, 2.0)] * 50 + [example("random", 0.0, 0.0)] * 50
    allowed = detection_question("cats", hundred).max_tokens
    assert allowed == 6 * 100 + 32
    # A tokenizer of a token for each character, spaces and commas included, is worse than any in use.
    assert len(json.dumps({"examples": list(range(1, 101))}, separators=(",", ":"))) < allowed


def test_hard_negatives_look_like_random_ones():
    hard = [example("hard", *each.activations) if each.kind == "random" else each for each in BALANCED]
    assert detection_question("cats", hard) == detection_question("cats", BALANCED)


def test_a_question_follows_from_its_content_alone(monkeypatch):
    # beartype draws the item of a list that it checks from the global random numbers
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    first = detection_question("cats", BALANCED)
    random.seed(99)
    state = random.getstate(), torch.get_rng_state()
    assert detection_question("cats", BALANCED) == first
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])
    assert detection_question("dogs", BALANCED).messages[0] != first.messages[0]


def test_examples_are_saebenchs():
    found = saebench_example(example("top", 0.2, 3.0, tokens=["a\n", "\ufffdb"]))
    assert found.to_str(mark_toks=True) == "a↵<<b>>"
    assert found.is_active
    assert not saebench_example(example("random", 0.2, 3.0), silent=True).is_active


def test_without_saebench_it_says_what_to_install(monkeypatch):
    load = builtins.__import__

    def missing(name, *args):
        if name.startswith("sae_bench"):
            raise ModuleNotFoundError("No module named 'sae_bench'")
        return load(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(NotInstalledError, match=r"pip install 'sae-sanity\[saebench\]'"):
        detection_question("cats", BALANCED)


# tokens as strings


def test_tokens_against_transformer_lens():
    model = hooked_model(LanguageModel("tiny-llama", tiny_model(), tiny_tokenizer(), 0), "cpu", torch.float32)
    ids = [0, 1, *range(2, 2 + len(WORDS)), 5, 5]
    decode = Decoder(tiny_tokenizer())
    assert list(decode(ids)) == list(decode(ids)) == model.to_str_tokens(torch.tensor(ids))


@pytest.mark.slow
def test_tokens_of_the_real_tokenizer_against_transformer_lens(tmp_path):
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(converted_model(tmp_path), local_files_only=True)
    config = HookedTransformerConfig(n_layers=1, d_model=2, n_ctx=8, d_head=1, act_fn="relu", d_vocab=len(tokenizer))
    model = HookedTransformer(config, tokenizer=tokenizer)
    every = torch.arange(len(tokenizer))
    assert list(Decoder(tokenizer)(every.tolist())) == model.to_str_tokens(every)
    text = "Ça coûte 5 € – 中文, emoji 🎉\n\tdef f(x): return x"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert list(Decoder(tokenizer)(ids)) == model.to_str_tokens(torch.tensor(ids))
    assert "\ufffd" in json.dumps(Decoder(tokenizer)(ids), ensure_ascii=False)
