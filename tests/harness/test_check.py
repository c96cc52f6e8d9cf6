from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from sae_lens import SAE
from tiny_site import TINY

from sae_sanity.harness import check
from sae_sanity.harness.arm_store import ArmStore
from sae_sanity.harness.config import resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.lock import locked
from sae_sanity.harness.plan import ArmSeed, make_plan
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.record import load_record, report_of
from sae_sanity.results.outcome import CheckReport
from sae_sanity.results.store import Store, StoreError

SUPPORT = Path(__file__).parents[1] / "support"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a results folder that holds a result."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def same(one: CheckReport, two: CheckReport) -> bool:
    """Whether two reports agree in all but the folder that their command names."""
    return one.model_copy(update={"manifest": None}) == two.model_copy(update={"manifest": None})


def test_a_check_from_end_to_end(finished):
    report, folder = finished
    (suite,) = report.suites
    assert {arm.arm for arm in suite.arms} == {
        *("trained", "frozen_decoder@iso", "soft_frozen@0.8", "frozen_encoder@iso", "random"),
        *("permuted_decoder", "permuted_encoder", "random_latents", "@mean_ablation", "@identity"),
    }
    assert [c.baseline for c in suite.comparisons if c.required] == ["frozen_decoder@iso", "random"]
    assert report.exit_code in (0, 1, 3, 4)
    assert all(arm.matched for arm in suite.arms if arm.role in ("trained", "baseline"))
    assert report_of(folder) == report


def test_every_row_is_kept(settings, finished):
    _, folder = finished
    record, store = load_record(folder), Store(folder)
    rows = pd.concat([store.read(key) for key in record.cells])
    plan = make_plan(settings)
    documents = settings.held_out_documents
    per_sae = 2 * documents + settings.ce_documents + 1  # explained variance, L0; cross entropy; dead share
    per_reference = documents + settings.ce_documents
    assert len(rows) == len(plan.saes()) * per_sae + 2 * per_reference


def test_two_runs_give_the_same_bytes(settings, finished, run):
    _, first = finished
    _, second = run(settings, "two")
    # The record names the folder in its command line; everything else must agree to the last byte.
    one, two = ({k: v for k, v in contents(f).items() if k != "run.json"} for f in (first, second))
    assert one == two
    assert len(one) > 20


def test_arms_are_ordinary_saelens_saes(finished):
    _, folder = finished
    frozen = [SAE.load_from_disk(folder / f"arms/frozen_decoder@iso/seed-{s}") for s in (0, 1)]
    again = SAE.load_from_disk(folder / "arms/trained/seed-0")
    assert frozen[0].cfg.metadata.hook_name == "blocks.1.hook_resid_post"
    assert not torch.equal(frozen[0].W_dec, frozen[1].W_dec)
    assert not torch.equal(frozen[0].W_dec, again.W_dec)


@pytest.mark.parametrize("architecture", ["topk", "jumprelu", "standard"])
def test_other_architectures_end_in_a_verdict(architecture, run):
    report, _ = run(resolve(TINY | {"architecture": architecture, "baselines": ["frozen_encoder"]}, environ={}))
    assert report.suites[0].verdict
    assert all(arm.matched for arm in report.suites[0].arms if arm.arm in ("trained", "frozen_encoder@iso", "random"))


def test_a_second_call_measures_nothing(settings, finished, run, monkeypatch):
    first, folder = finished
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.parquet")}
    monkeypatch.setattr("sae_sanity.harness.arms.train_together", None)  # would raise if it were called
    second, _ = run(settings)
    assert same(second, first)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.parquet")} == before


def test_a_damaged_cell_is_one_line_and_costs_nothing_else(settings, finished, run):
    first, folder = finished
    victim = next((folder / "cells").glob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:-20])
    with pytest.raises(UsageError, match=r"damaged cell.*delete this file") as caught:
        report_of(folder)
    assert "\n" not in str(caught.value)
    victim.unlink()
    assert same(run(settings)[0], first)


@pytest.mark.parametrize("what", ["sae_weights.safetensors", "arm.json"])
def test_a_damaged_arm_is_one_line_that_says_what_to_do(settings, finished, run, what):
    first, folder = finished
    path = folder / "arms/trained/seed-0" / what
    path.write_bytes(b"{" + path.read_bytes()[:50])
    store = ArmStore(folder / "arms")
    with pytest.raises(UsageError, match=r"is damaged; delete the folder .*seed-0 and run the same command again"):
        store.load(ArmSeed("trained", 0))
    if what == "arm.json":
        with pytest.raises(UsageError, match="is damaged"):
            run(settings)
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    assert same(run(settings)[0], first)


def test_a_folder_of_another_configuration_is_refused_and_left_alone(settings, finished, run):
    _, folder = finished
    before = contents(folder)
    with pytest.raises(StoreError, match=r"holds the results of another run: lr is 0.003 there and 0.001 here"):
        run(settings.model_copy(update={"lr": 1e-3}))
    assert contents(folder) == before


def test_an_unfinished_folder_is_no_report(tmp_path):
    with pytest.raises(UsageError, match="holds no finished run"):
        report_of(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suites": ("reconstructon",)}, "no such suite: 'reconstructon'; did you mean 'reconstruction'"),
        ({"baselines": ("frozen_decodr",)}, "did you mean frozen_decoder"),
        ({"baselines": ("trained",)}, "arm under test"),
        ({"architecture": "topkk"}, "no such architecture: 'topkk'; did you mean 'topk'"),
        ({"target": "dmeo"}, "no such target: 'dmeo'; did you mean 'demo'"),
        ({"l0": 40.0}, "l0 is 40 at d_sae 48"),
        ({"architecture": "topk", "l0": 2.5}, "l0 is 2.5 for topk, where it is k"),
        ({"device": "foo"}, "device is 'foo'"),
        ({"hook_name": "blocks.99.hook_resid_post"}, "99"),
        ({"hook_name": "blocks.1.hook_resid_pots"}, "hook"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(settings, run, tmp_path, change, message):
    with pytest.raises(UsageError, match=message) as caught:
        run(settings.model_copy(update=change))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_a_results_path_that_is_a_file(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        check.run_check(settings, tmp_path / "file" / "results", Silent())


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {support!r})
from tiny_site import TINY, tiny_subject
from sae_sanity.baselines import training
from sae_sanity.harness import check, subject
from sae_sanity.harness.config import resolve
from sae_sanity.harness.progress import PlainProgress

folder = Path({folder!r})

class Mortal(PlainProgress):
    def advance(self, done):
        super().advance(done)
        if {dies_at!r} in self.stage and {when}:
            os.kill(os.getpid(), signal.SIGKILL)

training.CHECKPOINT_SECONDS = 0.0
subject.TARGETS["tiny"] = tiny_subject
check.run_check(resolve(TINY, environ={{}}), folder, Mortal(every=0.0))
"""


def _killed(folder: Path, cache: Path, dies_at: str, when: str) -> bool:
    """Whether kill -9 has ended a check, in a stage and in a state that is a line of Python."""
    code = SCRIPT.format(support=str(SUPPORT), folder=str(folder), dies_at=dies_at, when=when)
    environ = os.environ | {"SAE_SANITY_CACHE": str(cache), "SAE_SANITY_BASELINES": str(cache / "baselines")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, stderr=subprocess.DEVNULL, timeout=300)
    return done.returncode == -signal.SIGKILL


def test_kill_9_while_training_and_while_measuring_ends_in_the_same_bytes(settings, finished, tmp_path, monkeypatch):
    report, whole = finished
    killed, cache = tmp_path / "killed", tmp_path / "cache-2"
    assert _killed(killed, cache, "training", '(folder / "arms/training.safetensors").exists()')
    assert not list(killed.glob("cells/*.json"))  # killed in the middle of training
    assert _killed(killed, cache, "measuring", 'len(list(folder.glob("cells/*.json"))) > 3')
    done = len(list(killed.glob("cells/*.json")))
    assert 3 < done < len(list(whole.glob("cells/*.json")))  # killed in the middle of measuring
    monkeypatch.setenv("SAE_SANITY_CACHE", str(cache))
    monkeypatch.setenv("SAE_SANITY_BASELINES", str(cache / "baselines"))
    assert same(check.run_check(settings, killed, Silent()), report)
    ours, theirs = ({k: v for k, v in contents(f).items() if k != "run.json"} for f in (killed, whole))
    leftovers = {k for k in ours if ".tmp" in k or Path(k).name.startswith(".")}
    assert {k: v for k, v in ours.items() if k not in leftovers} == theirs
    records = [json.loads((f / "run.json").read_text()) for f in (killed, whole)]
    for record in records:
        record["manifest"].pop("command")  # names the folder
    assert records[0] == records[1]


def test_two_checks_cannot_write_one_folder(settings, finished, run):
    _, folder = finished
    with locked(folder), pytest.raises(UsageError, match="in use by another check"):
        run(settings)


def test_a_null_that_was_left_out_is_said(run):
    report, _ = run(resolve(TINY | {"baselines": ["soft_frozen"]}, environ={}))
    assert {skip.what for skip in report.skipped} == {"frozen_decoder", "frozen_encoder"}
    assert [c.baseline for c in report.suites[0].comparisons if c.required] == ["random"]


def test_a_configuration_file_of_the_folder_shows_in_the_command(run, tmp_path):
    (tmp_path / "sae-sanity.toml").write_text("seeds = 4\n")
    report, _ = run(resolve({k: v for k, v in TINY.items() if k != "seeds"} | {"baselines": ["random"]}))
    assert "--set context_size=32" in report.manifest.command
    assert "--seeds 4" in report.manifest.command
    assert "--tokens 4096" in report.manifest.command


def test_changed_margins_make_another_configuration(settings, finished, run, monkeypatch):
    monkeypatch.setattr("sae_sanity.suites.reconstruction.Reconstruction.margin", 0.005)
    with pytest.raises(StoreError, match="rule"):
        run(settings)


def test_a_trained_sae_that_is_made_again_makes_its_controls_again(settings, finished, run):
    _, folder = finished
    shutil.rmtree(folder / "arms/trained/seed-0")
    marker, other = (folder / f"arms/permuted_decoder/seed-{s}/arm.json" for s in (0, 1))
    before = [path.stat().st_mtime_ns for path in (marker, other)]
    run(settings)
    assert marker.stat().st_mtime_ns != before[0]
    assert other.stat().st_mtime_ns == before[1]
