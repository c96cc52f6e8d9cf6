"""The paper's tables judged again: known answers, and the arithmetic against scipy and statsmodels."""

from __future__ import annotations

import csv
from math import hypot, sqrt
from pathlib import Path

import pytest
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from sae_sanity.results.outcome import Verdict
from sae_sanity.results.reanalysis import (
    METRICS,
    Reanalysis,
    as_standard_deviation,
    as_standard_error,
    reanalyse,
)

TABLE = Path(__file__).parents[2] / "results/published/korznikov2026_tables.csv"


@pytest.fixture(scope="module")
def found():
    return reanalyse()


def counts(found, seeds=None):
    return {count.metric: count for count in found.counts if count.seeds == seeds}


def one(found, site, architecture, baseline, metric):
    key = (site, architecture, baseline, metric)
    return next(c for c in found.contrasts if (c.site, c.architecture, c.baseline, c.metric) == key)


def test_known_answers_of_the_first_reading(found):
    """As found by hand before this module was written: METHOD section 6."""
    assert {m: c.baseline_worse for m, c in counts(found).items()} == {
        "ev": 24,
        "probe_top1": 11,
        "probe_top5": 19,
        "ravel": 10,
    }
    assert {m: c.equivalent for m, c in counts(found).items()} == {
        "ev": 0,
        "probe_top1": 0,
        "probe_top5": 0,
        "ravel": 10,
    }
    assert all(c.contrasts == 24 and c.baseline_better == 0 for c in counts(found).values())


def test_every_row_of_the_table_is_judged_on_every_metric(found):
    rows = list(csv.DictReader(TABLE.open()))
    others = [row for row in rows if row["arm"] != "trained"]
    expected = {(r["site"], r["architecture"], f"{r['arm']}@{r['init']}", m) for r in others for m in METRICS}
    assert {(c.site, c.architecture, c.baseline, c.metric) for c in found.contrasts} == expected
    assert len(found.contrasts) == len(expected) == 120
    by_place = {(r["site"], r["architecture"], f"{r['arm']}@{r['init']}"): r for r in rows}
    for c in found.contrasts:
        row = by_place[c.site, c.architecture, c.baseline]
        assert (c.other, c.other_pm) == (float(row[c.metric]), float(row[f"{c.metric}_pm"]))


def test_a_contrast_by_hand(found):
    """RAVEL of the soft-frozen SAE at the first site: the paper's .73 against .72."""
    c = one(found, "gemma-2-2b/L12", "batchtopk", "soft_frozen@iso", "ravel")
    error = hypot(0.049, 0.038)
    assert c.difference == pytest.approx(0.720 - 0.728)
    assert (c.as_error.lo, c.as_error.hi) == pytest.approx((-0.008 - 1.6449 * error, -0.008 + 1.6449 * error), abs=1e-5)
    assert c.as_error.p == pytest.approx(2 * stats.norm.sf(0.008 / error))
    assert c.as_error.verdict is Verdict.INCONCLUSIVE
    assert c.invalid == ""


@pytest.mark.parametrize(
    ("d", "a", "b", "n"), [(0.052, 0.026, 0.010, 3), (-0.02, 0.03, 0.04, 10), (0.3, 0.001, 0.002, 5)]
)
def test_deviations_over_seeds_are_welch_as_scipy_and_statsmodels_have_it(d, a, b, n):
    reading = as_standard_deviation(d, a, b, n)
    oracle = stats.ttest_ind_from_stats(d, a, n, 0.0, b, n, equal_var=False)
    assert reading.p == pytest.approx(oracle.pvalue)
    assert reading.standard_error == pytest.approx(d / oracle.statistic)
    samples = [DescrStatsW(_sample(mean, sd, n)) for mean, sd in ((d, a), (0.0, b))]
    lo, hi = CompareMeans(*samples).tconfint_diff(alpha=0.1, usevar="unequal")
    assert (reading.lo, reading.hi) == pytest.approx((lo, hi))
    p, *_ = CompareMeans(*samples).ttost_ind(-0.05, 0.05, usevar="unequal")
    assert reading.p_tost == pytest.approx(p, abs=1e-12)


def _sample(mean, sd, n):
    """Values with exactly this mean and standard deviation."""
    raw = stats.zscore(stats.norm.ppf([(i + 0.5) / n for i in range(n)]), ddof=1)
    return mean + sd * raw


def test_more_seeds_of_the_same_deviations_are_a_smaller_error():
    errors = [as_standard_deviation(0.02, 0.03, 0.03, n).standard_error for n in (3, 5, 10)]
    assert errors == pytest.approx([sqrt(2 * 0.03**2 / n) for n in (3, 5, 10)])


def test_a_pm_that_is_printed_as_zero_is_as_large_as_rounding_allows():
    assert as_standard_error(0.1, 0.0, 0.0).standard_error == pytest.approx(hypot(0.0005, 0.0005))
    assert as_standard_error(0.001, 0.0, 0.0).p > 0.05


def test_seeds_to_conclude_is_the_first_number_with_a_verdict(found):
    c = one(found, "gemma-2-2b/L12", "jumprelu", "soft_frozen@iso", "probe_top1")
    n = c.seeds_to_conclude
    assert n is not None
    verdicts = [as_standard_deviation(c.difference, c.trained_pm, c.other_pm, k).verdict for k in (n - 1, n)]
    assert verdicts[0] is Verdict.INCONCLUSIVE
    assert verdicts[1] is not Verdict.INCONCLUSIVE
    assert c.over_seeds is None


def test_ravel_is_invalid_at_two_of_three_sites_and_nothing_else_is(found):
    invalid = {(c.site, c.metric) for c in found.contrasts if c.invalid}
    assert invalid == {("gemma-2-2b/L19", "ravel"), ("llama-3-8b/L16", "ravel")}
    c = one(found, "llama-3-8b/L16", "batchtopk", "soft_frozen@iso", "ravel")
    assert c.shown(c.as_error) is c.over_seeds is Verdict.INVALID


def test_the_collapsed_run_is_marked_and_still_counted(found):
    marked = {(c.site, c.architecture, c.baseline) for c in found.contrasts if c.note}
    assert marked == {("llama-3-8b/L16", "jumprelu", "frozen_decoder@cov")}
    assert all(c.counted for c in found.contrasts if c.note)


def test_verdicts_of_a_count_are_those_of_its_contrasts(found):
    for count in found.counts:
        assert sum(count.verdicts.values()) == count.contrasts == 24
    assert counts(found)["ravel"].verdicts[Verdict.INVALID] == 16


def test_it_survives_json(found):
    assert Reanalysis.model_validate_json(found.model_dump_json()) == found
