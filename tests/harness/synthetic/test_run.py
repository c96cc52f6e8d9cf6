"""A recipe in tiny worlds from end to end: what is measured, and that nothing depends on when it was killed."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from tiny_worlds import Interrupted, Told, results_of, rows_of, tiny_worlds, values

from sae_sanity.baselines import Oracle, parse_arm, training
from sae_sanity.harness.arm_store import ArmStore
from sae_sanity.harness.arms import ArmMaker
from sae_sanity.harness.baseline_store import BaselineStore
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.lock import InUseError, locked
from sae_sanity.harness.plan import ArmSeed
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.record import report_of
from sae_sanity.harness.synthetic.judge import run_synthetic
from sae_sanity.harness.synthetic.material import EVALUATION, material_of
from sae_sanity.harness.synthetic.reproduce import Curve, Part
from sae_sanity.harness.synthetic.run import CHANCE_SEED, synthetic_plan
from sae_sanity.results.store import StoreError
from sae_sanity.suites.synthetic import expected_max_cosine, make_world, world_rows

TIED = ["topk", "batchtopk", "jumprelu", "standard", "matryoshka_batchtopk"]


def test_every_arm_is_there_in_every_world(part):
    (_, report) = part
    (suite,) = report.suites
    assert {arm.arm for arm in suite.arms} == {
        *("trained", "frozen_decoder@iso", "soft_frozen@0.8", "frozen_encoder@iso", "random"),
        *("permuted_decoder", "permuted_encoder", "random_latents"),
        *("@oracle", "@chance", "@mean_direction"),
    }
    assert [c.baseline for c in suite.comparisons if c.required] == ["frozen_decoder@iso", "random"]
    # the other arms of the run; `@world` is in the rows alone
    assert set(rows_of(part[0].folder).query("metric == 'firing_rate'")["arm"]) == {"@world"}
    assert (report.claim, report.recipe) == ("artefact", None)  # two worlds cannot speak of a recipe


def test_the_oracle_s_rows_say_that_it_knows_everything(part):
    (part, report) = part
    rows = rows_of(part.folder)
    for metric in ("recovered_0.8", "recovered_0.9", "matched_0.8", "matched_0.9", "weighted_recovery_0.8", "mcc"):
        assert values(rows, "@oracle", metric).to_numpy() == pytest.approx(1.0, abs=1e-6), metric
    for metric in ("best_cosine", "matched_cosine"):
        assert len(values(rows, "@oracle", metric)) == 2 * 48
        assert values(rows, "@oracle", metric).min() == pytest.approx(1.0, abs=1e-6)
    detail = report.suites[0].detail
    assert detail.chance_mean_cosine == expected_max_cosine(12, 48)
    # 48 features and 48 latents, either of which moves the mean by about .015
    assert values(rows, "@chance", "best_cosine").mean() == pytest.approx(detail.chance_mean_cosine, abs=0.06)
    scores = {score.arm: score for score in detail.scores}
    assert (scores["@oracle"].normalised, scores["@chance"].normalised) == (1.0, 0.0)
    assert scores["@oracle"].explained_variance > scores["@chance"].explained_variance + 0.05


@pytest.mark.parametrize("architecture", TIED)
def test_oracle_and_chance_in_every_encoder(architecture, tmp_path):
    settings = tiny_worlds(architecture=architecture, n_features=300, d_in=20)
    world = make_world(settings.spec, 0)
    place = (ArmStore(tmp_path), Silent(), BaselineStore(None))
    maker = ArmMaker(synthetic_plan(settings), material_of(world, settings), *place)
    rows = {}
    for name, baseline in {"oracle": Oracle(truth=world.features), "chance": parse_arm("random")}.items():
        sae = maker.reference(baseline, CHANCE_SEED)
        frame = pd.DataFrame(world_rows(sae, world, n_samples=2000, seed=EVALUATION))
        rows[name] = frame.groupby("metric")["value"].mean()
        assert rows[name]["l0"] == pytest.approx(3.0, rel=0.1)
    for metric in ("best_cosine", "matched_cosine", "recovered_0.9", "matched_0.9", "weighted_recovery_0.8"):
        assert rows["oracle"][metric] == pytest.approx(1.0, abs=1e-6), metric
    # 300 features and 300 latents, either of which moves the mean by about .005
    assert rows["chance"]["best_cosine"] == pytest.approx(expected_max_cosine(20, 300), abs=0.02)
    assert rows["oracle"]["explained_variance"] > rows["chance"]["explained_variance"] + 0.05


def test_arms_learn_on_their_device(tmp_path):
    """`meta` stands for a GPU: batches go there and arms are others."""
    settings = tiny_worlds()
    material = material_of(make_world(settings.spec, 0), settings)
    place = (ArmStore(tmp_path), Silent(), BaselineStore(None))
    here, there = (ArmMaker(synthetic_plan(settings), replace(material, device=d), *place) for d in ("cpu", "meta"))
    assert (next(here._stream(0)).device.type, next(there._stream(0)).device.type) == ("cpu", "meta")
    assert here.key(ArmSeed("trained", 0)) != there.key(ArmSeed("trained", 0))
    assert material_of(make_world(settings.spec, 0), settings.model_copy(update={"device": "meta"})).device == "meta"


def test_a_gpu_without_room_is_one_line(tmp_path, monkeypatch):
    settings = tiny_worlds()
    maker = ArmMaker(
        synthetic_plan(settings),
        material_of(make_world(settings.spec, 0), settings),
        ArmStore(tmp_path),
        Silent(),
        BaselineStore(None),
    )

    def full(*_, **__):
        raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")

    monkeypatch.setattr("sae_sanity.harness.arms.train_together", full)
    with pytest.raises(UsageError, match=r"device is 'cpu', whose memory has no room to train 4 SAEs of 48 latents"):
        maker.make()


def test_no_start_knows_the_truth_though_seeds_coincide(part):
    """World s draws features from seed s, start s directions from seed s."""
    (part, _) = part
    for seed in part.settings.world_seeds:
        truth = make_world(part.settings.spec, seed).features
        store = ArmStore(part.folder / "worlds" / f"seed-{seed}")
        for start in range(3):
            rows = store.load(ArmSeed("random", start)).W_dec.detach()
            cosine = truth @ torch.nn.functional.normalize(rows, dim=1).T
            # of 48 x 48 in R^12 the largest is about .88; for .99 the chance is below 1e-6
            assert cosine.max() < 0.99
            best = cosine.amax(1)
            assert best.mean().item() == pytest.approx(expected_max_cosine(12, 48), abs=0.07)


def test_a_start_of_one_world_is_no_start_of_another(part):
    run, _ = part
    stores = [ArmStore(run.folder / "worlds" / f"seed-{world}") for world in (0, 1)]
    rows = [store.load(ArmSeed("random", 0)).W_dec.detach() for store in stores]
    cosines = torch.nn.functional.cosine_similarity(rows[0], rows[1])
    # Two uniform directions in 12 dimensions: cosines of mean 0 and standard deviation 1 / sqrt(12).
    assert abs(float(cosines.mean())) < 4 / (12 * len(cosines)) ** 0.5
    assert float(cosines.abs().max()) < 0.95


def test_training_and_calibration_leave_directions_alone(part):
    """The last point of the curve is what the rows of the finished arm say."""
    (part, _) = part
    rows = rows_of(part.folder)
    points = json.loads((part.folder / "curve.json").read_text())
    last = part.settings.samples // part.settings.batch_size * part.settings.batch_size
    for arm in ("trained", "frozen_decoder@iso", "soft_frozen@0.8", "frozen_encoder@iso"):
        for world in part.settings.world_seeds:
            mine = rows.query("arm == @arm and cluster == @name", local_dict={"arm": arm, "name": f"world-{world}"})
            found = mine.loc[mine["metric"] == "recovered_0.8", "value"].mean()
            assert points[f"{world}/{arm}/0/{last}"] == pytest.approx(found, abs=1e-7)
    assert len({value for key, value in points.items() if key.startswith("0/trained")}) > 1  # it has learnt something


def test_two_folders_hold_the_same_bytes(part, tmp_path):
    (whole, report) = part
    again = Part(whole.settings, tmp_path / "again")
    found = run_synthetic(again.settings, again.folder, Silent(), watch=Curve(again).watch)
    one, two = results_of(whole.folder), results_of(again.folder)
    assert one == two
    assert len([name for name in one if name.startswith("cells/")]) > 40
    assert found.suites == report.suites


def test_killed_in_training_and_in_measuring_it_ends_in_the_same_bytes(part, tmp_path, monkeypatch):
    (whole, report) = part
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    mine = Part(whole.settings, tmp_path / "killed")

    def go(progress):
        return run_synthetic(mine.settings, mine.folder, progress, watch=Curve(mine).watch)

    with pytest.raises(KeyboardInterrupt):
        go(Interrupted("measuring", number=1, done=5))
    assert len(list(mine.folder.glob("cells/*.json"))) == 5
    with pytest.raises(KeyboardInterrupt):
        go(Interrupted("training", number=1, done=40))  # the first world's arms are there, so this is the second's
    assert (mine.folder / "worlds/seed-1/training.safetensors").exists()
    with pytest.raises(UsageError, match="holds no finished run"):
        report_of(mine.folder)
    points = len(json.loads((mine.folder / "curve.json").read_text()))
    told = Told()
    assert go(told).suites == report.suites
    assert next(done for stage, done in told.lines if stage.startswith("training")) == 40  # not from the beginning
    assert results_of(mine.folder) == results_of(whole.folder)
    assert points < len(json.loads((mine.folder / "curve.json").read_text()))


def test_a_second_call_measures_nothing_and_report_says_the_same(part, monkeypatch):
    (part, report) = part
    monkeypatch.setattr("sae_sanity.harness.arms.train_together", None)  # would raise if it were called
    monkeypatch.setattr("sae_sanity.harness.synthetic.run.world_rows", None)
    before = {p: p.stat().st_mtime_ns for p in part.folder.rglob("*.parquet")}
    assert run_synthetic(part.settings, part.folder, Silent()) == report
    assert {p: p.stat().st_mtime_ns for p in part.folder.rglob("*.parquet")} == before
    assert report_of(part.folder) == report


def test_another_configuration_and_another_run_are_refused(part):
    (part, _) = part
    before = results_of(part.folder)
    with pytest.raises(StoreError, match=r"holds the results of another run: lr is 0.01 there and 0.002 here"):
        run_synthetic(part.settings.model_copy(update={"lr": 2e-3}), part.folder, Silent())
    with locked(part.folder), pytest.raises(InUseError, match="in use by another check"):
        run_synthetic(part.settings, part.folder, Silent())
    assert results_of(part.folder) == before


def test_three_worlds_speak_of_the_recipe_and_the_first_two_are_the_same(part, tmp_path):
    (part, _) = part
    report = run_synthetic(tiny_worlds(worlds=3), tmp_path / "more", Silent())
    assert report.claim == "recipe"
    here, there = ({p.name for p in f.glob("cells/*.parquet")} for f in (tmp_path / "more", part.folder))
    assert there < here


def test_the_first_world_s_seed_and_a_null_that_was_left_out(tmp_path):
    settings = tiny_worlds(samples=4096, baselines=["soft_frozen"], seed=1)
    report = run_synthetic(settings, tmp_path / "r", Silent())
    assert {skip.what for skip in report.skipped} == {"frozen_decoder", "frozen_encoder"}
    assert [c.baseline for c in report.suites[0].comparisons if c.required] == ["random"]
    assert set(rows_of(tmp_path / "r")["cluster"]) == {"world-1", "world-2"}
