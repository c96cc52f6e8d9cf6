from __future__ import annotations

import re

import pytest
from tiny_site import TINY

from sae_sanity.harness.check import find_tasks, results_folder
from sae_sanity.harness.config import resolve
from sae_sanity.harness.design import left_out_nulls, make_design, spared_arms
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.plan import make_plan
from sae_sanity.harness.record import config_hash, identity
from sae_sanity.harness.run import measured_by
from sae_sanity.harness.synthetic.design import synthetic_design
from sae_sanity.suites.suite import suite_classes

DEMO_HASH = "3da769ba789d5b74539b61f949a749808a0d8d8dc9d792c5aabe08f19755a9f7"
"""Of `check demo` with no policy, at rule version 3: results folders are found by it."""


def settings(**changes):
    policy = changes.pop("policy", {})
    return resolve(changes | {f"policy.{name}": value for name, value in policy.items()}, environ={})


def designed(given, *names):
    design = make_design(make_plan(given), [suite_classes()[name] for name in names])
    return {suite.suite: suite for suite in design.suites}


def test_a_policy_that_asks_for_nothing_changes_no_hash():
    assert config_hash(settings()) == DEMO_HASH
    responses = {"on_inconclusive": "warn", "on_invalid": "warn", "on_regression": "warn", "lock": "x.json"}
    told = settings(policy=responses | {"require_lock": True, "margins": {"reconstruction": 0.02}})
    assert config_hash(told) == DEMO_HASH
    assert results_folder(told) == results_folder(settings())


@pytest.mark.parametrize(
    "policy",
    [
        {"margins": {"reconstruction": 0.03}},
        {"suites": ["reconstruction"]},
        {"baselines": ["soft_frozen"]},
        {"seeds": 2},
        {"random_seeds": 4},
    ],
)
def test_what_a_policy_asks_makes_another_check(policy):
    asked = settings(policy=policy)
    assert config_hash(asked) != DEMO_HASH
    assert "policy" not in identity(asked)


def test_margins_votes_and_further_arms():
    asked = settings(
        policy={"margins": {"sparse_probing": 0.05}, "suites": ["reconstruction"], "baselines": ["soft_frozen"]}
    )
    found = designed(asked, "reconstruction", "sparse_probing")
    assert (found["reconstruction"].margin, found["sparse_probing"].margin) == (0.02, 0.05)
    assert (found["reconstruction"].votes, found["sparse_probing"].votes) == (True, False)
    assert found["reconstruction"].required == ("frozen_decoder@iso", "soft_frozen@0.8", "random")
    assert found["reconstruction"].shown == ("frozen_encoder@iso",)
    assert "soft_frozen@0.8" in found["sparse_probing"].required
    assert make_design(make_plan(asked), []).policy == asked.policy


def test_worlds_likewise():
    asked = settings(policy={"baselines": ["frozen_encoder"], "margins": {"synthetic": 0.1}, "suites": ["x"]})
    (suite,) = synthetic_design(make_plan(asked), policy=asked.policy).suites
    assert suite.required == ("frozen_decoder@iso", "frozen_encoder@iso", "random")
    assert (suite.margin, suite.votes) == (0.1, False)
    (alone,) = synthetic_design(make_plan(asked)).suites
    assert (alone.required, alone.margin, alone.votes) == (("frozen_decoder@iso", "random"), 0.05, True)


def test_every_rung_of_the_ladder_is_meant_by_its_name():
    asked = settings(tau=["0.8", "0.95"], policy={"baselines": ["soft_frozen"]})
    assert {"soft_frozen@0.8", "soft_frozen@0.95"} <= set(designed(asked, "reconstruction")["reconstruction"].required)


def test_an_arm_that_does_not_exist_here_is_not_required_and_said():
    asked = settings(architecture="matching_pursuit", policy={"baselines": ["frozen_encoder"]})
    plan = make_plan(asked)
    design = make_design(plan, [suite_classes()["reconstruction"]])
    assert "frozen_encoder@iso" not in design.suites[0].required
    (skip,) = (skip for skip in left_out_nulls(plan, design) if skip.what == "frozen_encoder@iso")
    assert "policy.baselines requires it" in skip.reason


SOFT, FROZEN = "soft_frozen@0.8", "frozen_decoder@iso"


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"probe_conditions": "demo"}, ()),
        ({"probe_conditions": "smoke"}, ()),
        ({"probe_conditions": "release"}, (FROZEN, SOFT)),
        ({"probe_conditions": "demo", "policy": {"baselines": ["soft_frozen"]}}, ()),
    ],
)
def test_a_quick_suite_that_only_encodes_is_spared_arms_with_a_trained_encoder(asked, shown):
    plan = make_plan(settings(suites=["hard_probing", "sparse_probing"], **asked))
    hard, other = (suite_classes()[name] for name in ("hard_probing", "sparse_probing"))
    (design,) = make_design(plan, [hard]).suites
    assert design.shown == shown
    required = {"frozen_encoder@iso", "random", *([SOFT] if "policy" in asked else [])}
    assert set(design.required) == required
    measured = {sae.arm for sae in measured_by(hard, plan)}
    assert measured >= {"trained", *required, *shown}
    assert not measured & ({SOFT, FROZEN} - {*required, *shown})
    assert {sae.arm for sae in measured_by(other, plan)} >= {SOFT, FROZEN}  # of no other suite
    left = {SOFT, FROZEN} - {*required, *shown}
    skips = spared_arms(plan, [hard, other])
    assert [skip.what for skip in skips] == ([f"hard_probing: {', '.join(sorted(left))}"] if left else [])


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"suites": ["sparse_probing"]}, "policy.suites requires 'sparse_probing', which is not among the suites"),
        (
            {"suites": ["reconstructoin"]},
            "policy.suites: no such suite: 'reconstructoin'; did you mean 'reconstruction'",
        ),
        ({"margins": {"probing": 0.1}}, "policy.margins: no such suite: 'probing'; did you mean 'hard_probing'"),
        ({"baselines": ["frozen_decoder@cov"]}, "policy.baselines requires 'frozen_decoder@cov', which is not among"),
        ({"baselines": ["randm"]}, "policy.baselines: no such baseline: 'randm'"),
        ({"baselines": ["trained"]}, "policy.baselines requires 'trained', which is not among the arms"),
        ({"seeds": 5}, "seeds is 2, but policy.seeds asks for at least 5"),
        ({"random_seeds": 19}, "random_seeds is 3, but policy.random_seeds asks for at least 19"),
    ],
)
def test_a_policy_that_cannot_be_met_is_one_line_before_anything_runs(policy, message, tmp_path):
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        find_tasks(settings(**TINY, policy=policy))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_margin_for_a_suite_that_is_not_run_is_no_mistake():
    tasks, _ = find_tasks(settings(**TINY, policy={"margins": {"sparse_probing": 0.1, "synthetic": 0.1}}))
    assert len(tasks) == 1


def test_a_run_is_judged_by_its_policy_and_another_answer_finds_the_same_folder(run):
    strict = settings(**TINY, policy={"margins": {"reconstruction": 0.5}})
    report, folder = run(strict)
    assert {c.margin for c in report.suites[0].comparisons} == {0.5}
    assert report.verdict != "PASS"
    assert report.decision.action == "fail"
    cells = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*")}
    lenient = settings(
        **TINY, policy={"margins": {"reconstruction": 0.5}, "on_inconclusive": "warn", "on_invalid": "warn"}
    )
    again, _ = run(lenient)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("cells/*")} == cells
    assert again.exit_code == report.exit_code
    assert again.decision.action == ("warn" if report.exit_code in (3, 4) else "fail")
    assert "--set policy.margins.reconstruction=0.5" in again.manifest.command
    assert again.manifest.settings["policy.on_invalid"] == "warn"
