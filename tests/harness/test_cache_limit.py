from __future__ import annotations

import os
import re

import pytest
from tiny_site import tiny_subject

from sae_sanity.harness.cli import main
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.estimate import estimate
from sae_sanity.harness.limits import check_cache
from sae_sanity.harness.plan import make_plan
from sae_sanity.harness.progress import Silent
from sae_sanity.suites.shelf import VARIABLE, size_of


def test_without_a_limit_everything_goes(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    check_cache(10**18, tmp_path)


def test_at_the_limit(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "2MB")
    check_cache(2_000_000, tmp_path)
    with pytest.raises(UsageError, match=r"take about 2\.1 MB, but SAE_SANITY_CACHE_MAX is 2 MB"):
        check_cache(2_100_000, tmp_path / "nowhere")


def test_what_the_cache_has_may_be_the_checks_own(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "2kB")
    (tmp_path / "shard").write_bytes(b"x" * 1000)
    check_cache(3_000, tmp_path)
    with pytest.raises(UsageError, match=r"take about 3\.1 kB"):
        check_cache(3_100, tmp_path)
    (tmp_path / "shard").write_bytes(b"x" * 2001)
    check_cache(10**9, tmp_path)  # the limit is newer than the cache


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """A cache without the activations of other tests."""
    monkeypatch.setenv("SAE_SANITY_CACHE", str(tmp_path / "own-cache"))
    return tmp_path / "own-cache" / "activations"


@pytest.mark.parametrize(
    ("size", "line"),
    [
        ("1kB", "the activations will take about .* MB, but SAE_SANITY_CACHE_MAX is 1 kB"),
        ("lots", "SAE_SANITY_CACHE_MAX is 'lots'; it must be a size above 0, as 500MB or 20GB"),
    ],
)
def test_a_check_that_cannot_fit_is_one_line_and_nothing_is_written(
    monkeypatch, tmp_path, capsys, own_cache, size, line
):
    monkeypatch.setenv(VARIABLE, size)
    assert main(["check", "tiny", "--suites", "reconstruction", "--results", str(tmp_path / "r")]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"sae-sanity: {line}", said)
    assert not (tmp_path / "r").exists()


def test_the_plan_says_it(monkeypatch, capsys):
    assert main(["plan", "tiny", "--suites", "reconstruction"]) == 0
    assert "which may take" not in capsys.readouterr().out
    monkeypatch.setenv(VARIABLE, "3GB")
    assert main(["plan", "tiny", "--suites", "reconstruction"]) == 0
    assert "which may take 3 GB" in " ".join(capsys.readouterr().out.split())


def test_a_check_with_a_limit_has_the_same_scores_and_drops_what_is_old(
    finished, settings, run, monkeypatch, own_cache
):
    report, folder = finished
    old = own_cache / ("a" * 32)
    old.mkdir(parents=True)
    with (old / "shard").open("wb") as file:
        file.truncate(10**9)
    os.utime(old, (1, 1))
    monkeypatch.setenv(VARIABLE, "1MB")
    again, other = run(settings, "again")
    assert not old.exists()
    assert 10**5 < size_of(own_cache) < 10**6
    assert again.verdict == report.verdict
    one, two = ({p.name: p.read_bytes() for p in (f / "cells").glob("*.parquet")} for f in (folder, other))
    assert one == two


def test_a_check_whose_activations_are_there_goes_on_under_a_limit_below_them(
    finished, settings, run, monkeypatch, tmp_path
):
    """It takes nothing more; without them it is refused."""
    report, folder = finished
    monkeypatch.setattr("sae_sanity.harness.estimate.D_IN", 16)  # of the tiny model
    monkeypatch.setenv(VARIABLE, "100kB")
    min((folder / "cells").glob("*.parquet")).unlink()
    assert run(settings)[0].verdict == report.verdict
    monkeypatch.setenv("SAE_SANITY_CACHE", str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="the activations will take about"):
        run(settings)


def test_what_activations_are_planned_to_take_is_what_they_take(settings, tmp_path):
    subject = tiny_subject(settings, tmp_path / "cache", Silent())
    plan = make_plan(settings.model_copy(update={"suites": ("reconstruction",)}))
    planned = estimate(plan, {"reconstruction": 1}, subject.site.d_in).cache_bytes
    # Held-out documents are planned as 32 tokens, and the tiny ones have 23.
    planned -= 9 * 100 * (2 * 16 + 12)
    assert planned == pytest.approx(size_of(tmp_path / "cache" / "activations"), rel=0.05)
