from __future__ import annotations

import re

import pytest

from sae_sanity.suites.hard_probing.arrows import ARROWS
from sae_sanity.suites.hard_probing.conditions import (
    REGIMES,
    SHIFTS,
    Condition,
    every_condition,
    family_of,
    profile,
    shift_of,
)
from sae_sanity.suites.probe_data import families, profile_datasets, quietly_import, read_table

PROFILES = ("smoke", "demo", "release")


def levels(regime):
    return [condition.level for condition in every_condition() if condition.regime == regime]


def test_levels_are_those_of_sae_probes():
    library = quietly_import("sae_probes.utils_data")
    assert levels("scarcity") == library.get_training_sizes()
    assert levels("imbalance") == pytest.approx(library.get_class_imbalance())
    assert levels("noise") == pytest.approx(library.get_corrupt_frac())


def test_every_shifted_table_of_the_wheel_is_known():
    library = quietly_import("sae_probes.utils_data")
    ours = {shift.table for shifts in SHIFTS.values() for shift in shifts}
    # one file there is a list of the words for "living room", without prompts
    assert {f"{name}_OOD" for name in library.get_OOD_datasets() if "translations" not in name} <= ours
    assert {name.removesuffix("_OOD") for name in ours} <= set(families())


@pytest.mark.parametrize("dataset", sorted(SHIFTS))
def test_a_pair_is_of_two_families_and_a_shifted_table_has_two_classes(dataset):
    for shift in SHIFTS[dataset]:
        if not shift.table.endswith("_OOD"):
            assert family_of(shift.table) != family_of(dataset)
            continue
        assert shift.table == f"{dataset}_OOD"
        rows = read_table(f"../OOD data/{shift.table}")
        assert rows["target"].nunique() == 2
        assert shift.unusable or set(rows["target"]) == set(read_table(dataset)["target"])


def test_why_the_shifted_table_of_qnli_is_left_out():
    assert read_table("90_glue_qnli")["prompt"].str.contains(r"\? \|").mean() > 0.9
    assert not read_table("../OOD data/90_glue_qnli_OOD")["prompt"].str.contains(r"\? \|").any()


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_has_every_regime_its_own_datasets_and_levels_of_sae_probes(name):
    found = profile(name)
    assert found.datasets == profile_datasets(name)
    asked = [c for dataset in found.datasets for c in found.conditions_of(dataset)]
    assert {c.regime for c in asked} == set(REGIMES)
    assert set(found.conditions) <= set(every_condition())
    assert set(found.arrows) <= set(ARROWS)


@pytest.mark.parametrize("name", PROFILES)
def test_no_shift_tests_on_texts_that_saes_may_be_trained_on(name):
    found = profile(name)
    probed = {family_of(dataset) for dataset in found.datasets}
    for dataset in found.datasets:
        for condition in found.conditions_of(dataset):
            if condition.regime == "shift":
                shift = shift_of(dataset, condition)
                assert shift is not None
                assert family_of(shift.table) in probed


def test_release_has_every_shift():
    found = profile("release")
    shifts = sum(c.regime == "shift" for name in found.datasets for c in found.conditions_of(name))
    assert shifts == sum(map(len, SHIFTS.values()))


@pytest.mark.parametrize(("name", "seeds"), [("smoke", (5,)), ("demo", (5,)), ("release", (5, 6, 7))])
def test_seeds_count_up_from_that_of_the_check(name, seeds):
    assert profile(name, 5).seeds == seeds


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="no probing profile 'all'"):
        profile("all")


WRONG = [("standard", 1), ("scarcity", 1), ("scarcity", 2.5), ("imbalance", 0.99), ("noise", 0.6), ("shift", 0)]


@pytest.mark.parametrize(("regime", "level"), WRONG)
def test_a_level_that_its_regime_has_not_is_refused(regime, level):
    with pytest.raises(ValueError, match=re.escape(f"{regime} has no level {level:g}")):
        Condition(regime, level)


def test_a_condition_without_a_shift_names_none():
    assert shift_of("5_hist_fig_ismale", Condition("standard")) is None
