from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from sae_sanity.suites import suite as module
from sae_sanity.suites.suite import BUILT_IN, GROUP, Suite, SuiteContext, suite_classes, suite_points

OURS = ["reconstruction", "sparse_probing", "hard_probing", "causal_editing", "autointerp"]


def _entry_points(*points):
    return lambda *, group: [p for p in points if p.group == group]


def test_built_in_suites_come_first_and_in_order(monkeypatch):
    other = EntryPoint("other", "json:JSONDecoder", GROUP)
    monkeypatch.setattr(module, "entry_points", _entry_points(other))
    assert list(suite_points()) == [*OURS, "other"]


def test_an_entry_point_adds_a_suite(monkeypatch):
    import json

    other = EntryPoint("other", "json:JSONDecoder", GROUP)
    monkeypatch.setattr(module, "entry_points", _entry_points(other))
    monkeypatch.setattr(module, "BUILT_IN", ())
    assert suite_classes() == {"other": json.JSONDecoder}


def test_the_same_entry_point_twice_is_one_suite(monkeypatch):
    monkeypatch.setattr(module, "entry_points", _entry_points(BUILT_IN[1]))
    assert list(suite_points()) == OURS


def test_two_suites_of_one_name_are_refused(monkeypatch):
    clash = EntryPoint("sparse_probing", "elsewhere:Probing", GROUP)
    monkeypatch.setattr(module, "entry_points", _entry_points(clash))
    with pytest.raises(ValueError, match=r"'sparse_probing' is given by both .* and 'elsewhere:Probing'"):
        suite_points()


def test_sparse_probing_is_a_suite():
    from sae_sanity.suites.sparse_probing import SparseProbing

    assert {p.name: p for p in BUILT_IN}["sparse_probing"].load() is SparseProbing
    assert isinstance(SparseProbing(["87_glue_cola"]), Suite)


def test_something_else_is_not_a_suite():
    assert not isinstance(object(), Suite)


def test_naming_the_suites_loads_no_torch():
    code = (
        "import sys, sae_sanity.suites.suite as s; s.suite_points(); "
        "assert not {'torch', 'sae_lens', 'sae_probes'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_context_says_nothing_about_arms():
    assert set(SuiteContext.__dataclass_fields__) == {
        *("site", "held_out", "interpretation", "norm_cap", "options", "judge"),
    }
