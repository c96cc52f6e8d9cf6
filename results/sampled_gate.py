"""The assay gate of suites that ask a judge about sampled latents: the four questions, and two about the judge.

The judge is part of the assay. One that cannot tell planted latents apart finds no difference between any SAEs, and
answers that are missing where they are hard to give leave a selection behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

from .gate import MIN_SEEDS, check_range, describe_interval, find
from .outcome import GateCheck
from .sampled import ALIVE, MISSING, means, mix_of, of_saes
from .stats import mean_above, two_sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from .design import SuiteDesign
    from .sampled import Scores
    from .stats import ArmScores, SaeMean, TwoSample

MIN_JUDGE = 0.6
"""Mean accuracy on planted latents below which a judge is near chance (.5), however sure its distance from it. What a
judge blurs it blurs in every arm: at .6 a fifth of any difference between arms is left."""

CHANCE = 0.5
"""Balanced accuracy of a judge that knows nothing."""

BLANK_ALPHA = 0.01
"""Two-sided level at which answers where nothing can be found count as off chance: at .05 one sound assay in twenty
would be called invalid."""

MISSING_AT_MOST = 0.02
"""Share of latents without an answer above which a suite is incomplete (METHOD section 3)."""

PLANTED, SHUFFLED, NOTHING = "planted", "shuffled", "nothing"
"""References: latents with known answers; their explanations beside texts whose labels mean nothing; latents that fire
at random."""

CHANCE_SD = "chance_sd"
"""Metric of the last two: how far such an answer lies from chance where nothing tells the judge the labels."""


def sampled_gate(
    scores: Scores, design: SuiteDesign, *, trained: str, alpha: float = 0.05, recipe: str = ""
) -> tuple[GateCheck, ...]:
    """Put six questions to a suite of sampled items.

    Args:
        scores: Scores of the suite by (metric, arm), latent by latent.
        design: Which arm is floor, chance, ceiling and control.
        trained: Name of the arm under test, of which the controls are made.
        alpha: One-sided level.
        recipe: Arm that stands for the recipe, where the gate is that of its claim; `range` and `off_floor` ask of it.

    Returns:
        `range`, `controls`, `seeds`, `off_floor`, `judge` and `complete`, in this order.
    """
    ours = recipe or trained
    whole = {arm: t for (m, arm), t in of_saes(scores, trained=ours).items() if m == design.metric}
    arms = {arm: t for (m, arm), t in scores.items() if m == design.metric}
    mix = mix_of(scores.get((ALIVE, ours)))
    return (
        check_range(whole, design, trained=ours),
        check_equal(scores, design, trained=trained, mix=mix, alpha=alpha),
        check_seeds(arms, design, mix=mix, alpha=alpha),
        check_off_floor(arms, design, trained=ours, mix=mix, alpha=alpha),
        check_judge(scores, design.metric, alpha=alpha),
        check_complete(scores, design.metric, trained=ours, alpha=alpha),
    )


def check_equal(
    scores: Scores, design: SuiteDesign, *, trained: str, mix: Mapping[str, float], alpha: float
) -> GateCheck:
    """Whether controls that cannot matter leave every row as it is, and broken ones lose."""
    if not (design.must_equal or design.must_lose):
        return GateCheck(name="controls", passed=False, detail="no control was measured")
    answers = [_loses(scores, design.metric, trained, control, mix, alpha) for control in design.must_lose]
    answers += [_equals(scores, trained, control) for control in design.must_equal]
    return GateCheck(
        name="controls", passed=all(passed for passed, _ in answers), detail="; ".join(text for _, text in answers)
    )


def check_seeds(
    arms: Mapping[str, ArmScores], design: SuiteDesign, *, mix: Mapping[str, float], alpha: float
) -> GateCheck:
    """Whether no random seed "beats" the others of its arm, each held against the rest as one more draw (Bonferroni).

    It fails like a verdict of BEATS would read: lo > 0 and hi >= margin.
    """
    # The one with the most seeds: any null will do to see whether reseeding alone looks like a difference.
    name = max(design.required, key=lambda each: len(arms[each].seeds) if each in arms else 0, default="")
    arm = arms.get(name)
    saes = means((arm,), mix) if arm else ()
    if not saes or len(saes[0]) < MIN_SEEDS:
        seeds = f"{name} has {len(arm.seeds)} seed(s)" if arm else f"no scores of {name!r}"
        why = "no stratum is shared by its seeds" if arm and len(arm.seeds) >= MIN_SEEDS else f"it takes {MIN_SEEDS}"
        return GateCheck(name="seeds", passed=False, detail=f"{seeds}; to hold one against the others {why}")
    return _seeds(name, arm.seeds if arm else (), saes[0], design.margin, alpha)


def check_off_floor(
    arms: Mapping[str, ArmScores], design: SuiteDesign, *, trained: str, mix: Mapping[str, float], alpha: float
) -> GateCheck:
    """Whether trained is above the reference that has no information at all, its SAEs taken as they are."""
    ours, chance = arms.get(trained), find(arms, design.chance)
    if ours is None or chance is None:
        missing = f"the arm under test {trained!r}" if ours is None else f"the chance reference {design.chance!r}"
        return GateCheck(name="off_floor", passed=False, detail=f"no scores of {missing}")
    saes = means((ours,), mix)
    if not saes:
        return GateCheck(name="off_floor", passed=False, detail=f"no rows of {ALIVE!r} fit the latents of {trained}")
    result = mean_above(saes[0], chance.score, alpha=alpha)
    detail = f"{trained} against {chance.arm}: {describe_interval(result)}"
    return GateCheck(name="off_floor", passed=result.lo is not None and result.lo > 0, detail=detail)


def check_judge(scores: Scores, metric: str, *, alpha: float) -> GateCheck:
    """Whether the judge finds what is planted, and finds nothing where nothing can be found.

    Its mean accuracy must be MIN_JUDGE at least with a one-sided t bound above chance. Where labels mean nothing,
    shuffled or of latents that fire at random, its mean must not be off chance on either side at BLANK_ALPHA, by a z
    test: there the variance of each answer is known.
    """
    planted = _values(scores, metric, PLANTED)
    if planted is None:
        return GateCheck(name="judge", passed=False, detail=_not_tried(PLANTED))
    blanks = {name: _blank(scores, metric, name) for name in (SHUFFLED, NOTHING)}
    if lacking := [name for name, blank in blanks.items() if blank is None]:
        return GateCheck(name="judge", passed=False, detail=_not_tried(*lacking))
    able = planted.mean() >= MIN_JUDGE and _lower(planted, alpha) > CHANCE
    off = [name for name, blank in blanks.items() if blank and abs(blank.mean - CHANCE) > blank.limit]
    words = [] if able else ["the judge is near chance"]
    words += [f"off chance on {_BLANK[name]}: something tells the judge the answer" for name in off]
    words.append(
        f"accuracy {planted.mean():.3f} on {len(planted)} planted latents (at least {_lower(planted, alpha):.3f})"
    )
    words += [
        f"{blank.mean:.3f} on {blank.n} with {_BLANK[name]} (chance {CHANCE} ± {blank.limit:.3f})"
        for name, blank in blanks.items()
        if blank
    ]
    return GateCheck(name="judge", passed=bool(able and not off), detail="; ".join([*words, _trial(scores)]))


def check_complete(scores: Scores, metric: str, *, trained: str, alpha: float) -> GateCheck:
    """Whether answers are missing in no more than MISSING_AT_MOST of an arm's latents, and alike in all arms.

    Alike: Fisher's exact test, two-sided, of each arm against trained, at alpha / arms (Bonferroni). A latent that has
    no score at all counts as missing. References are left out: few latents are planted, and the trial judges them.
    """
    counts = {arm: _missing(scores, metric, arm) for m, arm in scores if m == metric and not arm.startswith("@")}
    if unknown := [arm for arm, count in counts.items() if count is None]:
        detail = f"incomplete: no rows of {MISSING!r} of {', '.join(unknown)}"
        return GateCheck(name="complete", passed=False, detail=detail)
    known = {arm: count for arm, count in counts.items() if count is not None}
    problems = [f"{arm} {lost} of {n}" for arm, (lost, n) in known.items() if lost > MISSING_AT_MOST * n] + _unlike(
        known, trained, alpha
    )
    if problems:
        return GateCheck(name="complete", passed=False, detail=f"incomplete: no answer for {'; '.join(problems)}")
    lost, n = (sum(count[i] for count in known.values()) for i in (0, 1))
    return GateCheck(name="complete", passed=bool(known), detail=f"{lost} of {n} latents without an answer")


def _seeds(name: str, seeds: tuple[int, ...], saes: tuple[SaeMean, ...], margin: float, alpha: float) -> GateCheck:
    results = {
        seed: two_sample([saes[i]], [*saes[:i], *saes[i + 1 :]], alpha=alpha / len(saes), new_draw=True)
        for i, seed in enumerate(seeds)
    }
    best = max(results, key=lambda seed: results[seed].estimate)
    detail = f"{name}: best seed {best} against the other {len(saes) - 1}: {describe_interval(results[best])}"
    if any(result.lo is None for result in results.values()):
        return GateCheck(name="seeds", passed=False, detail=f"{detail}; an SAE has a single latent")
    beating = [seed for seed, t in results.items() if _beats(t, margin)]
    if beating:
        detail += f"; seeds that beat the others: {', '.join(map(str, beating))}"
    return GateCheck(name="seeds", passed=not beating, detail=detail)


def _beats(result: TwoSample, margin: float) -> bool:
    return result.lo is not None and result.hi is not None and result.lo > 0 and result.hi >= margin


def _loses(
    scores: Scores, metric: str, trained: str, control: str, mix: Mapping[str, float], alpha: float
) -> tuple[bool, str]:
    """Both arms as they are: only latents are a sample."""
    ours, theirs = scores.get((metric, trained)), scores.get((metric, control))
    if ours is None or theirs is None:
        return False, f"no scores of {control if ours else trained}"
    both = means((ours, theirs), mix)
    if not both:
        return False, f"{trained} and {control} have no stratum of firing rate in common"
    result = two_sample(*both, alpha=alpha, fixed=True)
    passed = result.lo is not None and result.lo > 0
    return passed, f"{trained} {'above' if passed else 'not above'} {control}: {describe_interval(result)}"


def _equals(scores: Scores, trained: str, control: str) -> tuple[bool, str]:
    """Exact equality of every row of the same seeds, in every metric: the smallest difference is a bug, not noise."""
    metrics = sorted({metric for metric, arm in scores if arm == control})
    if not metrics:
        return False, f"no scores of {control}"
    worst = 0.0
    for metric in sorted({m for m, arm in scores if arm in (trained, control)}):
        ours, theirs = scores.get((metric, trained)), scores.get((metric, control))
        if ours is None or theirs is None:
            return False, f"no scores of {control if ours else trained} in {metric}"
        for seed in theirs.items.columns:
            other, mine = theirs.items[seed].dropna(), ours.items.get(seed)
            if mine is None or not mine.dropna().index.equals(other.index):
                return False, f"{control} has other latents or seeds than {trained} in {metric}"
            worst = max(worst, float((other - mine.dropna()).abs().max()))
    verb = "equals" if worst == 0 else "differs from"
    return worst == 0, f"{control} {verb} {trained}: largest difference {worst:.3g}"


def _values(scores: Scores, metric: str, reference: str) -> npt.NDArray[np.float64] | None:
    """Every value of a reference; None where it has none."""
    found = scores.get((metric, f"@{reference}"))
    return None if found is None else found.items.stack().to_numpy(dtype=np.float64)


class _Blank(NamedTuple):
    """Answers where nothing can be found."""

    mean: float
    n: int
    limit: float
    """Distance from chance that is not surpassed but in BLANK_ALPHA of sound assays."""


_BLANK = {SHUFFLED: "shuffled labels", NOTHING: "nothing to find"}


def _blank(scores: Scores, metric: str, reference: str) -> _Blank | None:
    values, sd = _values(scores, metric, reference), _values(scores, CHANCE_SD, reference)
    if values is None or sd is None:
        return None
    error = float(np.sqrt((sd**2).sum())) / len(values)
    # Beyond the z bound, no more than rounding: a judge that says the same of all texts has no variance.
    return _Blank(float(values.mean()), len(values), float(stats.norm.isf(BLANK_ALPHA / 2)) * error + 1e-9)


def _not_tried(*names: str) -> str:
    return f"no scores of {', '.join(f'@{name}' for name in names)}: the judge was not on trial"


def _lower(values: npt.NDArray[np.float64], alpha: float) -> float:
    """One-sided t bound of a mean from below; −inf with a single value."""
    if len(values) < 2:
        return -np.inf
    error = float(values.std(ddof=1)) / np.sqrt(len(values))
    return float(values.mean() - stats.t.isf(alpha, len(values) - 1) * error)


def _trial(scores: Scores) -> str:
    """How the judge answered the planted questions, beside whether it was right."""
    measured = (("yes-rate", "yes_rate"), ("self-agreement", "repeat"))
    found = ((what, _values(scores, metric, PLANTED)) for what, metric in measured)
    return ", ".join(f"{what} {'unknown' if x is None else format(x.mean(), '.2f')}" for what, x in found)


def _missing(scores: Scores, metric: str, arm: str) -> tuple[int, int] | None:
    """Latents of an arm without an answer, and all of its latents; None where nobody counted."""
    table = scores.get((MISSING, arm))
    if table is None:
        return None
    asked = table.items.stack()
    scored = scores[metric, arm].items.stack()
    lost = int((asked > 0).sum()) + len(asked.loc[asked <= 0].index.difference(scored.index))
    return lost, len(asked.index.union(scored.index))


def _unlike(counts: Mapping[str, tuple[int, int]], trained: str, alpha: float) -> list[str]:
    """Arms that miss more or fewer answers than trained."""
    if trained not in counts or len(counts) < 2:
        return []
    ours, n = counts[trained]
    pvalues = {
        arm: float(stats.fisher_exact([[lost, m - lost], [ours, n - ours]]).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
        for arm, (lost, m) in counts.items()
        if arm != trained
    }
    return [
        f"{arm} {counts[arm][0]} of {counts[arm][1]}, {trained} {ours} of {n} (Fisher p {p:.2g})"
        for arm, p in pvalues.items()
        if p < alpha / len(pvalues)
    ]
