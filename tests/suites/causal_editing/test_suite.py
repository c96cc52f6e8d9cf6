"""The suite on a model that knows its facts by heart: floors and ceilings are known, and an SAE lies between them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from knowing_model import ATTRIBUTES, ENTITIES, knowing_site, ravel_data
from sae_lens import StandardSAE, StandardSAEConfig

from sae_sanity.suites.causal_editing.known import know
from sae_sanity.suites.causal_editing.suite import CausalEditing, Lesson
from sae_sanity.suites.suite import NotMeasurable

LESSON = Lesson(n_train=96, n_sources=1, masks=2, epochs=4, lr=0.05, batch_size=16, n_tokens=1)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return CausalEditing(knowing_site(tmp_path_factory.mktemp("site")), ravel_data(), n_entities=48, lesson=LESSON)


def linear_sae(encoder: torch.Tensor) -> StandardSAE:
    """An SAE whose latents are the positive and the negative part of every direction of an orthogonal matrix."""
    d_in = len(encoder)
    sae = StandardSAE(StandardSAEConfig(d_in=d_in, d_sae=2 * d_in, apply_b_dec_to_input=False))
    both = torch.cat([encoder, -encoder], dim=1)
    sae.load_state_dict(
        {"W_enc": both, "W_dec": both.T.contiguous(), "b_enc": torch.zeros(2 * d_in), "b_dec": torch.zeros(d_in)}
    )
    return sae.eval()


def rotation(d_in: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(d_in, d_in, generator=torch.Generator().manual_seed(seed)))[0]


def scores(rows) -> dict[str, float]:
    found = defaultdict(list)
    for row in rows:
        found[row.metric].append(row.value)
    return {metric: float(np.mean(values)) for metric, values in found.items()}


@pytest.fixture(scope="module")
def measured(suite):
    """Rows of every reference and of one SAE that loses nothing."""
    rng = np.random.default_rng(0)
    found = {name: suite.measure_reference(name, suite.site, rng) for name in suite.references()}
    found["sae"] = suite.measure(linear_sae(rotation(32, 0)), suite.site, rng)
    return found


def test_the_model_knows_its_facts(suite):
    known = know(suite.site, suite.data, n_entities=48, n_tokens=1)
    assert known.counts() == dict.fromkeys(ATTRIBUTES, (96, 96))
    assert all(suite.site.tokenizer.decode([each.first]) == each.prompt.value for each in known.right)


def test_an_edit_that_changes_nothing_has_cause_0_and_isolation_1(measured):
    found = scores(measured["identity"])
    assert (found["cause"], found["isolation"], found["disentangle"], found["first_token"]) == (0, 1, 0.5, 0.5)
    assert found["cause_logit_difference"] < 0 < found["isolation_logit_difference"]


def test_the_whole_activation_carries_everything(measured):
    """All of an early layer's entity is in its activation, so cause is 1 and nothing is isolated."""
    found = scores(measured["patch"])
    assert found["cause"] > 0.95
    assert found["isolation"] < 0.05


def test_rows_of_all_edits_are_of_the_same_items(measured):
    named = {
        who: sorted((r.metric, r.item, r.cluster) for r in rows if not r.metric.startswith("first_token_"))
        for who, rows in measured.items()
    }
    assert named["identity"] == named["patch"] == named["subspace"] == named["sae"]
    clusters = {row.cluster for row in measured["sae"]}
    assert clusters == {entity for i, entity in enumerate(ENTITIES) if i % 2}


def test_disentangle_is_the_mean_of_cause_and_mean_isolation(measured):
    rows = measured["sae"]
    cause = {r.item: r.value for r in rows if r.metric == "cause"}
    isolation = defaultdict(list)
    for row in rows:
        if row.metric == "isolation":
            name, _, rest = row.item.rpartition("|")
            isolation[f"{name}#{rest.rpartition('#')[2]}"].append(row.value)
    for row in rows:
        if row.metric == "disentangle":
            assert row.value == (cause[row.item] + np.mean(isolation[row.item])) / 2


def test_a_learned_edit_beats_the_same_number_of_random_latents(measured):
    found = scores(measured["sae"])
    assert found["first_token"] > max(found["first_token_random_latents"], found["first_token_random_direction"])


def test_the_same_input_gives_the_same_rows(suite, measured):
    again = suite.measure(linear_sae(rotation(32, 0)), suite.site, np.random.default_rng(1))
    assert again == measured["sae"]


def test_masks_are_trials(measured):
    assert {row.item.rpartition("#")[2] for rows in measured.values() for row in rows} == {"0", "1"}


def test_the_error_term_is_kept_or_dropped(suite):
    """An SAE that leaves everything: with its error kept every edit is none, and without it nothing is left."""
    empty = linear_sae(torch.zeros(32, 32))
    quick = replace(LESSON, masks=1, epochs=1)
    found = {
        error: scores(
            CausalEditing(suite.site, suite.data, n_entities=48, lesson=replace(quick, error=error)).measure(
                empty, suite.site, np.random.default_rng(0)
            )
        )
        for error in ("kept", "dropped")
    }
    assert (found["kept"]["cause"], found["kept"]["isolation"]) == (0, 1)
    assert found["dropped"]["isolation"] < 0.6


def test_notes_say_what_was_known_and_left(suite, measured):
    text = "\n".join(suite.notes())
    assert "Country 96 of 96, Continent 96 of 96, Language 96 of 96" in text
    assert "learn on 24 entities and are tried on 24 others" in text
    assert "error term is dropped" in text


def test_what_is_answered_is_kept(suite, monkeypatch):
    def never(*_, **__):
        raise AssertionError("asked again")

    monkeypatch.setattr("sae_sanity.suites.causal_editing.known.Editor", never)
    assert know(suite.site, suite.data, n_entities=48, n_tokens=1).counts()["Country"] == (96, 96)


def test_a_damaged_file_of_answers_is_asked_again(suite, tmp_path):
    site = replace(suite.site, cache=tmp_path)
    know(site, suite.data, n_entities=16, n_tokens=1)
    (kept,) = (tmp_path / "answers").iterdir()
    kept.write_text("[{}]")
    assert know(site, suite.data, n_entities=16, n_tokens=1).counts()["Country"] == (32, 32)


def test_a_model_that_knows_too_little_is_not_measurable(suite):
    few = CausalEditing(suite.site, suite.data, n_entities=6, lesson=LESSON)
    with pytest.raises(NotMeasurable, match="Country of 3 and 3"):
        few.measure(linear_sae(rotation(32, 0)), few.site, np.random.default_rng(0))
    with pytest.raises(NotMeasurable):
        few.measure_reference("identity", few.site, np.random.default_rng(0))
