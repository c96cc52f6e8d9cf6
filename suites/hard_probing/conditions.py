"""Under which conditions a dataset is probed, and how many of them a profile runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..probe_data import file_families, membership, profile_datasets, quietly_import

Regime = Literal["standard", "scarcity", "imbalance", "noise", "shift"]
REGIMES: tuple[Regime, ...] = ("standard", "scarcity", "imbalance", "noise", "shift")


@dataclass(frozen=True)
class Condition:
    """One way to make probing hard, and how hard."""

    regime: Regime
    """What is changed."""
    level: float | int = 0
    """Scarcity: training points. Imbalance: positive share. Noise: share of flipped training labels. Shift: number
    of the `Shift` of its dataset, from 1. Standard: 0."""

    def __post_init__(self) -> None:
        """Refuse a level that its regime has not.

        Raises:
            ValueError: in one line.
        """
        low, high = _LEVELS[self.regime]
        if not low <= self.level <= high or (self.regime in ("scarcity", "shift") and self.level % 1):
            msg = f"{self.regime} has no level {self.level:g}: it goes from {low:g} to {high:g}"
            raise ValueError(msg)


_LEVELS: dict[str, tuple[float, float]] = {
    "standard": (0, 0),
    "scarcity": (2, 1024),
    "imbalance": (0.05, 0.95),
    "noise": (0, 0.5),
    "shift": (1, 99),
}


@dataclass(frozen=True)
class Shift:
    """A test set of the same concept from another distribution."""

    table: str
    """Where the test prompts are: `NAME_OOD` in the wheel, or another dataset."""
    concept: str
    """What stays the same, and what shifts."""
    flipped: bool = False
    """Whether class 1 of one is class 0 of the other."""
    unusable: str = ""
    """Why it cannot be used; empty where it can."""


_TRANSLATED = "the same two words, in other languages"
SHIFTS: Mapping[str, tuple[Shift, ...]] = {
    "5_hist_fig_ismale": (
        Shift("5_hist_fig_ismale_OOD", "male; people of history, then figures of cartoons"),
        Shift("56_wikidatasex_or_gender", "male; a bare name, then a name in its passage"),
    ),
    "6_hist_fig_isamerican": (Shift("6_hist_fig_isamerican_OOD", "American; names, then names with a letter before"),),
    "7_hist_fig_ispolitician": (
        Shift("7_hist_fig_ispolitician_OOD", "politician; names, then names with the surname first"),
        Shift("62_wikidata_occupation_ispolitician", "politician; a bare name, then a name in its passage"),
    ),
    "36_sciq_tf": (Shift("41_truthqa_tf", "a right answer; science, then common misconceptions", flipped=True),),
    "41_truthqa_tf": (Shift("36_sciq_tf", "a right answer; common misconceptions, then science", flipped=True),),
    "50_deon_isvalid": (Shift("51_just_is", "a reason that holds; for an excuse, then for a claim of justice"),),
    "51_just_is": (Shift("50_deon_isvalid", "a reason that holds; for a claim of justice, then for an excuse"),),
    "66_living-room": (Shift("66_living-room_OOD", _TRANSLATED),),
    "67_social-security": (Shift("67_social-security_OOD", _TRANSLATED),),
    "73_control-group": (Shift("73_control-group_OOD", _TRANSLATED),),
    "87_glue_cola": (Shift("87_glue_cola_OOD", "acceptable English; linguists' examples, then learners' dialogues"),),
    "89_glue_mrpc": (Shift("91_glue_qqp", "paraphrase; of news, then of questions"),),
    "90_glue_qnli": (
        Shift(
            "90_glue_qnli_OOD",
            "the passage answers the question; Wikipedia, then news",
            unusable="the prompts of 90_glue_qnli_OOD lack the question that its labels are about",
        ),
    ),
    "91_glue_qqp": (Shift("89_glue_mrpc", "paraphrase; of questions, then of news"),),
    "92_glue_sst2": (
        Shift("157_amazon_5star", "good feeling; about films, then about goods"),
        Shift("149_twt_emotion_happiness", "good feeling; film reviews, then tweets"),
    ),
    "94_ai_gen": (Shift("110_aimade_humangpt3", "written by a model; school essays, then mixed texts"),),
    "95_toxic_is": (Shift("107_hate_offensive", "offensive; requests to a chatbot, then tweets"),),
    "107_hate_offensive": (Shift("95_toxic_is", "offensive; tweets, then requests to a chatbot"),),
    "110_aimade_humangpt3": (Shift("94_ai_gen", "written by a model; mixed texts, then school essays"),),
    "157_amazon_5star": (Shift("92_glue_sst2", "good feeling; about goods, then about films"),),
}
"""Shifted test sets by dataset; level n of the regime is the n-th.

All tables that the wheel has in "OOD data" are here. Pairs are those whose class 1 means the same in the words of
both sources (or, where `flipped`, the opposite), read off their prompts; two datasets of one family are no shift."""


@dataclass(frozen=True)
class Profile:
    """How much is probed."""

    datasets: tuple[str, ...]
    """Names as in `sae_probes.DATASETS`."""
    conditions: tuple[Condition, ...]
    """Conditions of every dataset but shifts."""
    seeds: tuple[int, ...]
    """Seeds of split, label noise and probes."""
    arrows: tuple[str, ...]
    """Which of `ARROWS` are shot."""

    def conditions_of(self, dataset: str) -> tuple[Condition, ...]:
        """Conditions of one dataset, its shifts included.

        A shift to a family that the profile does not probe is left out: SAEs may be trained on its texts.
        """
        probed = {membership(name).family for name in self.datasets}
        shifts = enumerate(SHIFTS.get(dataset, ()), start=1)
        kept = [n for n, shift in shifts if family_of(shift.table) in probed]
        return (*self.conditions, *(Condition("shift", n) for n in kept))


def family_of(table: str) -> str:
    """Family of a dataset, or of the dataset whose shifted table this is."""
    return file_families()[table.removesuffix("_OOD")]


def shift_of(dataset: str, condition: Condition) -> Shift | None:
    """The shifted test set that a condition names; None where the dataset has no such one."""
    shifts = SHIFTS.get(dataset, ())
    number = int(condition.level)
    return shifts[number - 1] if condition.regime == "shift" and number <= len(shifts) else None


def _conditions(**levels: Sequence[float | int]) -> tuple[Condition, ...]:
    return tuple(Condition(regime, level) for regime in REGIMES for level in levels.get(regime, ()))


def every_condition() -> tuple[Condition, ...]:
    """Every level that sae-probes runs, of every regime but shift."""
    library: Any = quietly_import("sae_probes.utils_data")
    return _conditions(
        standard=(0,),
        scarcity=library.get_training_sizes(),
        imbalance=[round(share, 2) for share in library.get_class_imbalance()],  # as its run_baseline_... round
        noise=[round(share, 2) for share in library.get_corrupt_frac()],
    )


_ALL = ("logreg", "pca", "knn", "xgboost", "mlp")
_QUICK = ("logreg", "pca", "knn", "mlp")


def profile(name: str, seed: int = 0) -> Profile:
    """The profile `smoke`, `demo` or `release`: one split of each dataset and condition, three in `release`.

    Levels are among those of sae-probes (`every_condition`). Only `release` has XGBoost: its random search takes 11
    seconds at 250 training rows and 28 at 1,024, some ten times what all other arrows take together.

    Args:
        name: Which.
        seed: Of the first split, its flips and its probes; the others count up from it.

    Raises:
        ValueError: There is no such profile.
    """
    datasets = profile_datasets(name)
    if name == "release":
        sizes, shares, flips = (4, 14, 53, 198, 1024), (0.05, 0.2, 0.8, 0.95), (0.1, 0.3, 0.5)
    elif name == "demo":
        sizes, shares, flips = (14, 143), (0.1,), (0.3,)
    else:
        sizes, shares, flips = (14,), (0.2,), (0.3,)
    levels = _conditions(standard=(0,), scarcity=sizes, imbalance=shares, noise=flips)
    seeds = tuple(range(seed, seed + (3 if name == "release" else 1)))
    return Profile(datasets, levels, seeds, arrows=_ALL if name == "release" else _QUICK)
