from __future__ import annotations

from types import SimpleNamespace

import pytest

from sae_sanity.harness.baseline_store import cache_folder
from sae_sanity.harness.check import run_check
from sae_sanity.harness.config import resolve
from sae_sanity.harness.estimate import (
    corrected,
    estimate,
    expected,
    expected_in_worlds,
    seconds_of_steps,
    thumb_stages,
)
from sae_sanity.harness.executors.ray import RayExecutor
from sae_sanity.harness.plan import make_plan
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.run import Runner
from sae_sanity.harness.shards import Shard, Turns, Unfinished
from sae_sanity.harness.speeds import About, Speeds, Took
from sae_sanity.harness.synthetic.config import resolve_synthetic
from sae_sanity.harness.synthetic.material import WorldRows
from sae_sanity.harness.timing import Expected, Stopwatch, timed
from sae_sanity.suites.shelf import in_words
from sae_sanity.suites.synthetic import make_world

ABOUT = About("cpu", "model", "batchtopk")
THUMBS = dict.fromkeys(("start", "loading", "activations", "training", "arms", "one", "two", "report"), 1.0)
EXPECTED = Expected(ABOUT, THUMBS, trainings=12, cells={"one": 2, "two": 3})


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SAE_SANITY_CACHE", str(tmp_path / "own-cache"))


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Script:
    """Plays a run as its stages report it, with the seconds that a test wants."""

    def __init__(self, clock: Clock, progress) -> None:
        self.clock, self.progress = clock, progress

    def pause(self, seconds: float) -> None:
        self.clock.now += seconds

    def stage(self, name: str, *advances: tuple[float, int], reads: bool | None = None) -> None:
        self.progress.start(name, 5)
        for seconds, done in advances:
            self.pause(seconds)
            self.progress.advance(done)
        if name.startswith("activations") if reads is None else reads:
            (cache_folder() / "activations" / f"set-{self.clock.now}").mkdir(parents=True)
        self.progress.finish()


def play(tmp_path, steps, expected_=EXPECTED) -> dict[str, float]:
    clock, speeds = Clock(), Speeds(tmp_path / "speeds.json")
    with timed(Silent(), expected_, speeds=speeds, clock=clock) as progress:
        steps(Script(clock, progress))
    return {each.stage: each.seconds for each in Speeds(speeds.path).took}


def a_whole_run(script: Script, *, training: str = "training 12 SAEs together") -> None:
    script.pause(1)
    script.stage("loading the language model and the texts", (4, 1))
    script.stage("activations of the train texts", (10, 1))
    script.stage("activations of the held_out texts", (3, 1))
    script.pause(2)
    script.stage(training, (20, 1), (20, 2))
    script.pause(7)
    script.stage("measuring 5 of 5 cells", (1, 1), (2, 2), (3, 3), (4, 4), (5, 5))
    script.pause(6)


def test_every_stage_of_a_whole_run_is_kept_and_its_gaps_are_those_of_what_follows(tmp_path):
    assert play(tmp_path, a_whole_run) == {
        "loading": 5,
        "activations": 13,
        "training": 42,
        "arms": 7,
        "one": 3,
        "two": 12,
        "report": 6,
    }


def test_activations_that_were_found_in_the_cache_say_nothing(tmp_path):
    def steps(script):
        script.stage("loading the language model and the texts", (4, 1))
        script.stage("activations of the train texts", (2, 1), reads=False)
        script.stage("activations of the held_out texts", (3, 1))

    assert play(tmp_path, steps) == {"loading": 4, "report": 0}


def test_training_that_was_resumed_says_nothing(tmp_path):
    def steps(script):
        script.stage("training 12 SAEs together", (20, 60), (20, 61))

    assert "training" not in play(tmp_path, steps)


def test_training_of_some_says_nothing_of_all(tmp_path):
    found = play(tmp_path, lambda script: a_whole_run(script, training="training 3 SAEs together"))
    assert not {"training", "arms"} & set(found)
    assert "one" in found


def test_cells_of_which_some_were_there_say_nothing(tmp_path):
    def steps(script):
        script.stage("measuring 3 of 5 cells", (1, 1), (2, 2), (3, 3))

    assert set(play(tmp_path, steps)) == {"report"}


def test_cells_that_are_counted_otherwise_say_nothing(tmp_path):
    def steps(script):
        script.stage("measuring 5 of 5 cells", (3, 5))

    assert set(play(tmp_path, steps)) == {"report"}


@pytest.mark.parametrize("reads", [True, False])
def test_probes_whose_texts_were_read_before_say_nothing(tmp_path, reads):
    probing = Expected(ABOUT, THUMBS | {"sparse_probing": 1.0}, 12, {"one": 2, "sparse_probing": 3})

    def steps(script):
        script.stage("training 12 SAEs together", (20, 1))
        script.stage("measuring 5 of 5 cells", (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), reads=reads)

    found = play(tmp_path, steps, probing)
    assert found["one"] == 3
    assert ("sparse_probing" in found) is reads


def test_activations_for_which_others_were_dropped_are_timed(tmp_path):
    """A cache with a limit has as many sets after as before."""
    old = cache_folder() / "activations" / "old"
    old.mkdir(parents=True)

    def steps(script):
        script.progress.start("activations of the train texts", 5)
        script.pause(10)
        old.rmdir()
        (old.parent / "new").mkdir()
        script.progress.finish()

    assert play(tmp_path, steps)["activations"] == 10


def test_the_shelfs_own_files_are_no_activations(tmp_path):
    def steps(script):
        script.progress.start("activations of the train texts", 5)
        for name in (".room", ".dropped-old"):
            (cache_folder() / "activations" / name).mkdir(parents=True)
        script.pause(10)
        script.progress.finish()

    assert "activations" not in play(tmp_path, steps)


def test_of_a_run_that_fails_nothing_is_kept(tmp_path):
    def steps(script):
        script.stage("loading the language model and the texts", (4, 1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(tmp_path, steps)
    assert not (tmp_path / "speeds.json").exists()


@pytest.mark.parametrize("arrives", [(3, 4), (5,)])
def test_of_a_run_with_ray_what_this_process_did_alone_is_kept(tmp_path, arrives):
    """Workers finish in any order, and how many there are no plan knows."""
    name = f"{RayExecutor.name}measuring 5 of 5 cells"

    def steps(script):
        script.stage("training 12 SAEs together", (20, 1), (20, 2))
        script.pause(7)
        script.stage(name, *((1, done) for done in arrives))
        script.pause(6)

    assert play(tmp_path, steps) == {"training": 40, "arms": 7, "report": 6}


def test_a_whole_suite_is_as_slow_as_a_shard_s_share_of_it(tmp_path):
    """Five cells, of which the first shard of two has the first of `one` and the first and third of `two`."""

    def steps(script):
        script.stage(f"{Turns(tmp_path, Shard(0, 2), Silent()).name}measuring 3 of 3 cells", (2, 1), (3, 2), (4, 3))
        raise Unfinished("others are at work")

    with pytest.raises(Unfinished):
        play(tmp_path, steps)
    assert {each.stage: each.seconds for each in Speeds(tmp_path / "speeds.json").took} == {
        "one": 2 * 2 / 1,
        "two": (3 + 4) * 3 / 2,
    }


def test_a_shard_that_found_cells_or_waited_for_others_says_nothing_of_them(tmp_path):
    def steps(script):
        script.stage("waiting for another shard that computes the activations", (50, 1))
        script.stage("activations of the train texts", (2, 1), reads=False)
        script.stage("waiting for another shard that makes the arms", (90, 1))
        script.stage("shard 2/2: measuring 1 of 2 cells", (1, 1))

    assert play(tmp_path, steps) == {"report": 0}


def test_what_a_shard_read_others_may_have_read_before(tmp_path):
    probing = Expected(ABOUT, THUMBS | {"sparse_probing": 1.0}, 12, {"one": 2, "sparse_probing": 2})

    def steps(script):
        script.stage("shard 1/2: measuring 2 of 2 cells", (2, 1), (4, 2), reads=True)

    assert play(tmp_path, steps, probing) == {"one": 4, "report": 0}


def test_shards_of_a_real_check_teach_the_next_plan(settings, tmp_path):
    """Holds the name of a shard's stage, here and where it is reported, together."""
    folder = tmp_path / "results"
    with pytest.raises(Unfinished):
        run_check(settings, folder, Silent(), shard=Shard(0, 2))
    found = {each.stage for each in Speeds.of_user().took}
    assert {"training", "arms", "reconstruction"} <= found
    assert "report" not in found
    run_check(settings, folder, Silent(), shard=Shard(1, 2))
    added = [each.stage for each in Speeds.of_user().took[len(found) :]]
    assert "training" not in added
    assert {"reconstruction", "report"} <= set(added)


def test_the_sparse_step_as_it_was_measured():
    """Milliseconds of a step of one arm, most of them CPU time beside other work: `estimate.py` says of each what."""
    measured = {(256, 24, 192, 4): 1.8, (1024, 50, 800, 8): 4.1, (1024, 100, 3200, 20): 11.1}
    measured |= {(2048, 576, 512, 32): 18.7, (2048, 576, 1024, 32): 31.5, (2048, 576, 4096, 32): 75.4}
    for (batch, d_in, d_sae, l0), milliseconds in measured.items():
        each = seconds_of_steps(1, batch, (d_in, d_sae), float(l0), architecture="batchtopk", sparse=True)
        assert 1e3 * each == pytest.approx(milliseconds, rel=0.2), (d_in, d_sae)
    for (batch, d_in, d_sae, l0), milliseconds in {(1024, 50, 800, 8): 6.4, (2048, 576, 1024, 32): 46.2}.items():
        each = seconds_of_steps(1, batch, (d_in, d_sae), float(l0), architecture="topk", sparse=True)
        assert 1e3 * each == pytest.approx(milliseconds, rel=0.2), (d_in, d_sae)


def test_steps_add_up_and_cost_no_less_with_more_latents_active():
    one = seconds_of_steps(1, 2048, (576, 1024), 32.0, architecture="batchtopk", sparse=True)
    assert seconds_of_steps(10, 2048, (576, 1024), 32.0, architecture="batchtopk", sparse=True) == pytest.approx(
        10 * one
    )
    assert seconds_of_steps(1, 2048, (576, 1024), 128.0, architecture="batchtopk", sparse=True) > one
    assert seconds_of_steps(1, 2048, (576, 1024), None, architecture="batchtopk", sparse=True) > one
    assert seconds_of_steps(1, 2048, (576, 1024), 32.0, architecture="batchtopk", sparse=False) == pytest.approx(
        2048 * 576 * 1024 * 5.3e-11
    )


@pytest.mark.parametrize(
    ("changes", "sparse"),
    [({}, True), ({"architecture": "topk"}, True), ({"architecture": "jumprelu"}, False), ({"device": "cuda"}, False)],
)
def test_training_is_planned_by_the_step_that_will_be_taken(monkeypatch, changes, sparse):
    monkeypatch.setattr("sae_sanity.harness.estimate.has_bfloat16_units", lambda: True)
    plan = make_plan(resolve(changes, environ={}))
    s = plan.settings
    each = seconds_of_steps(plan.steps, s.batch_size, (576, s.d_sae), s.l0, architecture=s.architecture, sparse=sparse)
    stages = thumb_stages(plan, {"reconstruction": 160})
    assert stages["training"] == pytest.approx(each * len(plan.trained) * s.seeds)


@pytest.mark.parametrize(("device", "expected"), [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("mps", "cpu")])
def test_arms_learn_on_a_gpu_where_the_check_has_one(device, expected, tmp_path):
    plan = make_plan(resolve({"device": device}, environ={}))
    rows = WorldRows(make_world(resolve_synthetic({"preset": "smoke"}).spec, 0), 1, 0)
    texts = dict.fromkeys(("train", "calibration", "held_out_activations"), rows)
    site = SimpleNamespace(weights_sha256="", centre=False)
    subject = SimpleNamespace(**texts, artefact=None, model_name="", hashes={}, site=site)
    assert Runner(plan, subject, (), tmp_path, Silent()).maker.material.device == expected


def test_worlds_are_one_stage(tmp_path):
    def steps(script):
        for number in (1, 2):
            script.stage(f"world {number} of 2 (variable)", (1, 1))
            script.stage("training 4 SAEs together", (10, 1))
            script.pause(2)
            script.stage("measuring 9 of 9 SAEs and references", (5, 9))

    worlds = Expected(ABOUT, {"synthetic": 1.0, "report": 1.0}, 0, {})
    assert play(tmp_path, steps, worlds) == {"synthetic": 36, "report": 0}


def test_worlds_that_were_there_say_nothing(tmp_path):
    def steps(script):
        script.stage("world 1 of 2 (variable)", (1, 1))
        script.stage("measuring 0 of 9 SAEs and references")

    worlds = Expected(ABOUT, {"synthetic": 1.0, "report": 1.0}, 0, {})
    assert set(play(tmp_path, steps, worlds)) == {"report"}


def test_progress_is_passed_on():
    seen = []

    class Seen(Silent):
        def start(self, stage, total):
            seen.append((stage, total))

        def advance(self, done):
            seen.append(done)

        def finish(self):
            seen.append("end")

    watch = Stopwatch(Seen())
    watch.start("a", 3)
    watch.advance(1)
    watch.finish()
    assert seen == [("a", 3), 1, "end"]


def test_a_real_check_is_timed_whole_and_the_next_plan_knows_it(settings, run):
    """Holds the names of the stages, here and where they are reported, together."""
    run(settings)
    found = {each.stage: each for each in Speeds.of_user().took}
    # The tiny subject loads without a word.
    assert set(found) == {"activations", "training", "arms", "reconstruction", "report"}
    plan = make_plan(settings)
    assert {name: each.thumb for name, each in found.items()} == {
        name: thumb for name, thumb in expected(plan).thumbs.items() if name in found
    }
    cost = estimate(plan, {"reconstruction": 100}, speeds=Speeds.of_user())
    assert cost.measured == {*found, "start"}
    assert {name: cost.stages[name] for name in found} == pytest.approx(
        {name: each.seconds for name, each in found.items()}
    )


def test_nothing_is_kept_of_a_check_that_is_only_looked_at_again(settings, run):
    run(settings)
    before = Speeds.of_user().took
    run(settings)
    assert {each.stage for each in Speeds.of_user().took[len(before) :]} <= {"loading", "report"}


def test_cells_of_a_real_check_are_counted_as_they_are_measured(settings, run, tmp_path, monkeypatch):
    cells = expected(make_plan(settings)).cells
    _, folder = run(settings)
    assert cells == {"reconstruction": len(list((folder / "cells").glob("*.parquet")))}


def test_stages_add_up_and_are_corrected_one_by_one(tmp_path):
    plan = make_plan(resolve({}, environ={}))
    clusters = {"reconstruction": 160, "sparse_probing": 16}
    thumbs = thumb_stages(plan, clusters)
    assert sum(thumbs.values()) == pytest.approx(estimate(plan, clusters).seconds)
    speeds = Speeds(tmp_path / "speeds.json")
    known = expected(plan).about
    speeds.add([Took("training", known, 10.0, 30.0)])
    stages, measured = corrected(thumbs, known, speeds)
    # Imports are timed by nobody and are as slow as the rest.
    assert stages == thumbs | {"training": 3 * thumbs["training"], "start": 3 * thumbs["start"]}
    assert measured == {"start", "training"}


def test_a_synthetic_run_has_one_stage():
    thumbs = expected_in_worlds(resolve_synthetic({"preset": "smoke"})).thumbs
    assert set(thumbs) == {"synthetic", "report"}
    assert all(seconds > 0 for seconds in thumbs.values())


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (7_379_780, "7.38 MB"), (2e12, "2e+03 GB")],
)
def test_bytes_as_people_read_them(n_bytes, words):
    assert in_words(n_bytes) == words
