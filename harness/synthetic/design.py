"""How the rows of synthetic worlds are judged: worlds are the replicates, starts are nested in them."""

from __future__ import annotations

from collections.abc import Sequence

from ...results.design import ArmFacts, Design, SuiteDesign
from ...results.policy import Policy
from ...results.synthetic import SUITE
from ..design import required_arms
from ..plan import Plan

METRIC = "matched_cosine"
MARGIN = 0.05
"""METHOD section 5.4: where equivalence of cosines starts."""

UNIT = "item: a true feature of a world; cluster: a world, the replicate; starts are nested in worlds"

EXPLORATORY = ("best_cosine", "recovered_0.8", "firing_f1", "explained_variance")

NOTE = (
    "A released SAE has no synthetic data: what is judged is the recipe, trained anew in every world. Cosines read the "
    "decoder alone, firing scores the encoder; explained variance has little range in such worlds and is shown between "
    "a random and the true dictionary in the same encoder."
)


def synthetic_design(plan: Plan, facts: Sequence[ArmFacts] = (), policy: Policy | None = None) -> Design:
    """Fix what is compared with what; made from the plan alone, before any score exists.

    Args:
        plan: Arms that are made in every world.
        facts: L0 and dead share of them.
        policy: What the project asks of a check that has this suite; the suite run by itself has none.
    """
    policy = policy or Policy()
    baselines = plan.baselines
    required = required_arms(plan, claim="decoder", policy=policy)
    suite = SuiteDesign(
        suite=SUITE,
        metric=METRIC,
        margin=policy.margin(SUITE, MARGIN),
        unit=UNIT,
        required=required,
        shown=tuple(b.arm for b in baselines if b.arm not in required),
        controls=plan.controls,
        # The same rows in another order match the truth as well as before, but what they reconstruct is lost.
        must_lose=tuple(c for c in ("permuted_decoder",) if c in plan.controls),
        must_equal=tuple(c for c in ("permuted_decoder",) if c in plan.controls),
        control_metric="explained_variance",
        floor="random",
        chance="@mean_direction",
        ceiling="@oracle",
        note=NOTE,
        exploratory=EXPLORATORY,
        nested=True,
        votes=policy.requires(SUITE),
    )
    return Design((suite,), facts=tuple(facts), policy=policy)
