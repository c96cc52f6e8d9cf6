from __future__ import annotations

import pytest

from sae_sanity.results.decision import LockStatus
from sae_sanity.results.outcome import Skip
from sae_sanity.results.policy import UNMET, Policy, decide

AS_REGISTERED = LockStatus(sha256="a")
LATE = LockStatus(sha256="a", before=False)
DEPARTED = LockStatus(sha256="a", departures=("seeds: registered 5, run with 3",))
NONE, AFTERWARDS = "no plan was registered before the run", "; it was held against one only afterwards"
SEEDS = "departed from the registered plan: seeds: registered 5, run with 3"


@pytest.mark.parametrize(
    ("lock", "insists", "relaxed"),
    [
        (None, ("fail", (NONE,)), ("pass", ())),
        (AS_REGISTERED, ("pass", ()), ("pass", ())),
        (DEPARTED, ("fail", (SEEDS,)), ("warn", (SEEDS,))),
        (LATE, ("fail", (NONE + AFTERWARDS,)), ("pass", ())),
        (
            DEPARTED.model_copy(update={"before": False}),
            ("fail", (NONE + AFTERWARDS, SEEDS)),
            ("warn", (SEEDS,)),
        ),
    ],
)
def test_what_follows_from_a_plan(lock, insists, relaxed):
    for policy, expected in ((Policy(require_lock=True), insists), (Policy(), relaxed)):
        found = decide(policy, "PASS", lock=lock)
        assert (found.action, found.reasons) == expected


def test_a_status_of_an_older_run_is_of_a_plan_that_it_knew():
    assert LockStatus.model_validate({"sha256": "a"}).before


def test_a_required_baseline_that_nothing_was_judged_against_is_a_warning():
    skipped = (Skip(what="soft_frozen@0.8", reason=UNMET), Skip(what="random", reason="not asked for"))
    found = decide(Policy(baselines=("soft_frozen",)), "PASS", skipped=skipped)
    assert found.action == "warn"
    assert found.reasons == (f"soft_frozen@0.8: {UNMET}",)
    assert decide(Policy(), "FAIL", skipped=skipped).action == "fail"
    assert decide(Policy(), "PASS", skipped=skipped[1:]).action == "pass"
