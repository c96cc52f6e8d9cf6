"""The judge on trial, from texts to the gate: a judge that works passes, one that is told the labels does not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from sae_sanity.results.sampled_gate import check_judge
from sae_sanity.results.stats import arm_scores
from sae_sanity.suites.autointerp import trial as module
from sae_sanity.suites.autointerp.examples import Layout, Missing
from sae_sanity.suites.autointerp.interview import Interview
from sae_sanity.suites.autointerp.planted import N_NOTHING, N_SHUFFLED
from sae_sanity.suites.autointerp.rows import CHANCE, chance_sd, rows_of_sae, rows_of_trial
from sae_sanity.suites.autointerp.scoring import Marked, mark
from sae_sanity.suites.autointerp.strata import Choice
from sae_sanity.suites.autointerp.survey import Corpus
from sae_sanity.suites.autointerp.trial import make_trial

WORDS = [" 19", "?", " Paris", " river", " stone", " house", " cloud"]
LAYOUT = Layout(n_balanced=20)


def decode(ids):
    """The first ids mean something, the others are unlike each other."""
    return tuple(WORDS[i] if i < len(WORDS) else f" w{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}" for i in ids)


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    tokens = rng.integers(len(WORDS), 600, (500, 80))
    some = rng.random(tokens.shape) < 0.03
    tokens[some] = rng.integers(0, len(WORDS), some.sum())
    return Corpus(torch.from_numpy(tokens), torch.full((500,), 80))


@pytest.fixture(scope="module")
def pool(corpus):
    return corpus.random_windows(4000, 10, 0)


@pytest.fixture(scope="module")
def trial(corpus, pool):
    return make_trial(corpus, pool, layout=LAYOUT, decode=decode, seed=0)


def by_kind(trial, kind):
    return [latent for latent, found in zip(trial.latents, trial.kinds, strict=True) if found == kind]


def test_what_is_asked(trial):
    kinds = {kind: len(by_kind(trial, kind)) for kind in ("planted", "nothing", "shuffled")}
    assert kinds == {"planted": 6, "nothing": N_NOTHING, "shuffled": N_SHUFFLED}
    assert len({latent.number for latent in trial.latents}) == len(trial.latents) == len(set(trial.names))
    for latent in trial.latents:
        assert latent.saebench == ()
        assert sum(each.is_active for each in latent.balanced) == len(latent.balanced) / 2 == 10
        assert [each.is_active for each in latent.balanced] != sorted(each.is_active for each in latent.balanced)


def test_hard_negatives_are_for_what_can_be_found(corpus, pool):
    trial = make_trial(corpus, pool, layout=Layout(n_balanced=20, hard=True), decode=decode, seed=0)
    for kind, expected in (("planted", "hard"), ("nothing", "random"), ("shuffled", "random")):
        silent = {each.kind for latent in by_kind(trial, kind) for each in latent.balanced if not each.is_active}
        assert silent == {expected}


def test_a_shuffled_copy_explains_one_thing_and_shows_another(trial):
    planted = {latent.generation: latent for latent in by_kind(trial, "planted")}
    used = []
    for copy in by_kind(trial, "shuffled"):
        source = planted[copy.generation]
        used.append(source.number)
        assert copy.balanced != source.balanced
        shown = [t for each in source.generation for t, a in zip(each.tokens, each.activations, strict=True) if a]
        active = [t for each in copy.balanced for t, a in zip(each.tokens, each.activations, strict=True) if a]
        assert len(set(active)) > 0.5 * len(active)  # anything
        assert np.mean([t in set(shown) for t in active]) < 0.3
    assert len(set(used)) == len(used)


def working(latent, truth):
    """What a judge says that has understood the explanation: where the explained pattern is in the texts."""
    tokens = truth[latent.generation]
    return [bool(set(each.tokens) & tokens) for each in latent.balanced]


def truths(trial):
    """Of each explained latent the tokens that it fires on, where there is a rule."""
    found = {}
    for latent in trial.latents:
        active = {t for each in latent.generation for t, a in zip(each.tokens, each.activations, strict=True) if a}
        found[latent.generation] = active
    return found


def gate(trial, says):
    """The gate's word on a judge, by the rows of its answers."""
    interviews = []
    for latent in trial.latents:
        numbers = [i for i, yes in enumerate(says(latent), 1) if yes]
        interviews.append(Interview(latent, "x", mark((), None), mark(latent.balanced, numbers)))
    rows = rows_of_trial(list(zip(trial.names, trial.kinds, interviews, strict=True)), interviews)
    made = [(r.metric, r.item, r.cluster, f"@{arm}", 0, r.value) for arm, own in rows.items() for r in own]
    frame = pd.DataFrame(made, columns=["metric", "item", "cluster", "arm", "seed", "value"])
    tables = {key: arm_scores(group, key[1]) for key, group in frame.groupby(["metric", "arm"])}
    return check_judge(tables, "detection", alpha=0.05)


def test_a_judge_that_works_passes(trial):
    truth = truths(trial)
    check = gate(trial, lambda latent: working(latent, truth))
    assert check.passed, check.detail
    assert "accuracy 0.9" in check.detail or "accuracy 1.0" in check.detail
    assert "on 6 planted latents" in check.detail
    assert f"on {N_SHUFFLED} with shuffled labels" in check.detail
    assert f"on {N_NOTHING} with nothing to find" in check.detail


def test_a_judge_that_is_told_the_labels_is_caught(trial):
    check = gate(trial, lambda latent: [each.is_active for each in latent.balanced])
    assert not check.passed
    assert "off chance on shuffled labels: something tells the judge the answer" in check.detail
    assert "off chance on nothing to find" in check.detail
    assert "near chance" not in check.detail


def test_a_judge_that_reads_the_labels_off_the_order_is_caught(trial):
    """Were the texts not mixed, the first half would be the right answer everywhere."""
    ordered = module.Trial(
        tuple(
            module.replace(latent, balanced=tuple(sorted(latent.balanced, key=lambda each: not each.is_active)))
            for latent in trial.latents
        ),
        *(trial.kinds, trial.names, trial.left_out),
    )
    first_half = lambda latent: [i < len(latent.balanced) / 2 for i in range(len(latent.balanced))]  # noqa: E731
    assert "off chance on shuffled labels" in gate(ordered, first_half).detail
    assert "off chance" not in gate(trial, first_half).detail


def test_a_judge_that_always_says_none_is_off_chance_nowhere(trial):
    check = gate(trial, lambda latent: [False] * len(latent.balanced))
    assert not check.passed
    assert check.detail.startswith("the judge is near chance; accuracy 0.500")


def test_a_fair_coin_is_seldom_off_chance(trial):
    rng = np.random.default_rng(0)
    found = [gate(trial, lambda latent: rng.random(len(latent.balanced)) < 0.3).detail for _ in range(200)]
    # two tests at .01
    assert sum("off chance" in detail for detail in found) <= stats.binom.ppf(0.999, 200, 0.02)


@pytest.mark.parametrize(("n", "fires", "yes"), [(20, 10, 7), (100, 50, 50), (14, 4, 3), (20, 10, 0), (20, 10, 20)])
def test_spread_of_answers_by_chance(n, fires, yes):
    truth, said = tuple(i < fires for i in range(n)), tuple(i % n < yes for i in range(n))
    hits = stats.hypergeom(n, fires, yes)
    slope = (1 / fires + 1 / (n - fires)) / 2
    assert chance_sd(Marked(said, truth, truth)) == pytest.approx(hits.std() * slope)
    assert chance_sd(Marked(None, truth, truth)) == 0.0


# what cannot be shown


def test_patterns_without_windows_apart_are_left_out_and_said():
    """Firings twelve tokens apart: SAEBench's selection takes them all, the balanced layout can take few of them."""
    tokens = torch.randint(len(WORDS), 600, (40, 100), generator=torch.Generator().manual_seed(0))
    tokens[:12, 10:90:12] = 0
    corpus = Corpus(tokens, torch.full((40,), 100))
    trial = make_trial(corpus, corpus.random_windows(4000, 10, 0), layout=Layout(n_balanced=100), decode=decode, seed=0)
    assert not by_kind(trial, "planted")
    (line,) = [line for line in trial.left_out if "digits" in line]
    assert line.startswith("not planted to try the judge: digits, the texts have ")
    assert "80 or 65 are needed" in line


def test_whatever_is_missing_in_the_end_is_said(corpus, pool, monkeypatch):
    """Should the choice of windows fail all the same, a line says so, and nothing is asked."""
    real = module.gather

    def failing(*args, **options):
        for each in real(*args, **options):
            lost = each.number in (0, 7)
            yield Missing(each.number, 0, 0.1, "balanced", "bad luck") if lost else each

    monkeypatch.setattr(module, "gather", failing)
    trial = make_trial(corpus, pool, layout=LAYOUT, decode=decode, seed=0)
    assert [line for line in trial.left_out if "bad luck" in line] == [
        "not planted to try the judge: digits, bad luck",
        "not planted to try the judge: nothing in particular 2, bad luck",
    ]
    assert "digits" not in trial.names
    assert len(trial.latents) == len(trial.kinds) == len(trial.names) == 6 + N_NOTHING + N_SHUFFLED - 2


def test_texts_with_nothing_in_them():
    corpus = Corpus(torch.full((3, 30), 99), torch.full((3,), 30))
    trial = make_trial(corpus, corpus.random_windows(10, 10, 0), layout=LAYOUT, decode=decode, seed=0)
    assert (trial.latents, trial.kinds, trial.names) == ((), (), ())
    assert trial.left_out


# rows of an SAE


def test_a_latent_that_was_drawn_and_not_asked_is_missing(trial):
    asked = module.replace(trial.latents[0], number=4, stratum=1)
    told = Interview(asked, "x", mark((), None), mark(asked.balanced, [1]))
    choice = Choice(latents=(4, 9), strata=(1, 0), mix=(30, 10), outside=5, ineligible=25, dead=30)
    rows = rows_of_sae([told], choice, 100)
    of = {row.metric: row.value for row in rows if row.item == "latent 9"}
    assert of == {"detection": CHANCE, "detection_worst": 0.0, "detection_best": 1.0, "missing": 1.0}
    assert {row.cluster for row in rows if row.item == "latent 9"} == {"f0"}
    assert [row.value for row in rows if row.metric == "missing"] == [0.0, 1.0]
    whole = {row.metric: row.value for row in rows if row.item == "all"}
    shares = {name: whole[name] for name in ("dead_share", "ineligible_share", "outside_share", "unasked")}
    assert shares == {"dead_share": 0.3, "ineligible_share": 0.25, "outside_share": 0.05, "unasked": 1.0}
    # dead, ineligible, outside and compared are everything
    assert 0.3 + 0.25 + 0.05 + sum(choice.mix) / 100 == pytest.approx(1)
