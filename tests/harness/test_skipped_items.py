from __future__ import annotations

from sae_sanity.harness.skipped_items import skipped_items
from sae_sanity.results.outcome import Skip


def cell(arm, *skips, seed=0, suite="hard_probing"):
    rows = {"skipped": [{"what": what, "reason": reason} for what, reason in skips]} if skips else {}
    return {"suite": suite, "arm": arm, "seed": seed} | rows


POSED = ("a imbalance 0.05 seed 0", "one class left")


def test_nothing_is_skipped_where_no_cell_says_so():
    assert skipped_items([]) == []
    assert skipped_items([cell("trained"), cell("random", suite="sparse_probing")]) == []


def test_an_item_that_no_cell_has_is_one_line():
    assert skipped_items([cell("trained", POSED), cell("@dense_quiver", POSED), cell("random", POSED, seed=3)]) == [
        Skip(what="hard_probing: a imbalance 0.05 seed 0", reason="one class left")
    ]


def test_many_items_that_no_cell_has_are_one_line_for_each_reason():
    rows = [(f"{name} scarcity 1024 seed 0", f"{n} prompts are too few") for name, n in (("a", 800), ("b", 700))]
    assert skipped_items([cell("trained", *rows), cell("random", *rows)]) == [
        Skip(what="hard_probing: a scarcity 1024 seed 0 and 1 more", reason="800 prompts are too few")
    ]


def test_items_of_one_cell_are_counted_by_reason_whatever_its_numbers():
    few = [(f"sae_k128 at {name}", f"k = 128 is above the {live} latents") for name, live in (("a", 90), ("b", 7))]
    found = skipped_items([cell("trained", POSED), cell("random", POSED, *few, ("sae_k16 at a", "NaN"), seed=2)])
    assert found[1:] == [
        Skip(what="hard_probing: random seed 2: sae_k128 at a and 1 more", reason="k = 128 is above the 90 latents"),
        Skip(what="hard_probing: random seed 2: sae_k16 at a", reason="NaN"),
    ]


def test_suites_and_references_are_apart():
    found = skipped_items([cell("@clean_probe", POSED), cell("trained"), cell("trained", POSED, suite="other")])
    assert [skip.what for skip in found] == [
        "hard_probing: @clean_probe: a imbalance 0.05 seed 0",
        "other: a imbalance 0.05 seed 0",
    ]
