"""Checks of SAEs that exist: a folder, a hub repo, a release, an object, end to end on a tiny language model."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hub_contents import save_world
from loopback_hub import loopback_hub
from sae_lens import SAE
from sae_lens.loading.pretrained_saes_directory import PretrainedSAELookup, get_pretrained_saes_directory
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from safetensors.torch import load_file
from tiny_saes import tied_topk

from sae_sanity.harness import check
from sae_sanity.harness.arm_store import file_hash
from sae_sanity.harness.baseline_store import find_arms
from sae_sanity.harness.cli import main
from sae_sanity.harness.config import resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.preregister import read_lock, status_in, write_lock
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.record import load_record, report_of
from sae_sanity.harness.show_plan import register
from sae_sanity.results.outcome import CheckReport
from sae_sanity.results.store import Store, StoreError

HOOK = "blocks.1.hook_resid_post"
SMALL = {
    "suites": ["reconstruction"],
    "baselines": ["frozen_decoder"],
    "context_size": 32,
    "seeds": 1,
    "random_seeds": 3,
    "probe_datasets": "smoke",
    "tokens": 4096,
    "batch_size": 256,
    "calibration_tokens": 6000,
    "held_out_documents": 100,
    "ce_documents": 4,
}


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A folder with a language model and texts."""
    return save_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def small(world):
    """Settings of a check of seconds."""

    def make(target, **changes):
        model = {"model": str(world / "models/gpt2"), "texts": str(world / "texts.jsonl")}
        return resolve({"target": str(target)} | model | SMALL | changes, environ={})

    return make


@pytest.fixture
def saved(tmp_path):
    """A folder with an SAE in SAELens' format."""
    folder = tmp_path / "my-sae"
    tied_topk().save_model(folder)
    return folder


@pytest.fixture(scope="module")
def _checked(small, cache, tmp_path_factory):
    root = tmp_path_factory.mktemp("checked")
    tied_topk().save_model(root / "my-sae")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAE_SANITY_CACHE", str(cache))
        patch.setenv("SAE_SANITY_BASELINES", str(root / "kept"))
        report = check.run_check(small(root / "my-sae", seeds=3), root / "results", Silent())
    return report, root


@pytest.fixture
def checked(_checked, tmp_path, monkeypatch):
    """Report of a finished check of `root / "my-sae"`, a copy of its folder, and `root`; its baselines are kept."""
    report, root = _checked
    shutil.copytree(root / "results", tmp_path / "one")
    shutil.copytree(root / "kept", tmp_path / "kept-baselines")
    return report, tmp_path / "one", root / "my-sae"


@pytest.fixture(scope="module")
def several(small, cache, tmp_path_factory):
    """Report of a check of two SAEs at two hooks, its folder, that of the SAEs, and the budget that each was given."""
    root, seen, judging = tmp_path_factory.mktemp("several"), [], check.judging
    for layer in (0, 1):
        tied_topk(layer, hook_name=f"blocks.{layer}.hook_resid_post").save_model(root / f"saes/layer_{layer}/width_48")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAE_SANITY_CACHE", str(cache))
        patch.setenv("SAE_SANITY_BASELINES", "none")
        patch.setattr(check, "judging", lambda s, f, spent, p: (seen.append(spent), judging(s, f, spent, p))[1])
        settings = small(root / "saes", sae_id=["layer_*"])
        report = check.run_check(settings, root / "results", Silent(), limits=check.Limits(max_tokens=5))
    return report, root / "results", root / "saes", seen


def rows_of(folder: Path) -> pd.DataFrame:
    record, store = load_record(folder), Store(folder)
    frame = pd.concat([store.read(key) for key in record.cells], ignore_index=True)
    return frame.sort_values(["suite", "metric", "arm", "seed", "item"], ignore_index=True)


def test_a_folder_is_checked_and_both_claims_are_made(checked):
    report, folder, _ = checked
    (suite,) = report.suites
    arms = {arm.arm: arm for arm in suite.arms}
    assert arms["trained"].seeds == 1
    assert arms["retrained"].seeds == 3
    assert suite.recipe is not None
    assert [c.baseline for c in suite.recipe.comparisons] == ["frozen_decoder@iso", "random"]
    assert {c.claim for c in suite.comparisons if c.required} == {"artefact"}
    assert "retrained" in [c.baseline for c in suite.comparisons]
    assert all(arms[name].matched for name in ("trained", "retrained", "frozen_decoder@iso", "random"))
    assert report.manifest.recipe["architecture"] == "topk (cfg.json)"
    assert report_of(folder) == report


def test_a_random_sae_does_not_beat_random(checked):
    """The SAE under test is itself a random one: whatever is found, it is never PASS, and its recipe does better."""
    report, *_ = checked
    assert report.verdict != "PASS"
    scores = {arm.arm: arm.score for arm in report.suites[0].arms}
    assert scores["retrained"] > scores["trained"]


def test_what_is_measured_is_the_sae_itself(small, checked):
    """Explained variance of the arm under test is that of the SAE that was handed in, by SAELens' own calculator."""
    from sae_sanity.harness.adopt import adopt
    from sae_sanity.harness.targets import locate

    _, folder, saved = checked
    settings = small(saved, seeds=3)
    (located,) = locate(settings.target)
    subject = check.make_subject(adopt(settings, located.recipe), located.load(), check.cache_folder(), Silent())
    sae = SAE.load_from_disk(saved)
    rows = rows_of(folder)
    rows = rows.loc[(rows["arm"] == "trained") & (rows["metric"] == "explained_variance")].set_index("item")["value"]
    (acts, document, _), *_ = subject.held_out_activations.chunks()
    for index in np.unique(document)[:5]:
        x = acts[torch.from_numpy(document == index)]
        with torch.no_grad():
            residual = (x - sae(x)).square().sum() / (x - x.mean(0)).square().sum()
        assert rows[f"held_out-{index:05d}"] == pytest.approx(float(1 - residual), abs=1e-5)


def test_by_release_by_folder_by_address_and_as_a_saebench_object_the_scores_are_the_same_bits(
    small, world, tmp_path, monkeypatch, run
):
    sae = tied_topk()
    hub = tmp_path / "hub"
    sae.save_model(hub / "models/org/saes/layer_1")
    shutil.copytree(hub / "models/org/saes/layer_1", tmp_path / "folder")
    lookup = PretrainedSAELookup(
        "tiny-release", "org/saes", "gpt2-small", None, {"layer_1": "layer_1"}, {}, {"layer_1": 4.0}, {}, {}, None
    )
    monkeypatch.setitem(get_pretrained_saes_directory(), "tiny-release", lookup)
    (tmp_path / "my_saes.py").write_text(
        "import torch\n"
        "from sae_bench.custom_saes.topk_sae import TopKSAE\n"
        "from safetensors.torch import load_file\n"
        "def make():\n"
        f"    sae = TopKSAE(16, 48, 4, 'gpt2-small', 1, torch.device('cpu'), torch.float32, hook_name='{HOOK}')\n"
        f"    state = load_file('{tmp_path}/folder/sae_weights.safetensors')\n"
        "    sae.load_state_dict(state, strict=False)\n"
        "    return sae\n"
    )
    found = {}
    with loopback_hub(hub) as served:
        served.patched(monkeypatch, tmp_path / "home")
        for name, target in {
            "release": "tiny-release",
            "address": "hf://org/saes/layer_1",
            "folder": str(tmp_path / "folder"),
            "object": "my_saes:make",
        }.items():
            monkeypatch.setenv("SAE_SANITY_BASELINES", "none")  # each trains its own
            run(small(target), name)
            found[name] = rows_of(tmp_path / name)
    sys.modules.pop("my_saes", None)
    for name, rows in found.items():
        pd.testing.assert_frame_equal(rows, found["folder"], check_exact=True, obj=name)
    assert len(found["folder"]) > 1000


def test_a_recipe_s_sources_are_in_the_plan_and_nothing_is_written(small, saved, world, capsys, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert main(["plan", str(saved), "--model", str(world / "models/gpt2")]) == 0
    out = capsys.readouterr().out
    for line in (
        "hook_name",
        f"{HOOK} (cfg.json)",
        "unknown; used here: packaged",
        "L0 as measured on it",
        "retrained",
    ):
        assert line in out
    assert sorted(tmp_path.rglob("*")) == before


def test_several_saes_are_one_report(several):
    report, folder, *_ = several
    assert [suite.label for suite in report.suites] == [f"layer_{n}/width_48: reconstruction" for n in (0, 1)]
    assert all(suite.p_holm is None or suite.p_holm >= (suite.p or 0) for suite in report.suites)
    assert report_of(folder) == report
    # each is an ordinary results folder
    assert report_of(folder / "layer_0%2fwidth_48").suites[0].suite == "reconstruction"
    assert CheckReport.model_validate(report.model_dump()) == report
    assert {"layer_0/width_48: weights/trained/0", "layer_1/width_48: texts/train"} <= set(report.manifest.hashes)


def test_several_saes_have_one_budget(several):
    """What the first one's judge has used, the second one's cannot use again."""
    *_, seen = several
    assert len(seen) == 2
    assert seen[0] is seen[1]
    assert seen[0].budget.max_tokens == 5


def test_one_sae_cannot_take_the_folder_of_several(several, small):
    report, folder, saes, _ = several
    with pytest.raises(StoreError, match="holds the results of another run"):
        check.run_check(small(saes, sae_id=["layer_1/*"]), folder, Silent())
    assert report_of(folder) == report


def test_those_that_are_damaged_leave_the_others_and_the_check_incomplete(small, tmp_path):
    """Two of three, after the plan of all of them was registered."""
    root = tmp_path / "release"
    for layer in range(3):
        tied_topk(layer).save_model(root / f"layer_{layer}")
    given, path = small(root, sae_id=["layer_*"]), tmp_path / "plan.json"
    assert write_lock(path, register(given))
    weights = root / "layer_1/sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    (root / "layer_2/cfg.json").write_text("{")
    report = check.run_check(given, tmp_path / "results", Silent(), lock=path)
    assert [suite.subject for suite in report.suites] == ["layer_0"]
    assert report.exit_code in (1, 4)
    reasons = {skip.what: skip.reason for skip in report.skipped if skip.what in ("layer_1", "layer_2")}
    assert sorted(reasons) == ["layer_1", "layer_2"]
    assert "cfg.json" in reasons["layer_2"]
    assert report.lock is not None
    assert report.lock.departures == tuple(f"layer_{n}: registered, not checked" for n in (1, 2))
    assert report_of(tmp_path / "results").lock == report.lock
    assert report_of(tmp_path / "results/layer_0").lock is None  # the plan was for all of them


def test_a_registered_plan_of_one_sae(small, saved, tmp_path):
    """What the SAE says of itself is found in the plan and again in the run: it is no departure."""
    path = tmp_path / "plan.json"
    write_lock(path, register(small(saved)))
    report = check.run_check(small(saved), tmp_path / "r", Silent(), lock=path)
    assert report.lock is not None
    assert report.lock.departures == ()
    assert status_in(read_lock(path), tmp_path / "r") == report.lock


@pytest.mark.parametrize("kind", ["transcoder", "temporal", "crosscoder"])
def test_what_is_not_supported_is_a_skip_and_exit_4(kind, small, saved, run):
    cfg = json.loads((saved / "cfg.json").read_text())
    (saved / "cfg.json").write_text(json.dumps(cfg | {"architecture": kind}))
    report, folder = run(small(saved))
    assert (report.verdict, report.exit_code) == ("INVALID", 4)
    assert kind in report.skipped[0].reason
    assert "not supported" in report.skipped[0].reason
    assert not folder.exists()


def test_a_transcoder_object_is_a_skip_too(small, run, tmp_path):
    (tmp_path / "odd_transcoders.py").write_text(
        "from sae_lens.saes.transcoder import Transcoder, TranscoderConfig\n"
        "CFG = TranscoderConfig(d_in=16, d_out=16, d_sae=48, apply_b_dec_to_input=False)\n"
        "def make():\n    return Transcoder(CFG)\n"
    )
    report, _ = run(small("odd_transcoders:make"))
    assert (report.exit_code, report.skipped[0].what) == (4, "odd_transcoders:make")
    assert "transcoder" in report.skipped[0].reason
    sys.modules.pop("odd_transcoders", None)


def test_a_hook_of_another_width_is_one_line(small, tmp_path, run):
    sae = tied_topk()
    cfg = TopKSAEConfig(d_in=8, d_sae=48, k=4, metadata=sae.cfg.metadata)
    TopKSAE(cfg).save_model(tmp_path / "narrow")
    with pytest.raises(UsageError, match=r"has d_in 8, but activations at blocks.1.hook_resid_post have width 16"):
        run(small(tmp_path / "narrow"))
    assert not (tmp_path / "results").exists()


def test_trained_baselines_are_used_again_and_by_others(small, checked, run, monkeypatch, capsys):
    first, folder, saved = checked
    monkeypatch.setattr("sae_sanity.harness.arms.train_together", None)  # would raise if it were called
    second, _ = run(small(saved, seeds=3), "two")
    assert first.suites == second.suites
    assert main(["list", "baselines"]) == 0
    assert "retrained/2 " in capsys.readouterr().out

    assert main(["baselines", "export", "shared", "--results", str(folder)]) == 0
    monkeypatch.setenv("SAE_SANITY_BASELINES", "none")
    third, _ = run(small(saved, seeds=3, baselines_from="shared"), "three")
    notes = {arm.arm: arm.note for arm in third.suites[0].arms}
    assert notes["frozen_decoder@iso"] == "trained elsewhere (baselines_from)"
    scores = [{arm.arm: arm.score for arm in report.suites[0].arms} for report in (first, third)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-9)


def test_baselines_of_another_sae_are_refused(small, checked, run, tmp_path):
    _, folder, _ = checked
    assert main(["baselines", "export", "shared", "--results", str(folder)]) == 0
    tied_topk(k=6).save_model(tmp_path / "other")
    with pytest.raises(UsageError, match=r"l0 is 4.0 there and 6.0 here"):
        run(small(tmp_path / "other", baselines_from="shared"), "two")


def test_an_upload_is_a_dry_run_until_it_is_pushed(small, checked, run, tmp_path, monkeypatch, capsys):
    _, folder, saved = checked
    main(["baselines", "export", "shared", "--results", str(folder)])
    (tmp_path / "shared/private-notes.txt").write_text("mine")
    with loopback_hub(tmp_path / "hub") as served:
        served.patched(monkeypatch, tmp_path / "home")
        monkeypatch.setenv("HF_TOKEN", "hf_loopbackSECRETtoken")
        capsys.readouterr()
        assert main(["baselines", "upload", "shared", "org/baselines"]) == 0
        assert "dry run" in capsys.readouterr().out
        assert served.requests == []
        assert main(["baselines", "upload", "shared", "org/baselines", "--push"]) == 0
        out, err = capsys.readouterr()
        assert "SECRET" not in out + err
        uploaded = {path.name for path in served.root.rglob("*") if path.is_file()}
        assert uploaded == {"arm.json", "cfg.json", "sae_weights.safetensors"}
        monkeypatch.setenv("SAE_SANITY_BASELINES", "none")
        report, _ = run(small(saved, seeds=3, baselines_from="hf://org/baselines"), "two")
    assert {arm.note for arm in report.suites[0].arms if arm.arm == "retrained"} == {
        "trained elsewhere (baselines_from)"
    }


def test_a_link_is_not_uploaded_and_nothing_else_is_either(checked, tmp_path, capsys):
    _, folder, _ = checked
    main(["baselines", "export", "shared", "--results", str(folder)])
    cfg = next((tmp_path / "shared").rglob("cfg.json"))
    (tmp_path / "secret").write_bytes(cfg.read_bytes())
    cfg.unlink()
    cfg.symlink_to(tmp_path / "secret")
    assert main(["baselines", "upload", "shared", "org/baselines"]) == 2
    assert "cfg.json is not what arm.json says" in capsys.readouterr().err


def test_an_sae_that_changes_in_its_cfg_alone_is_measured_anew(small, tmp_path, run):
    """k is not among the weights."""
    tied_topk(k=4).save_model(tmp_path / "sae")
    run(small(tmp_path / "sae"))
    tied_topk(k=8).save_model(tmp_path / "sae")
    again, _ = run(small(tmp_path / "sae"))
    fresh, _ = run(small(tmp_path / "sae"), "fresh")
    assert again.suites == fresh.suites
    assert {arm.arm: arm.l0 for arm in again.suites[0].arms}["trained"] == pytest.approx(8, abs=0.01)


def test_a_given_setting_makes_another_check_and_is_in_its_command(small, saved, run):
    """batchtopk is the profile's architecture; saying so for a TopK SAE is a choice all the same."""
    plain, chosen = small(saved), small(saved, architecture="batchtopk")
    report, _ = run(chosen)
    assert "--architecture batchtopk" in report.manifest.command
    assert check.results_folder(plain) != check.results_folder(chosen)


def test_activations_are_kept_at_the_precision_that_was_asked_for(small, saved, run, tmp_path, monkeypatch):
    monkeypatch.setenv("SAE_SANITY_CACHE", str(tmp_path / "cache"))
    report, _ = run(small(saved, activation_precision="float32"))
    shards = list((tmp_path / "cache").rglob("shard-*.safetensors"))
    assert {load_file(shard)["activations"].dtype for shard in shards} == {torch.float32}
    assert "--set activation_precision=float32" in report.manifest.command


def test_imported_weights_are_checked_whatever_their_record_says(small, checked, run, tmp_path, monkeypatch):
    _, folder, saved = checked
    assert main(["baselines", "export", "shared", "--results", str(folder)]) == 0
    monkeypatch.setenv("SAE_SANITY_BASELINES", "none")
    victim = next((tmp_path / "shared").glob("*/retrained/seed-0"))
    tied_topk(d_sae=60).save_model(victim)
    with pytest.raises(UsageError, match="is not what its record says"):
        run(small(saved, seeds=3, baselines_from="shared"), "two")
    record = json.loads((victim / "arm.json").read_text())
    record["files"] = {name: file_hash(victim / name) for name in record["files"]}
    (victim / "arm.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="d_sae is 60 there and 48 here"):
        run(small(saved, seeds=3, baselines_from="shared"), "two")


def test_a_recipe_that_names_a_folder_is_not_followed(small, saved, run, world, tmp_path, monkeypatch):
    """A stranger's cfg.json must not make us read what lies beside the user."""
    cfg = json.loads((saved / "cfg.json").read_text())
    cfg["metadata"]["dataset_path"] = "private/notes"
    (saved / "cfg.json").write_text(json.dumps(cfg))
    (tmp_path / "private/notes").mkdir(parents=True)
    settings = resolve({"target": str(saved), "model": "x"}, environ={})
    ((task,), _) = check.find_tasks(settings)
    assert task.settings.texts == "packaged"


def test_slugs_differ_and_are_not_hidden():
    names = [".", "sae", "a", ".a", "a/b", "a%2fb", "..", "%2e"]
    assert len({check.slug(name) for name in names}) == len(names)
    assert not any(check.slug(name).startswith(".") or "/" in check.slug(name) for name in names)


def test_an_object_that_sae_lens_cannot_save_is_checked(small, run, tmp_path):
    (tmp_path / "odd_saes.py").write_text(
        "import torch\n"
        "from types import SimpleNamespace\n"
        "class Odd:\n"
        "    def __init__(self):\n"
        "        g = torch.Generator().manual_seed(0)\n"
        "        self.W_dec = torch.nn.functional.normalize(torch.randn(48, 16, generator=g), dim=-1)\n"
        "        self.W_enc = self.W_dec.T.clone()\n"
        f"        self.cfg = SimpleNamespace(d_in=16, d_sae=48, hook_name='{HOOK}')\n"
        "    def encode(self, x):\n"
        "        h = x @ self.W_enc\n"
        "        return h * (h >= h.topk(4, dim=-1).values[..., -1:])\n"
        "    def decode(self, f):\n"
        "        return f @ self.W_dec\n"
    )
    report, folder = run(small("odd_saes:Odd"))
    (suite,) = report.suites
    names = {arm.arm for arm in suite.arms}
    assert {"trained", "retrained", "random", "permuted_decoder", "random_latents"} <= names
    assert "permuted_encoder" not in names
    assert any(skip.what == "permuted_encoder" for skip in report.skipped)
    assert report_of(folder) == report
    again, _ = run(small("odd_saes:Odd"))
    assert again == report
    sys.modules.pop("odd_saes", None)


@pytest.mark.parametrize("architecture", ["gated", "abstopk", "matryoshka_batchtopk", "matching_pursuit"])
def test_every_architecture_ends_in_a_verdict(architecture, small, saved, run):
    report, folder = run(small(saved, architecture=architecture, baselines=["frozen_decoder", "frozen_encoder"]))
    assert report.suites[0].verdict
    assert report.suites[0].recipe is not None
    arms = {arm.arm: arm for arm in report.suites[0].arms}
    assert arms["random"].matched
    # A TopK SAE beside baselines of another architecture has an encoder to permute all the same.
    assert "permuted_encoder" in arms
    assert find_arms(folder / "arms")


def test_what_is_saved_names_no_folder_of_this_machine(checked, world):
    _, folder, _ = checked
    for cfg in (folder / "arms").rglob("cfg.json"):
        assert str(world) not in cfg.read_text()
    assert json.loads((folder / "arms/random/seed-0/cfg.json").read_text())["metadata"]["model_name"] == "gpt2"


@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale", "expected_average_only_in"])
def test_a_normalising_sae_is_compared_in_its_own_space(kind, small, tmp_path, run):
    sae = tied_topk(metadata_note=None)
    sae.cfg.normalize_activations = kind
    sae.save_model(tmp_path / "normalising")
    report, folder = run(small(tmp_path / "normalising"))
    arms = {arm.arm: arm for arm in report.suites[0].arms}
    assert all(arms[name].matched for name in ("trained", "retrained", "random"))
    # the same normalisation in every arm; a factor for all tokens is folded away
    left = "none" if kind == "expected_average_only_in" else kind
    for name in ("trained/seed-0", "retrained/seed-0", "random/seed-0"):
        assert json.loads((folder / "arms" / name / "cfg.json").read_text())["normalize_activations"] == left
    assert arms["retrained"].score > arms["random"].score
