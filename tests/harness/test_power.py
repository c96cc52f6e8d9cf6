from __future__ import annotations

import json

import pytest
from scipy import optimize, stats
from tiny_site import TINY

from sae_sanity.harness.check import find_tasks, results_folder
from sae_sanity.harness.cli import main
from sae_sanity.harness.config import resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.plan import make_plan
from sae_sanity.harness.power import known_variances, power_of, variances_in
from sae_sanity.harness.show_plan import Wish, powers
from sae_sanity.results.design import SuiteDesign
from sae_sanity.results.stats import mde
from sae_sanity.results.variance import parts_for, published_variances


def settings(**changes):
    return resolve(TINY | changes, environ={})


def seen(given, wish=Wish()):  # noqa: B008  # frozen
    (task,), _ = find_tasks(given)
    return powers(task, given, wish)


def test_a_plan_of_the_size_of_a_finished_run_sees_what_its_report_says(finished):
    report, folder = finished
    (suite,) = report.suites
    found = seen(settings(), Wish(components_from=folder))["reconstruction"]
    hardest = max((c for c in suite.comparisons if c.required), key=lambda c: c.estimate.mde)
    assert found.detectable == pytest.approx(hardest.estimate.mde, rel=1e-12)
    assert (found.against, found.source, found.reason) == (hardest.baseline, str(folder), "")
    needed = [c.estimate.clusters_needed for c in suite.comparisons if c.required]
    assert found.clusters_needed == (None if None in needed else max(needed))


def test_a_larger_plan_sees_less_and_a_wish_is_answered(finished):
    _, folder = finished
    wish = Wish(components_from=folder)
    base = seen(settings(), wish)["reconstruction"]
    assert seen(settings(held_out_documents=400), wish)["reconstruction"].detectable < base.detectable
    assert seen(settings(seeds=9, random_seeds=19), wish)["reconstruction"].detectable < base.detectable
    small, large = (
        seen(settings(), Wish(base.detectable * by, folder))["reconstruction"].clusters_needed for by in (0.9, 1.1)
    )
    assert small is None or small > 100 >= large


def test_the_nearest_components_are_taken(finished, tmp_path):
    _, folder = finished
    given = settings()
    assert known_variances(tmp_path / "nothing")["reconstruction"].source.startswith("our own `sae-sanity check demo")
    own = results_folder(given)
    own.parent.mkdir()
    folder.rename(own)
    assert seen(given)["reconstruction"].source == str(own)
    other = tmp_path / "other"
    own.rename(other)
    assert seen(given, Wish(components_from=other))["reconstruction"].source == str(other)
    assert "sparse_probing" in known_variances(own, other)  # what the nearer run lacks is taken from further off


def test_an_arm_that_nobody_measured_is_taken_to_vary_like_its_kind():
    (task,), _ = find_tasks(settings(baselines=["frozen_decoder@cov"], seeds=3))
    suite = SuiteDesign("reconstruction", "explained_variance", 0.02, "", required=("frozen_decoder@cov",))
    variance = published_variances().suites["reconstruction"]
    found = power_of(task.plan, suite, clusters=160, variance=variance, alpha=0.05)
    parts = parts_for(variance.arms["frozen_decoder@iso"], claim="recipe")
    assert found.detectable == pytest.approx(mde(parts.variance() ** 0.5, parts.df()))
    assert found.against == "frozen_decoder@cov, as if it varied like frozen_decoder@iso"


def by_hand(variance, df, alpha=0.05, power=0.8):
    """Smallest shift that a one-sided t test finds, by scipy's noncentral t."""
    critical = stats.t.isf(alpha, df)
    shift = optimize.brentq(lambda d: stats.nct.sf(critical, df, d) - power, 0, 50)
    return shift * variance**0.5


@pytest.mark.parametrize(("seeds", "df"), [(2, 1), (3, 6), (4, None)])
def test_a_given_sae_is_planned_by_the_degrees_of_freedom_that_its_verdict_is_held_to(seeds, df):
    """With two or three baseline seeds `compare` asks for the same verdict at so few degrees of freedom."""
    asked = settings(baselines=["frozen_decoder@iso"], seeds=seeds)
    plan = make_plan(asked, given="foreign")
    suite = SuiteDesign("reconstruction", "explained_variance", 0.02, "", required=("frozen_decoder@iso",))
    variance = published_variances().suites["reconstruction"]
    parts = parts_for(variance.arms["frozen_decoder@iso"], claim="artefact", trained_seeds=1, baseline_seeds=seeds)
    found = power_of(plan, suite, clusters=variance.clusters, variance=variance, alpha=0.05, effect=9.0)
    assert found.detectable == pytest.approx(by_hand(parts.variance(), df or parts.df()), rel=1e-6)
    assert found.seeds_needed == 4  # fewer would find so large an effect, were they enough for a verdict
    recipe = power_of(make_plan(asked), suite, clusters=variance.clusters, variance=variance, alpha=0.05, effect=9.0)
    assert (recipe.seeds_needed == 2) == (seeds >= 3)  # as many of its own


@pytest.mark.parametrize(
    ("changes", "suite", "clusters", "reason"),
    [
        ({"seeds": 1}, {}, 100, "seeds is 1"),
        ({}, {}, 1, "a single cluster"),
        ({"masks": 1}, {"trials": True}, 100, "2 masks of the SAEs under test: fewer than 3"),
    ],
)
def test_a_size_that_ends_in_no_verdict_is_said(changes, suite, clusters, reason):
    (task,), _ = find_tasks(settings(**changes))
    design = SuiteDesign("s", "m", 0.02, "", required=("random",), **suite)
    variance = published_variances().suites["causal_editing"]
    found = power_of(task.plan, design, clusters=clusters, variance=variance, alpha=0.05)
    assert found.detectable is None
    assert reason in found.reason


def test_a_suite_of_which_nothing_is_known_says_so():
    (task,), _ = find_tasks(settings())
    design = SuiteDesign("mine", "m", 0.02, "", required=("random",))
    assert "--components-from" in power_of(task.plan, design, clusters=9, variance=None, alpha=0.05).reason


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    with pytest.raises(UsageError, match="holds no finished run"):
        variances_in(tmp_path)
    assert main(["plan", "demo", "--components-from", "nowhere"]) == 2
    assert main(["plan", "demo", "--effect", "0"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(": ")[2] for line in err.splitlines()][
        1
    ] == "--effect is 0; it must be above 0, in score units"


def test_table_and_json_say_the_same(capsys):
    assert main(["plan", "demo", "--effect", "0.05"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert main(["plan", "demo", "--effect", "0.05", "--json"]) == 0
    power = json.loads(capsys.readouterr().out)["power"]
    for suite in power.values():
        assert f"sees a difference of about {suite['detectable']:.3g} (80 % power, against {suite['against']})" in text
        assert f"to see 0.05: {suite['clusters_needed']} clusters (seeds as planned)" in text
        assert suite["source"] == "our own `sae-sanity check demo --profile demo`"
        assert suite["source"] in text


def test_every_published_suite_has_a_figure():
    given = resolve({"suites": ["reconstruction", "sparse_probing", "causal_editing", "synthetic"]}, environ={})
    found = seen(given)
    assert all(one.detectable and one.detectable > 0 for one in found.values())
    assert found["synthetic"].seeds_needed is None


def test_latents_are_what_autointerp_needs_more_of(capsys):
    words = ["plan", "demo", "--suites", "autointerp", "--judge", "token_statistics"]
    assert main([*words, "--set", "early_stop=true"]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "latents of each SAE" in out
    assert "early_stop may ask about fewer" in out
