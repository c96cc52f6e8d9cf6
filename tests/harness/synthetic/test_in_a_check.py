"""`--suites synthetic` in a check: the recipe is judged, with or without a given SAE and its language model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hub_contents import documents, save_gpt2
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from tiny_worlds import TINY_WORLDS

from sae_sanity.harness import check
from sae_sanity.harness.config import resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.record import load_record, report_of
from sae_sanity.harness.synthetic import config
from sae_sanity.results.analysis import two_claims, with_holm
from sae_sanity.results.outcome import Verdict
from sae_sanity.results.stats import holm

WORLDS = {name: value for name, value in TINY_WORLDS.items() if name != "preset"} | {"worlds": 3, "samples": 4096}
SMALL = {"profile": "smoke", "context_size": 32, "seeds": 3, "random_seeds": 3, "tokens": 4096, "batch_size": 256}
SMALL |= {"calibration_tokens": 6000, "held_out_documents": 60, "ce_documents": 4, "baselines": ["frozen_decoder"]}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(config.PRESETS, "smoke", WORLDS)


@pytest.fixture
def given(tmp_path):
    """Settings of a check of an SAE that exists, beside its language model and texts."""
    root = tmp_path / "given"
    save_gpt2(root / "gpt2")
    (root / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(500)))
    rows = torch.nn.functional.normalize(torch.randn(48, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    facts = {"hook_name": "blocks.1.hook_resid_post", "context_size": 32, "prepend_bos": True}
    sae = TopKSAE(TopKSAEConfig(d_in=16, d_sae=48, k=4, metadata=SAEMetadata(**facts)))
    zeros = {"b_enc": torch.zeros(48), "b_dec": torch.zeros(16)}
    sae.load_state_dict({"W_dec": rows, "W_enc": rows.T.contiguous()} | zeros)
    sae.save_model(root / "sae")
    place = {"target": str(root / "sae"), "model": str(root / "gpt2"), "texts": str(root / "texts.jsonl")}
    return lambda *suites: resolve(place | SMALL | {"suites": suites}, environ={})


def no_model(*arguments, **options):
    raise AssertionError("a language model was asked for")


def test_a_recipe_alone_needs_no_language_model(monkeypatch, tmp_path):
    monkeypatch.setattr(check, "make_subject", no_model)
    flags = SMALL | {"suites": ["synthetic"], "target": "demo", "world": "constant", "architecture": "topk"}
    report = check.run_check(resolve(flags, environ={}), tmp_path / "r", Silent())
    (suite,) = report.suites
    assert (suite.suite, report.claim, report.recipe) == ("synthetic", "recipe", None)
    assert report.verdict == {"BEATS": "PASS", "INVALID": "INVALID", "INCONCLUSIVE": "INCONCLUSIVE"}.get(
        suite.verdict.value, "FAIL"
    )
    assert (suite.detail.world, suite.detail.n_features) == ("constant", 48)
    assert {skip.what for skip in report.skipped} == {"frozen_encoder"}
    assert any("synthetic: 3 worlds" in note for note in report.manifest.notes)
    assert report_of(tmp_path / "r") == report
    with pytest.raises(AssertionError, match="was asked for"):
        check.run_check(resolve(flags | {"suites": ["reconstruction"]}, environ={}), tmp_path / "s", Silent())


def test_beside_a_given_sae_the_suite_speaks_of_its_recipe_alone(given, tmp_path):
    report = check.run_check(given("reconstruction", "synthetic"), tmp_path / "r", Silent())
    reconstruction, synthetic = report.suites
    assert (reconstruction.suite, synthetic.suite) == ("reconstruction", "synthetic")
    assert reconstruction.recipe is not None
    assert synthetic.recipe is None
    assert "retrained" not in {arm.arm for arm in synthetic.arms}
    assert len(next(arm for arm in synthetic.arms if arm.arm == "trained").secondary) > 5
    artefact, of_recipe = two_claims(report.suites)
    assert [claim.suite for claim in artefact] == ["reconstruction"]
    assert of_recipe == [reconstruction.recipe, synthetic]
    # One family of one, and one of two.
    beats = {"verdict": Verdict.BEATS}
    own = reconstruction.recipe.model_copy(update=beats | {"p": 0.03})
    claims = (
        reconstruction.model_copy(update=beats | {"p": 0.04, "recipe": own}),
        synthetic.model_copy(update=beats | {"p": 0.01}),
    )
    first, second = with_holm(claims)
    assert first.p_holm == pytest.approx(0.04)
    assert (first.recipe.p_holm, second.p_holm) == pytest.approx(tuple(holm([0.03, 0.01])))
    alone_in_worlds = with_holm([second, second.model_copy(update={"p": 0.02})])
    assert [suite.p_holm for suite in alone_in_worlds] == pytest.approx([0.02, 0.02])
    assert reconstruction.p_holm in (None, reconstruction.p)
    assert report.claim == "artefact"
    assert "synthetic" not in report.headline.partition(".")[0]
    alone = check.run_check(given("reconstruction"), tmp_path / "alone", Silent())
    assert (report.verdict, report.headline.partition(".")[0]) == (
        alone.verdict,
        alone.headline.partition(".")[0],
    )
    assert alone.suites[0].p_holm == reconstruction.p_holm
    assert load_record(tmp_path / "r").world.n_features == 48
    assert report_of(tmp_path / "r") == report


def test_a_world_that_does_not_fit_stops_a_check_before_it_starts(monkeypatch, tmp_path):
    monkeypatch.setitem(config.PRESETS, "smoke", WORLDS | {"n_features": 10**12})
    monkeypatch.setattr(check, "make_subject", no_model)
    with pytest.raises(UsageError, match="would fit"):
        check.run_check(
            resolve(SMALL | {"suites": ["reconstruction", "synthetic"]}, environ={}), tmp_path / "r", Silent()
        )
    assert not Path(tmp_path / "r").exists()


def test_a_slip_in_the_suite_s_name_is_one_line():
    with pytest.raises(UsageError, match="no such suite: 'syntetic'; did you mean 'synthetic'"):
        check.find_tasks(resolve({"suites": ["syntetic"]}, environ={}))
