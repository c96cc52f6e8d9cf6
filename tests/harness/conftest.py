from __future__ import annotations

import shutil

import pytest
from tiny_site import TINY, tiny_subject

from sae_sanity.harness import check, subject
from sae_sanity.harness.config import Settings, resolve
from sae_sanity.harness.progress import Silent


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Activations of the tiny texts, computed once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def _tiny_target():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(subject.TARGETS, "tiny", tiny_subject)
        yield


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path, cache):
    """Every test runs in its own folder and knows no configuration but its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAE_SANITY_CACHE", str(cache))
    # What one test has trained, another one trains again.
    monkeypatch.setenv("SAE_SANITY_BASELINES", str(tmp_path / "kept-baselines"))


@pytest.fixture(scope="session")
def settings() -> Settings:
    return resolve(TINY, environ={})


@pytest.fixture
def run(tmp_path):
    """Run a check of the tiny subject and return its report and its folder."""

    def go(settings, folder="results"):
        return check.run_check(settings, tmp_path / folder, Silent()), tmp_path / folder

    return go


@pytest.fixture(scope="session")
def _finished(settings, cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAE_SANITY_CACHE", str(cache))
        patch.setenv("SAE_SANITY_BASELINES", "none")
        patch.setitem(subject.TARGETS, "tiny", tiny_subject)  # whatever the file that asks first makes of it
        return check.run_check(settings, folder, Silent()), folder


@pytest.fixture
def finished(_finished, tmp_path):
    """Report of a finished check, and a copy of its folder under the name that `run` uses."""
    report, folder = _finished
    shutil.copytree(folder, tmp_path / "results")
    return report, tmp_path / "results"
