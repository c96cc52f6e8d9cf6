from __future__ import annotations

import numpy as np
import pytest
import torch
from sae_lens.evals import ExplainedVarianceCalculator
from tiny_site import tiny_model, tiny_site, tiny_texts
from transformers import PreTrainedTokenizerFast

from sae_sanity.baselines import Shape, measure_moments, new_learner, parse_arm, to_inference
from sae_sanity.suites.reconstruction import Reconstruction, explained
from sae_sanity.suites.suite import SuiteContext


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return tiny_site(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def suite(site):
    return Reconstruction(site, tiny_texts("held_out", 12, 3), ce_documents=5, norm_cap=None)


@pytest.fixture(scope="module")
def sae(site):
    acts = [chunk[0] for chunk in site.collect(tiny_texts("train", 100, 1)).chunks()]
    moments = measure_moments(acts)
    learner = new_learner(parse_arm("random"), Shape("topk", 16, 48, 4.0), moments, 0, acts[0] * moments.scale)
    return to_inference(learner.sae, moments)


def _values(rows, metric):
    return {r.item: r.value for r in rows if r.metric == metric}


RNG = np.random.default_rng(0)


def test_explained_variance_against_the_closed_form_of_a_plain_forward_pass(suite, site, sae):
    """Per document: 1 - sum |x - x_hat|^2 / sum |x - mean|^2 on hidden states that transformers returns itself."""
    ours = _values(suite.measure(sae, site, RNG), "explained_variance")
    for index, document in enumerate(suite.held_out.documents):
        ids = torch.tensor(site.tokenise([document]))
        with torch.no_grad():
            x = site.model(ids, output_hidden_states=True).hidden_states[2][0, 1:].bfloat16().double()
            error = (x - sae(x.float()).double()).pow(2).sum()
        expected = 1 - error / (x - x.mean(0)).pow(2).sum()
        assert ours[f"held_out-{index:05d}"] == pytest.approx(float(expected), abs=1e-3)


def test_explained_variance_of_all_tokens_is_saelens_own():
    x, y = (torch.randn(50, 8, generator=torch.Generator().manual_seed(s)) + 5 for s in (0, 1))
    calculator = ExplainedVarianceCalculator()
    for part in (slice(0, 20), slice(20, 50)):
        calculator.add_batch(y[part], x[part])
    assert explained(y, x) == pytest.approx(calculator.compute(), rel=1e-5)  # float32 sums, in another order


def test_cross_entropy_against_a_forward_hook(suite, site, sae):
    """Splice with a plain PyTorch hook, and average transformers' own logits."""
    acts = torch.cat([chunk[0] for chunk in site.collect(suite.held_out).chunks()])
    mean = acts.double().mean(0).float()

    def loss(document, edit):
        def hook(module, inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            edited = hidden.clone()
            edited[:, 1:] = edit(hidden[:, 1:])
            return (edited, *output[1:]) if isinstance(output, tuple) else edited

        ids = torch.tensor(site.tokenise([document]))
        handle = site.model.model.layers[1].register_forward_hook(hook)
        with torch.no_grad():
            logits = site.model(ids).logits[0, :-1]
        handle.remove()
        return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))

    ours = _values(suite.measure(sae, site, RNG), "ce_recovered")
    assert len(ours) == 5
    for index, document in enumerate(suite.held_out.documents[:5]):
        clean, ablated = loss(document, lambda x: x), loss(document, lambda x: mean.expand_as(x))
        spliced = loss(document, lambda x: sae(x).detach())
        expected = (ablated - spliced) / (ablated - clean)
        assert ours[f"held_out-{index:05d}"] == pytest.approx(expected, abs=2e-3)


def test_spliced_cross_entropy_against_saelens(suite, site, sae):
    """SAELens' `get_recons_loss`, on TransformerLens' bridge to the same model, with BOS left alone."""
    from sae_lens.evals import get_recons_loss
    from sae_lens.training.activation_scaler import ActivationScaler
    from transformer_lens.model_bridge import TransformerBridge

    backend = site.tokenizer.backend_tokenizer
    wordlist = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<unk>")
    # A model of its own: the bridge changes the one that it is given.
    bridge = TransformerBridge.boot_transformers(
        "tiny", hf_model=tiny_model(), tokenizer=wordlist, device="cpu", dtype=torch.float32
    )
    clean = suite._losses(None)
    spliced = suite._losses(lambda acts: sae.decode(sae.encode(acts)))
    for index, document in enumerate(suite.held_out.documents[:5]):
        tokens = torch.tensor(site.tokenise([document]))
        theirs = get_recons_loss(
            *(sae, bridge, ActivationScaler(), tokens),
            compute_kl=False,
            compute_ce_loss=True,
            ignore_tokens=[0],
            hook_name="blocks.1.hook_resid_post",
        )
        assert clean[index] == pytest.approx(float(theirs["ce_loss_without_sae"].mean()), abs=1e-4)
        assert spliced[index] == pytest.approx(float(theirs["ce_loss_with_sae"].mean()), abs=1e-3)


def test_identity_is_one_and_mean_ablation_is_no_better_than_nothing(suite, site):
    identity = suite.measure_reference("identity", site, RNG)
    assert all(r.value == pytest.approx(1, abs=1e-5) for r in identity)
    ablation = suite.measure_reference("mean_ablation", site, RNG)
    # The mean of all documents is never nearer to one document's tokens than that document's own mean.
    assert all(v <= 1e-6 for v in _values(ablation, "explained_variance").values())
    assert all(v == pytest.approx(0, abs=1e-6) for v in _values(ablation, "ce_recovered").values())


def test_l0_and_dead_share(suite, site, sae):
    rows = suite.measure(sae, site, RNG)
    assert all(0 < v <= 4 for v in _values(rows, "l0").values())
    with torch.no_grad():
        acts = torch.cat([chunk[0] for chunk in site.collect(suite.held_out).chunks()])
        expected = float((~(sae.encode(acts) != 0).any(0)).double().mean())
    assert list(_values(rows, "dead_share").values()) == [pytest.approx(expected)]


def test_same_input_same_rows_and_every_document_is_kept(suite, site, sae):
    first, second = suite.measure(sae, site, RNG), suite.measure(sae, site, RNG)
    assert first == second
    assert set(_values(first, "explained_variance")) == {f"held_out-{i:05d}" for i in range(12)}
    assert {r.metric for r in first} == set(suite.metrics)


def test_settings_change_with_what_decides_the_numbers(site):
    base = Reconstruction(site, tiny_texts("held_out", 12, 3), ce_documents=5, norm_cap=None).settings()
    assert Reconstruction(site, tiny_texts("held_out", 12, 4), ce_documents=5, norm_cap=None).settings() != base
    assert Reconstruction(site, tiny_texts("held_out", 12, 3), ce_documents=6, norm_cap=None).settings() != base
    assert Reconstruction(site, tiny_texts("held_out", 12, 3), ce_documents=5, norm_cap=9.0).settings() != base


def test_build(site):
    texts = tiny_texts("held_out", 12, 3)
    options = {"ce_documents": 3, "held_out_documents": 12}
    built = Reconstruction.build(SuiteContext(site, texts, 7.0, options))
    assert (built.ce_documents, built.norm_cap, built.held_out) == (3, 7.0, texts)
    assert Reconstruction.clusters(options) == 12
