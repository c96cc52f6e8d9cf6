"""Causal editing on the real small model: the page's example as it is printed, and the floor and ceiling of cause."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "causal-editing.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_of_the_page_prints_what_it_says(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (printed,) = re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(code, "docs/causal-editing.md", "exec"), {})  # noqa: S102  (our own page)
    assert capsys.readouterr().out == printed


@pytest.mark.slow
def test_floor_and_ceiling_of_cause_on_real_facts():
    from sae_sanity.harness.baseline_store import cache_folder
    from sae_sanity.suites.causal_editing.facts import city_facts
    from sae_sanity.suites.causal_editing.suite import CausalEditing, Lesson
    from sae_sanity.suites.smollm2 import demo_site

    site = demo_site(cache_folder())
    suite = CausalEditing(site, city_facts(64), n_entities=64, lesson=Lesson(n_train=16, n_sources=1))
    means = {}
    for name in ("identity", "patch"):
        rows = suite.measure_reference(name, site, np.random.default_rng(0))
        means[name] = {m: np.mean([r.value for r in rows if r.metric == m]) for m in ("cause", "isolation")}
    assert len({row.cluster for row in rows}) >= 16
    assert means["identity"]["cause"] < 0.05
    assert means["identity"]["isolation"] > 0.95
    assert means["patch"]["cause"] > 0.6  # STACK: 85 of 100 pairs at layers 11 to 17
    assert means["patch"]["isolation"] < 0.3
