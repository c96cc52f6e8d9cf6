"""Against SAEBench's own AutoInterp: same texts, latents and answers give the same examples, prompts and scores."""

from __future__ import annotations

import asyncio
import hashlib
import re
from types import SimpleNamespace

import jaxtyping
import numpy as np
import pytest
import torch
from sae_bench.evals.autointerp.eval_config import AutoInterpEvalConfig
from sae_bench.evals.autointerp.main import AutoInterp
from sae_bench.sae_bench_utils.activation_collection import collect_sae_activations
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from tiny_site import WORDS, tiny_model, tiny_tokenizer

from sae_sanity.suites.autointerp.examples import Layout, as_saebench
from sae_sanity.suites.autointerp.latent import Latent
from sae_sanity.suites.autointerp.prompts import Decoder, content_seed, detection_question, explanation_question
from sae_sanity.suites.autointerp.scoring import mark, parse_explanation, parse_predictions, saebench_score
from sae_sanity.suites.autointerp.survey import Corpus, collect_firings
from sae_sanity.suites.joined import JoinedSets
from sae_sanity.suites.randomness import own_randomness
from sae_sanity.suites.saebench import LanguageModel
from sae_sanity.suites.saebench.language_model import hooked_model
from sae_sanity.suites.site import Site
from sae_sanity.suites.texts import TextSet

HOOK = "blocks.1.hook_resid_post"
LATENTS = list(range(0, 48, 2))
LAYOUTS = {
    "defaults": Layout(),
    "small": Layout(buffer=3, n_top_generation=3, n_weighted_generation=2, n_top_scoring=1, n_random=4),
}


@pytest.fixture(autouse=True)
def _no_names_of_sizes(monkeypatch):
    """Names of sizes leak out of jaxtyping's frames into SAEBench's own checks."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def sae():
    metadata = SAEMetadata(hook_name=HOOK, hook_layer=1, model_name="tiny-llama", prepend_bos=True)
    made = TopKSAE(TopKSAEConfig(d_in=16, d_sae=48, k=5, metadata=metadata))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        made.W_enc.copy_(torch.randn(16, 48, generator=generator))
        made.b_enc.copy_(torch.randn(48, generator=generator))
    made.cfg.hook_layer, made.cfg.hook_name = 1, HOOK
    return made


@pytest.fixture(scope="module")
def texts():
    """Full rows: 31 words each."""
    rng = np.random.default_rng(0)
    return TextSet("texts", tuple(" ".join(rng.choice(WORDS, 31)) for _ in range(120)))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return Site(
        model=tiny_model(),
        tokenizer=tiny_tokenizer(),
        hook_name=HOOK,
        context_size=32,
        bos_token_id=0,
        cache=tmp_path_factory.mktemp("cache"),
        batch_size=64,
    )


@pytest.fixture(scope="module")
def model():
    return hooked_model(
        LanguageModel("tiny-llama", tiny_model(), tiny_tokenizer(), bos_token_id=0), "cpu", torch.float32
    )


class Canned(AutoInterp):
    """SAEBench's class with answers that follow from the texts alone."""

    def get_api_response(self, messages, max_tokens, n_completions=1):
        self.__dict__.setdefault("asked", []).append(((messages[0]["content"], messages[1]["content"]), max_tokens))
        return [answer(messages[1]["content"])], ""


def answer(user: str) -> str:
    """An explanation, or some numbers; every eighth answer cannot be read."""
    digits = hashlib.sha256(user.encode()).digest()
    if "Here is the explanation" not in user:
        return f"this neuron activates on word {digits[0]}."
    if digits[0] % 8 == 0:
        return "the first and the last"
    numbers = [str(i) for i in range(1, user.count("\n") - 2) if digits[i % 32] % 2]
    return " and ".join(numbers) if digits[1] % 3 == 0 else ", ".join(numbers) or "None."


def theirs(model, sae, tokens, layout):
    cfg = AutoInterpEvalConfig(
        model_name="tiny",
        n_latents=None,
        override_latents=LATENTS,
        llm_batch_size=1000,
        buffer=layout.buffer,
        n_top_ex_for_generation=layout.n_top_generation,
        n_iw_sampled_ex_for_generation=layout.n_weighted_generation,
        n_top_ex_for_scoring=layout.n_top_scoring,
        n_iw_sampled_ex_for_scoring=layout.n_weighted_scoring,
        n_random_ex_for_scoring=layout.n_random,
    )
    return Canned(cfg, model, sae, tokens, torch.ones(48), "cpu", "key")


def ours(acts, tokens, layout, seed):
    """Score latents with the canned answers, by our code; and all questions that were asked."""
    scores, asked = {}, []
    with own_randomness(seed):
        found = as_saebench(acts, tokens, LATENTS, layout=layout, decode=Decoder(tiny_tokenizer()))
    for number, (generation, scoring) in found.items():
        question = explanation_question(Latent(number, 0.1, 0, generation, scoring, ()))
        explanation = parse_explanation(answer(question.messages[1][1]))
        detection = detection_question(explanation, scoring)
        numbers = parse_predictions(answer(detection.messages[1][1]), len(scoring))
        asked += [question, detection]
        if numbers is not None:
            scores[number] = mark(scoring, numbers).score
            assert scores[number] == saebench_score(scoring, numbers)
    return found, scores, asked


def without_numbers(system: str) -> str:
    """The prompt without the random numbers in its example of an answer."""
    return re.sub(r'look like "[^"]*"', "", system)


def compare(reference, acts, tokens, layout, seed):
    with own_randomness(seed):
        generation, scoring = reference.gather_data()
    with own_randomness(seed):
        results = asyncio.run(reference.run())
    found, scores, asked = ours(acts, tokens, layout, seed)
    assert list(found) == list(generation) == list(scoring)
    for number, (mine_generation, mine_scoring) in found.items():
        for mine, yours in ((mine_generation, generation[number]), (mine_scoring, scoring[number])):
            assert [each.tokens for each in mine] == [tuple(each.str_toks) for each in yours]
            assert [each.threshold for each in mine] == [each.act_threshold for each in yours]
            shown = [(0.0,) * len(e.activations) if e.kind == "random" else e.activations for e in mine]
            assert shown == [tuple(each.acts) for each in yours]
        marks = mark(mine_scoring, ()).active
        assert list(marks) == [each.is_active for each in scoring[number]]
    assert scores == {number: result["score"] for number, result in results.items()}
    return found, scores, asked


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_scores_equal_saebench_exactly(model, sae, site, texts, name, seed):
    tokens = torch.tensor(site.tokenise(texts.documents))
    reference = theirs(model, sae, tokens, LAYOUTS[name])
    with torch.no_grad():
        acts = collect_sae_activations(
            tokens, model, sae, 1000, 1, HOOK, mask_bos_pad_eos_tokens=True, selected_latents=LATENTS,
            activation_dtype=torch.bfloat16,
        )  # fmt: skip
        found, scores, asked = compare(reference, acts, tokens, LAYOUTS[name], seed)
    # worth comparing: some are dropped by SAEBench, some answers are unreadable, scores differ
    assert 5 < len(scores) < len(found)
    assert len(set(scores.values())) > 3
    # a random window in which the latent fires is silent by SAEBench's labels
    assert any(each.is_active and each.kind == "random" for _, scoring in found.values() for each in scoring)
    # the prompts are the same but for the random numbers in the example of an answer
    mine = {question.messages[1][1]: question for question in asked}
    for (system, user), max_tokens in reference.asked:
        question = mine[user]
        assert question.max_tokens == max_tokens
        assert without_numbers(question.messages[0][1]) == without_numbers(system)
    assert len(mine) == len({user for (_, user), _ in reference.asked})


def test_from_texts_on_disk_to_the_same_scores(sae, site, texts):
    """The whole way, with a model for SAEBench that returns the activations that the site has."""
    activations = JoinedSets((site.collect(texts, norm_cap=1e9),))
    corpus = Corpus.of(activations)
    resid = torch.zeros(*corpus.tokens.shape, 16)
    for rows, document, position in activations.chunks():
        resid[torch.from_numpy(document).long(), torch.from_numpy(position).long()] = rows
    rows = iter(resid[None].repeat(2, 1, 1, 1))
    model = SimpleNamespace(
        tokenizer=SimpleNamespace(pad_token_id=-1, eos_token_id=-1, bos_token_id=0),
        run_with_cache=lambda *_, **__: (None, {HOOK: next(rows)}),
        to_str_tokens=lambda ids: [tiny_tokenizer().decode([i]) for i in ids.tolist()],
    )
    (firings,) = collect_firings(activations, [sae], [LATENTS], corpus)
    acts = torch.stack([firings.dense(i) for i in range(len(LATENTS))], dim=-1).bfloat16()
    with torch.no_grad():
        _, scores, _ = compare(theirs(model, sae, corpus.tokens, Layout()), acts, corpus.tokens, Layout(), 4)
    assert len(scores) > 5


def test_the_prompt_is_saebenchs_byte_for_byte(model, sae, site, texts):
    tokens = torch.tensor(site.tokenise(texts.documents))
    reference = theirs(model, sae, tokens, Layout())
    with torch.no_grad(), own_randomness(7):
        generation, scoring = reference.gather_data()
        acts = collect_sae_activations(tokens, model, sae, 1000, 1, HOOK, mask_bos_pad_eos_tokens=True,
                                       selected_latents=LATENTS, activation_dtype=torch.bfloat16)  # fmt: skip
    with own_randomness(7):
        found = as_saebench(acts, tokens, LATENTS, layout=Layout(), decode=Decoder(tiny_tokenizer()))
    for number, (mine_generation, mine_scoring) in found.items():
        question = explanation_question(Latent(number, 0.1, 0, mine_generation, (), ()))
        theirs_now = reference.get_generation_prompts(generation[number])
        assert [dict(zip(("role", "content"), m, strict=True)) for m in question.messages] == theirs_now
        with own_randomness(content_seed("cats & dogs", mine_scoring)):
            theirs_now = reference.get_scoring_prompts("cats & dogs", scoring[number])
        question = detection_question("cats & dogs", mine_scoring)
        assert [dict(zip(("role", "content"), m, strict=True)) for m in question.messages] == theirs_now
        assert question.n_examples == 14


def test_defaults_are_saebenchs():
    cfg, layout = AutoInterpEvalConfig(), Layout()
    assert (layout.buffer, layout.threshold) == (cfg.buffer, cfg.act_threshold_frac)
    assert (layout.n_top, layout.n_weighted, layout.n_random) == (
        cfg.n_top_ex,
        cfg.n_iw_sampled_ex,
        cfg.n_random_ex_for_scoring,
    )
    assert layout.n_top_generation + layout.n_weighted_generation == cfg.n_ex_for_generation
    assert layout.n_top_scoring + layout.n_weighted_scoring == cfg.n_correct_for_scoring
