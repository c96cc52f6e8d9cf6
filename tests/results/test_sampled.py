"""Suites whose items are drawn anew from each SAE, from rows to verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sampled_rows import SUITE, design, rows, with_shares
from scipy import stats
from statsmodels.stats.nonparametric import rank_compare_2indep

from sae_sanity.results.advice import advice
from sae_sanity.results.analysis import analyse, conclude
from sae_sanity.results.compare import compare, iut_p
from sae_sanity.results.outcome import Manifest, Verdict
from sae_sanity.results.report.json_format import from_json, to_json
from sae_sanity.results.sampled import mix_of, of_saes
from sae_sanity.results.stats import arm_scores

WEIGHTS = np.array([0.6, 0.3, 0.1])


def tables(frame):
    frame = frame[frame["metric"] != "sequence"]
    return {key: arm_scores(group, key[1]) for key, group in frame.groupby(["metric", "arm"])}


def by_hand(frame, arm, metric="detection"):
    """Standardised mean of every SAE, by pandas alone."""
    mine = frame[(frame["metric"] == metric) & (frame["arm"] == arm)]
    return (mine.groupby(["seed", "cluster"])["value"].mean().unstack() * WEIGHTS).sum(axis=1).to_numpy()


def versus(frame, arm="random"):
    (suite,) = analyse(frame, design())
    return next(c for c in suite.comparisons if c.baseline == arm)


def edited(frame, change, **where):
    frame = frame.copy()
    chosen = np.logical_and.reduce([frame[column].eq(value) for column, value in where.items()])
    frame.loc[chosen, "value"] = change
    return frame


def test_a_better_sae_beats_and_its_numbers_are_the_standardised_ones():
    frame = rows()
    (suite,) = analyse(frame, design())
    assert suite.verdict is Verdict.BEATS, suite.reason
    c = suite.comparisons[0]
    ours, theirs = by_hand(frame, "trained"), by_hand(frame, "random")
    assert (c.claim, c.sampled, c.estimate.difference) == ("artefact", True, pytest.approx(ours[0] - theirs.mean()))
    assert c.estimate.difference == pytest.approx(0.1, abs=0.02)
    assert (c.estimate.n_clusters, c.estimate.n_trained, c.estimate.n_baseline) == (120, 1, 4)
    assert (c.estimate.p_signflip, c.estimate.p_wilcoxon, c.estimate.d_z) == (None, None, None)
    assert iut_p(c.estimate) == c.estimate.p_crossed == suite.comparisons[0].estimate.p_crossed


def test_a_recipe_is_welchs_t_with_the_permutation_beside_it():
    frame = rows(trained_seeds=4, seeds=5, seed_sd=0.02)
    c = versus(frame)
    ours, theirs = by_hand(frame, "trained"), by_hand(frame, "random")
    oracle = stats.ttest_ind(ours, theirs, equal_var=False, alternative="greater")
    assert c.claim == "recipe"
    assert (c.estimate.p_crossed, c.estimate.df) == pytest.approx((oracle.pvalue, oracle.df))
    assert c.estimate.p_signflip == pytest.approx(1 / 126)
    assert iut_p(c.estimate) == max(c.estimate.p_crossed, c.estimate.p_signflip)


def test_frequencies_alone_are_no_difference():
    frame = rows(0.65, n=300)
    drop = frame["arm"].eq("trained") & frame["cluster"].eq("f2") & frame["metric"].ne("alive")
    rare = frame[~(drop & (np.arange(len(frame)) % 4 > 0))]
    e = versus(rare).estimate
    assert e.difference == pytest.approx(0, abs=0.012)
    assert e.lo < 0 < e.hi


def test_one_baseline_seed_shows_nothing():
    c = versus(rows(seeds=1))
    assert (c.verdict, c.estimate.lo) == (Verdict.INVALID, None)
    reason = "one baseline seed: how much another seed would differ is not known"
    assert c.reason == f"the assay could not have told; {reason}"


def test_no_stratum_in_common_and_no_mix_are_invalid():
    frame = rows()
    moved = frame.copy()
    random = frame["arm"].eq("random")
    moved.loc[random, "cluster"] = frame.loc[random, "cluster"].str.replace("f", "g")
    assert versus(moved).reason == "trained and random have no stratum of firing rate in common"
    (suite,) = analyse(moved, design())
    note = next(a.note for a in suite.arms if a.arm == "random")
    assert note.startswith("not standardised")
    assert "no rows of 'alive'" in versus(frame[frame["metric"] != "alive"]).reason


def test_a_single_latent_shows_nothing():
    frame = rows(n=1)
    few = frame[(frame["cluster"] == "f0") | ~frame["cluster"].str.match("f.")]
    c = versus(few)
    reason = "an SAE has a single latent: how scores vary between latents is not known"
    assert c.reason == f"the assay could not have told; {reason}"


def test_superiority_is_the_median_over_pairs_of_saes_and_every_sae_is_in_one():
    frame = rows(trained_seeds=2, seeds=3, seed_sd=0.05)
    mine = frame[frame["metric"] == "detection"]
    x = {key: g["value"].to_numpy() for key, g in mine.groupby(["arm", "seed"])}
    pairs = [rank_compare_2indep(x["trained", i % 2], x["random", i]) for i in range(3)]
    e = versus(frame).estimate
    assert e.superiority == pytest.approx(np.median([p.prob1 for p in pairs]))
    assert e.p_superiority == pytest.approx(np.median([p.tost_prob_superior(0.45, 0.55).pvalue for p in pairs]))


def test_table_of_arms_holds_one_value_per_sae():
    frame = rows(seeds=3)
    (suite,) = analyse(frame, design())
    arms = {arm.arm: arm for arm in suite.arms}
    theirs = by_hand(frame, "random")
    assert (arms["random"].score, arms["random"].seed_sd) == pytest.approx((theirs.mean(), theirs.std(ddof=1)))
    assert arms["random"].secondary == pytest.approx(
        {"detection_saebench": theirs.mean() / 2, "detection_with_dead": 0.55, "missing": 0}
    )
    normalised = (arms["trained"].score - 0.5) / (arms["@planted"].score - 0.5)
    assert arms["trained"].normalised == pytest.approx(normalised)
    assert [arms[f"@{name}"].role for name in ("planted", "none", "shuffled")] == ["ceiling", "floor", "control"]
    assert (suite.floor, arms["@planted"].secondary) == (0.5, {"repeat": 0.875, "yes_rate": pytest.approx(0.45)})


def test_a_stratum_that_an_arm_lacks_is_named():
    frame = rows()
    lacking = frame[~(frame["arm"].eq("random") & frame["cluster"].eq("f1") & frame["metric"].ne("alive"))]
    (suite,) = analyse(lacking, design())
    assert next(a.note for a in suite.arms if a.arm == "random") == "no latents in f1 (30 % of the trained SAE's)"
    assert {a.note for a in suite.arms if a.arm != "random"} == {""}
    mine = frame[(frame["metric"] == "detection") & frame["cluster"].isin(["f0", "f2"])]
    means = mine.groupby(["arm", "seed", "cluster"])["value"].mean().unstack() @ np.array([6 / 7, 1 / 7])
    assert versus(lacking).estimate.difference == pytest.approx(means["trained"].mean() - means["random"].mean())


def test_mix_counts_every_sae_once():
    index = [("f0", "f0"), ("f1", "f1")]
    alive = pd.DataFrame([(i, c, s, v) for (c, i), row in zip(index, [(10, 500, 0), (30, 500, 0)], strict=True)
                          for s, v in enumerate(row)], columns=["item", "cluster", "seed", "value"])  # fmt: skip
    assert mix_of(arm_scores(alive, "x")) == {"f0": 0.375, "f1": 0.625}
    assert mix_of(None) == {}


def test_sequences_are_never_read():
    frame = rows()
    assert frame.loc[frame["metric"] == "sequence", "value"].isna().all(), "which any analysis would refuse"
    with pytest.raises(ValueError, match="not finite"):
        analyse(frame, design(sampled=False))


def test_exploratory_metrics_are_compared_alike():
    frame = rows()
    (suite,) = analyse(frame, design())
    halves = {c.baseline: c for c in suite.exploratory}
    assert set(halves) == {"random", "frozen_encoder@iso", "frozen_decoder@iso"}
    assert halves["random"].estimate.difference == pytest.approx(versus(frame).estimate.difference / 2)


def test_the_recipe_beside_a_given_sae():
    frame = rows(0.75, trained_seeds=3)
    given = frame[frame["arm"].eq("trained") & frame["seed"].eq(0)]
    both = pd.concat([frame.replace({"arm": {"trained": "retrained"}}), given], ignore_index=True)
    (suite,) = analyse(both, replace(design(), recipe="retrained"))
    assert (suite.verdict, suite.recipe.verdict) == (Verdict.BEATS, Verdict.BEATS)
    assert [c.claim for c in (*suite.comparisons[:2], *suite.recipe.comparisons)] == ["artefact"] * 2 + ["recipe"] * 2
    report = conclude(
        [suite], target="x", manifest=Manifest(command="x", config_hash="0", settings={}, versions={}, hashes={})
    )
    assert from_json(to_json(report)) == report


def test_advice_asks_for_latents():
    frame = rows(0.66, n=6, seed_sd=0.0)
    c = versus(frame)
    assert c.verdict is Verdict.INCONCLUSIVE
    (suite,) = analyse(frame, design())
    told = " ".join(advice([suite.model_copy(update={"gate": ()})]))
    assert "latents of each SAE (have 18)" in told
    assert "clusters" not in told


def test_each_arm_says_what_part_of_its_latents_is_compared():
    frame = with_shares(rows(), trained=(0.1, 0.18, 0.036), random=(0.5, 0.0, 0.0))
    (suite,) = analyse(frame, design())
    notes = {arm.arm: arm.note for arm in suite.arms}
    # .1 dead; .18 of .9 alive is 20 %; .036 of the .72 left is 5 %; what remains is .684
    assert notes["trained"] == (
        "about 68 % of the latents: 10 % are dead, of the alive 20 % lack texts to show, "
        "of the rest 5 % fire at rates that not all arms have"
    )
    assert notes["random"].startswith("about 50 % of the latents: 50 % are dead, of the alive 0 % lack")
    assert notes["@planted"] == ""
    uncounted = analyse(frame[frame["metric"] != "outside_share"], design())[0]
    assert {arm.note for arm in uncounted.arms} == {""}
    all_dead = with_shares(rows(), random=(1.0, 0.0, 0.0))
    assert "about 0 % of the latents" in {a.arm: a.note for a in analyse(all_dead, design())[0].arms}["random"]


@pytest.mark.parametrize(
    ("trained", "random", "said"),
    [
        ((0.1, 0.2, 0.02), (0.5, 0.11, 0.0), []),
        ((0.0, 0.5, 0.06), (0.0, 0.45, 0.3), ["of the SAE's latents that could be asked about 12 % fire less or"]),
        ((0.2, 0.04, 0.0), (0.2, 0.2, 0.0), ["of the SAE's alive latents 5 %", "of those of random 25 %"]),
    ],
)
def test_advice_says_what_the_verdict_is_not_about(trained, random, said):
    frame = with_shares(rows(), trained=trained, random=random, frozen_encoder=trained, permuted_decoder=trained)
    (suite,) = analyse(frame, design())
    assert suite.verdict is Verdict.BEATS
    lines = [line for line in advice([suite]) if "latents" in line]
    assert len(lines) == bool(said)
    assert all(part in " ".join(lines) for part in said)
    assert "frozen_encoder" not in " ".join(lines)


def test_collapsed_tables_of_an_unknown_mix_are_plain_means():
    frame = rows()
    plain = of_saes(tables(frame[frame["metric"] != "alive"]), trained="trained")
    mine = frame[(frame["metric"] == "detection") & (frame["arm"] == "random")]
    assert plain["detection", "random"].score == pytest.approx(mine.groupby("seed")["value"].mean().mean())


def test_compare_says_which_arm_is_missing():
    c = compare(
        None, None, metric="m", arm="a", required=True, margin=0.1, rng=np.random.default_rng(0), mix={"f0": 1.0}
    )
    assert (c.verdict, c.sampled) == (Verdict.INVALID, True)


@pytest.mark.parametrize(("trained_seeds", "seeds"), [(1, 4), (3, 3)])
def test_false_beats_of_the_whole_suite_under_the_null(trained_seeds, seeds):
    """Small, because each run goes through the gate too; the sizes that matter are in benchmarks/autointerp_null.py."""
    runs = [
        analyse(rows(0.65, trained_seeds=trained_seeds, seeds=seeds, n=6, rng=rng), design(exploratory=()))[0]
        for rng in range(8)
    ]
    assert np.mean([run.comparisons[0].verdict is Verdict.BEATS for run in runs]) <= 0.25
    assert sum(run.verdict is Verdict.BEATS for run in runs) <= 1
    assert SUITE.sampled
