"""Suites that stop asking where the verdict is there: the rule, and the verdict from stored rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sampled_rows import SUITE, design, rows
from test_sampled import tables, versus

from sae_sanity.results.advice import advice
from sae_sanity.results.analysis import analyse, conclude
from sae_sanity.results.compare import iut_p
from sae_sanity.results.outcome import Manifest, Verdict
from sae_sanity.results.report.json_format import from_json, to_json
from sae_sanity.results.stats import anytime
from sae_sanity.results.stopped import steps_of
from sae_sanity.results.stopping import StoppingRule, stopping_rule
from sae_sanity.results.verdict import verdict_of


def stepped(frame, rng=0):
    """The same rows with steps: each SAE's latents in an order in which step k is of the same stratum for all."""
    latents = frame[frame["metric"].eq("detection") & ~frame["arm"].str.startswith("@")]
    order = np.random.default_rng(rng).permutation(len(latents.groupby(["arm", "seed"]).get_group(("trained", 0))))
    parts = [one.assign(metric="step", value=order + 1.0) for _, one in latents.groupby(["arm", "seed"], sort=False)]
    # The rows of a first SAE that come again as a control's have its steps too, for they are in the same order.
    return pd.concat([frame, *parts], ignore_index=True)


def in_order(frame, arm, metric="detection"):
    """Scores of an arm, steps x SAEs, by pandas alone."""
    mine = frame[frame["arm"].eq(arm) & frame["metric"].isin([metric, "step"])]
    wide = mine.pivot_table(index=["seed", "item", "cluster"], columns="metric", values="value").reset_index()
    return wide.pivot_table(index="step", columns="seed", values=metric).to_numpy()


def rule(trained=(0,), required=((1, 2, 3),), **options):
    return StoppingRule(trained, required, **({"margin": 0.02, "alpha": 0.05} | options))


def scores(*means, n=200, sd=0.1, rng=0):
    generator = np.random.default_rng(rng)
    return [list(generator.normal(mean, sd, n).clip(0, 1)) for mean in means]


def test_it_stops_where_every_required_arm_is_decided():
    clear, close = scores(0.9, 0.6, 0.6, 0.6), scores(0.61, 0.6, 0.6, 0.6, n=60)
    assert rule()(clear)
    assert not rule()(close)
    both = rule(required=((1, 2, 3), (4, 5, 6)))
    assert not both([*clear, *scores(0.89, 0.9, 0.9, rng=1)])
    assert both([*clear, *scores(0.6, 0.6, 0.6, rng=1)])


def test_it_stops_where_the_sae_is_worse():
    assert rule()(scores(0.6, 0.9, 0.9, 0.9))


def test_it_agrees_with_the_verdict_on_the_interval():
    data = scores(0.7, 0.6, 0.6, 0.6, sd=0.15)
    answers = []
    for n in range(20, 201, 20):
        x = np.array([each[:n] for each in data]).T
        verdict = verdict_of(*anytime(x[:, :1], x[:, 1:]).interval(), margin=0.02)
        answers.append(rule()([each[:n] for each in data]))
        assert answers[-1] == (verdict is not Verdict.INCONCLUSIVE)
    assert (answers[0], answers[-1]) == (False, True)


@pytest.mark.parametrize(
    ("how", "data"),
    [
        ({"required": ()}, scores(0.9, 0.6, 0.6, 0.6)),
        ({"required": ((1,),)}, scores(0.9, 0.6)),
        ({"required": ((1, 2), ())}, scores(0.9, 0.6, 0.6)),
        ({"trained": ()}, scores(0.9, 0.6, 0.6, 0.6)),
        ({}, [[], [], [], []]),
        ({}, [*scores(0.9, 0.6, 0.6), []]),
        ({}, [*scores(0.9, n=40), *scores(0.6, 0.6, 0.6)]),
    ],
)
def test_what_cannot_be_decided_never_stops(how, data):
    assert not rule(**how)(data)


def test_positions_are_those_of_the_arms():
    arms = ["random", "trained", "frozen_encoder@iso", "random", "permuted_decoder"]
    found = stopping_rule(SUITE, arms, trained="trained", alpha=0.1)
    assert found == StoppingRule((1,), ((0, 3), (2,)), 0.02, 0.1)


# verdicts


@pytest.mark.parametrize(("trained_seeds", "claim"), [(1, "artefact"), (4, "recipe")])
def test_the_verdict_is_that_of_the_anytime_valid_interval(trained_seeds, claim):
    frame = stepped(rows(trained_seeds=trained_seeds, seeds=5))
    c = versus(frame)
    oracle = anytime(in_order(frame, "trained"), in_order(frame, "random"), claim=claim)
    e = c.estimate
    assert (c.anytime, c.sampled, c.claim, c.verdict) == (True, True, claim, Verdict.BEATS)
    assert (e.lo, e.hi) == pytest.approx(oracle.interval())
    assert (e.difference, e.p_crossed, e.p_tost) == pytest.approx((oracle.estimate, oracle.pvalue(), oracle.tost(0.02)))
    assert (e.standard_error, e.df) == pytest.approx((oracle.standard_error, oracle.df))
    assert iut_p(e) == e.p_crossed < 0.05
    assert (e.n_clusters, e.n_trained, e.n_baseline) == (120, trained_seeds, 5)
    fixed = (e.mde, e.clusters_needed, e.seeds_needed, e.p_signflip, e.p_superiority, e.p_wilcoxon, e.d_z)
    assert fixed == (None,) * 7
    assert 0.7 < e.superiority < 1


def test_it_is_wider_than_that_of_the_fixed_design():
    frame = rows(trained_seeds=4, seeds=5)
    free, bound = versus(stepped(frame)).estimate, versus(frame).estimate
    assert free.lo < bound.lo
    assert free.hi > bound.hi
    assert free.p_crossed > bound.p_crossed
    assert not versus(frame).anytime


def test_the_order_of_the_steps_decides_and_the_order_of_the_rows_does_not():
    frame = stepped(rows(0.68))
    shuffled = frame.sample(frac=1, random_state=0)
    assert versus(shuffled).estimate == versus(frame).estimate
    assert versus(stepped(rows(0.68), rng=5)).estimate.lo != versus(frame).estimate.lo


def test_the_report_says_that_it_is_anytime_valid_and_the_table_fits_the_difference():
    (suite,) = analyse(stepped(rows()), design())
    assert suite.verdict is Verdict.BEATS, suite.reason
    assert "anytime-valid 90 % interval" in suite.reason
    arms = {arm.arm: arm for arm in suite.arms}
    difference = arms["trained"].score - arms["random"].score
    assert suite.comparisons[0].estimate.difference == pytest.approx(difference)
    assert "step" not in arms["trained"].secondary
    assert all(c.anytime for c in (*suite.comparisons, *suite.exploratory))
    report = conclude(
        [suite], target="x", manifest=Manifest(command="x", config_hash="0", settings={}, versions={}, hashes={})
    )
    assert from_json(to_json(report)) == report


def test_undecided_says_what_would_narrow_it():
    frame = stepped(rows(0.66, n=6))
    (suite,) = analyse(frame, design())
    (line,) = {line for line in advice([suite.model_copy(update={"gate": ()})]) if "vs random" in line}
    assert "18 latents of each SAE were not enough for the anytime-valid interval" in line
    assert "have 4" in line


def test_one_baseline_seed_shows_nothing():
    c = versus(stepped(rows(seeds=1)))
    assert (c.verdict, c.estimate.lo) == (Verdict.INVALID, None)
    reason = "one baseline seed: how much another seed would differ is not known"
    assert c.reason == f"the assay could not have told; {reason}"


def test_steps_of_one_arm_alone_are_invalid():
    frame = stepped(rows())
    c = versus(frame[~(frame["arm"].eq("random") & frame["metric"].eq("step"))])
    assert (c.verdict, c.reason) == (Verdict.INVALID, "trained and random have no step in common")


def test_a_step_that_an_sae_has_no_score_of_is_left_out():
    frame = stepped(rows(n=3))
    item = frame[frame["arm"].eq("random") & frame["seed"].eq(2) & frame["metric"].eq("step") & frame["value"].eq(5)]
    lost = frame["arm"].eq("random") & frame["seed"].eq(2) & frame["item"].eq(item["item"].iloc[0])
    found = tables(frame[~(lost & frame["metric"].eq("detection"))])
    pair = [found["detection", arm] for arm in ("trained", "random")]
    asked = tuple(found["step", arm] for arm in ("trained", "random"))
    steps = steps_of(*pair, asked)
    assert steps.trained.shape == (8, 1)
    assert steps.trained[:, 0] == pytest.approx(np.delete(in_order(frame, "trained")[:, 0], 4))
    assert steps_of(*pair, (None, None)) is None
    assert steps_of(None, pair[1], asked) is None


def test_a_recipe_that_the_rule_did_not_watch_is_judged_alike():
    frame = rows(0.75, trained_seeds=3)
    given = frame[frame["arm"].eq("trained") & frame["seed"].eq(0)]
    both = pd.concat([frame.replace({"arm": {"trained": "retrained"}}), given], ignore_index=True)
    (suite,) = analyse(stepped(both), replace(design(), recipe="retrained"))
    assert [c.claim for c in suite.recipe.comparisons] == ["recipe"] * 2
    assert all(c.anytime for c in suite.recipe.comparisons)


def test_false_beats_of_the_whole_suite_under_the_null():
    """Small; benchmarks/autointerp_stopping.py has the sizes that matter."""
    lean = design(exploratory=(), shown=())
    runs = [analyse(stepped(rows(0.65, n=14, rng=rng), rng), lean)[0].comparisons[0] for rng in range(10)]
    assert sum(run.estimate.lo > 0 for run in runs) <= 1
