"""Sweeps of small SAEs: many checks from one file, each as `check` alone would do it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from command_line import call
from hub_contents import save_world
from tiny_saes import tied_topk
from tiny_site import TINY

from sae_sanity.harness import sweep
from sae_sanity.harness.check import run_check
from sae_sanity.harness.cli_sweep import overview_of
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.estimate import sae_bytes
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.record import report_of
from sae_sanity.harness.sweep import plan_sweep, read_sweep, run_sweep
from sae_sanity.harness.sweep_plan import shares, sweep_as_json, sweep_as_tables, total
from sae_sanity.harness.sweep_progress import RichSweepProgress, SweepProgress, printable
from sae_sanity.results.sweep import SweepOverview

QUICK = TINY | {"tokens": 4096, "held_out_documents": 60}
NAMED = {"target", "l0"}
SMALL = {
    "suites": ["reconstruction"],
    "baselines": ["frozen_decoder"],
    "context_size": 32,
    "seeds": 2,
    "random_seeds": 3,
    "probe_datasets": "smoke",
    "tokens": 4096,
    "batch_size": 256,
    "calibration_tokens": 6000,
    "held_out_documents": 60,
    "ce_documents": 4,
}


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A folder with a language model and texts."""
    return save_world(tmp_path_factory.mktemp("sweep-world"))


def toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def written(path: Path, defaults: dict, *runs: dict) -> Path:
    """A sweep's file of its defaults and its runs."""
    lines = ["[defaults]", *(f"{k} = {toml(v)}" for k, v in defaults.items())]
    for run in runs:
        lines += ["[[run]]", *(f"{k} = {toml(v)}" for k, v in run.items())]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def write(tmp_path):
    """Write a sweep's file from its defaults and its runs."""
    return lambda defaults, *runs: written(tmp_path / "my.toml", defaults, *runs)


RECIPES = {k: v for k, v in QUICK.items() if k not in NAMED}, {"target": "tiny", "l0": [4.0, 6.0]}


@pytest.fixture
def recipes(write):
    """Two recipes on the tiny model that differ in their L0."""
    return write(*RECIPES)


@pytest.fixture(scope="module")
def _swept(cache, tmp_path_factory):
    root = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAE_SANITY_CACHE", str(cache))
        patch.setenv("SAE_SANITY_BASELINES", "none")
        return go(written(root / "my.toml", *RECIPES), root / "sweep"), root / "sweep"


@pytest.fixture
def swept(_swept, tmp_path):
    """Report of the finished sweep of `recipes`, and a copy of its folder."""
    report, folder = _swept
    shutil.copytree(folder, tmp_path / "sweep")
    return report, tmp_path / "sweep"


@pytest.fixture
def folders(write, world, tmp_path):
    """Three SAEs in folders, one of them damaged."""
    for n in range(2):
        tied_topk(n).save_model(tmp_path / f"saes/good-{n}")
    tied_topk(7).save_model(tmp_path / "saes/torn")
    weights = tmp_path / "saes/torn/sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    texts = {"model": str(world / "models/gpt2"), "texts": str(world / "texts.jsonl")}
    return write(texts | SMALL, {"target": str(tmp_path / "saes"), "sae_id": ["*"]})


class Noted(Silent):
    """Keeps the names of stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def start(self, stage, total):
        self.stages.append(stage)


def go(path: Path, folder: Path, inner=None):
    return run_sweep(plan_sweep(path), folder, SweepProgress(inner or Silent()))


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file that says what was found."""
    kept = [p for p in folder.rglob("*") if p.suffix in (".parquet", ".safetensors", ".json") and p.is_file()]
    return {str(p.relative_to(folder)): p.read_bytes() for p in kept}


# the file


def test_lists_of_single_values_are_every_combination(write):
    path = write({"profile": "smoke"}, {"target": "demo", "l0": [16, 32], "d_sae": [256, 512]}, {"target": ["a", "b"]})
    found = read_sweep(path, {})
    assert [(s.target, s.l0, s.d_sae) for s in found] == [
        ("demo", 16, 256),
        ("demo", 16, 512),
        ("demo", 32, 256),
        ("demo", 32, 512),
        ("a", 32, 512),
        ("b", 32, 512),
    ]


def test_settings_that_are_lists_stay_lists(write):
    path = write({}, {"target": "a", "sae_id": ["x", "y*"], "suites": ["reconstruction"], "tau": [0.8, 0.9]})
    (found,) = read_sweep(path, {})
    assert (found.sae_id, found.suites, found.tau) == (("x", "y*"), ("reconstruction",), (0.8, 0.9))


def test_runs_win_over_defaults_and_the_environment_over_both(write):
    path = write({"seeds": 4, "tokens": 8192, "seed": 1}, {"target": "a", "tokens": 16_384, "seed": 2})
    (found,) = read_sweep(path, {"SAE_SANITY_SEED": "3"})
    assert (found.seeds, found.tokens, found.seed) == (4, 16_384, 3)
    assert {"seeds", "tokens"} <= found.from_file
    assert "seed" not in found.from_file


def test_the_working_directory_s_configuration_is_not_read(write, tmp_path):
    (tmp_path / "sae-sanity.toml").write_text("seeds = 9\n")
    (found,) = read_sweep(write({"seeds": 4}, {"target": "a"}), {})
    assert found.seeds == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "asks for nothing"),
        ("[defaults]\nseeds = 3\n", "asks for nothing"),
        ("run = 3\n", "asks for nothing"),
        ("[[runs]]\ntarget = 'a'\n", "did you mean 'run'"),
        ("defaults = 3\n[[run]]\ntarget = 'a'\n", "must be a table"),
        ("[[run]]\nseeds = 3\n", "no target"),
        ("[[run]]\ntarget = []\n", "target is an empty list"),
        ("[[run]]\ntarget = 'a'\nseedz = 3\n", "did you mean 'seed"),
        ("[[run]]\ntarget = 'a'\n[[run]]\ntarget = 'b'\nseeds = 0\n", r"\[\[run\]\] 2: seeds is 0"),
        ("[[run]]\ntarget = 'a'\nprofile = 'demoo'\n", "did you mean 'demo'"),
        ("[[run]]\ntarget = 'a'\nprofile = [['demo']]\n", "no such profile"),
        ("[[run]]\ntarget = 'a'\n[run.policy]\nseeds = 3\n", "one for the whole sweep"),
        ("[defaults.policy]\nlock = 'x.json'\n[[run]]\ntarget = 'a'\n", "registers the plan of one check"),
        ("[[run]\n", "must be TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, text, message):
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        read_sweep(path, {})
    assert "\n" not in str(error.value)


def test_a_target_that_is_not_there_is_found_before_anything_is_written(write, tmp_path):
    path = write(QUICK, {"target": ["tiny", "no-such-release"]})
    with pytest.raises(UsageError, match="no such target"):
        plan_sweep(path)
    assert not (tmp_path / "sae-sanity-results").exists()


def test_names_tell_saes_apart(write, tmp_path):
    for n in range(2):
        tied_topk(n).save_model(tmp_path / f"saes/s{n}")
    model = {"model": "gpt2", "texts": "packaged"}
    one = write(model | SMALL, {"target": str(tmp_path / "saes"), "sae_id": ["*"]})
    assert [m.name for m in plan_sweep(one).members] == ["s0", "s1"]
    twice = write(model | SMALL, *[{"target": str(tmp_path / "saes"), "sae_id": ["*"]}] * 2)
    assert [m.name for m in plan_sweep(twice).members] == ["s0", "s1"]  # the same check twice is one
    seeds = write(model | SMALL, {"target": str(tmp_path / "saes"), "sae_id": ["s0"], "seeds": [3, 4]})
    assert [m.name for m in plan_sweep(seeds).members] == ["s0 seeds=3", "s0 seeds=4"]
    mixed = write(QUICK | model | SMALL, {"target": str(tmp_path / "saes/s0")}, {"target": str(tmp_path / "saes/s1")})
    names = [m.name for m in plan_sweep(mixed).members]
    assert names == [str(tmp_path / "saes/s0"), str(tmp_path / "saes/s1")]


# running it


def test_every_check_is_what_check_alone_would_do_and_all_are_judged_together(recipes, swept, tmp_path):
    report, _ = swept
    members = plan_sweep(recipes).members
    assert [m.name for m in members] == ["tiny l0=4", "tiny l0=6"]
    for member in members:
        alone = run_check(member.settings, tmp_path / "alone" / member.place, Silent())
        inside = tmp_path / "sweep" / member.place
        ours, theirs = bytes_of(inside / "cells"), bytes_of(tmp_path / "alone" / member.place / "cells")
        assert ours == theirs
        assert len(ours) > 20
        there = report_of(inside)
        assert there.suites == alone.suites
        assert [s.p for s in report.suites if s.subject == member.name] == [s.p for s in alone.suites]
    assert report_of(tmp_path / "sweep") == report
    assert report.manifest.command.startswith("sae-sanity sweep")


def test_one_that_cannot_be_checked_leaves_the_others_and_the_sweep_incomplete(folders, tmp_path):
    report = go(folders, tmp_path / "sweep")
    assert {s.subject for s in report.suites} == {"good-0", "good-1"}
    (torn,) = [skip for skip in report.skipped if skip.what == "torn"]
    assert "safetensors" in torn.reason
    assert report.exit_code in (1, 4)


def test_a_bug_that_one_meets_costs_the_others_nothing(recipes, tmp_path, monkeypatch, capsys):
    def sometimes(settings, *rest, **options):
        if settings.l0 == 4:
            raise RuntimeError("a\nbug")
        return run_check(settings, *rest, **options)

    monkeypatch.setattr(sweep, "run_check", sometimes)
    report = go(recipes, tmp_path / "sweep")
    assert {s.subject for s in report.suites} == {"tiny l0=6"}
    assert report.skipped[0].what == "tiny l0=4"
    assert report.skipped[0].reason == "internal error, RuntimeError: a bug"
    assert "Traceback" in capsys.readouterr().err


def test_a_full_disk_stops_all(recipes, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweep, "run_check", full)
    with pytest.raises(OSError, match="No space"):
        go(recipes, tmp_path / "sweep")


def test_where_nothing_can_be_checked_that_is_said(recipes, tmp_path, monkeypatch):
    def never(*_, **__):
        raise UsageError("no")

    monkeypatch.setattr(sweep, "run_check", never)
    with pytest.raises(UsageError, match="none of the 2 SAEs could be checked; tiny l0=4: no"):
        go(recipes, tmp_path / "sweep")


def test_a_sweep_that_was_stopped_goes_on_to_the_same_bytes(recipes, swept, tmp_path):
    _, finished = swept

    class Stops(Noted):
        def advance(self, done):
            if self.stages[-1].startswith("[2/2]") and "measuring" in self.stages[-1]:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(recipes, tmp_path / "again", Stops())
    assert not (tmp_path / "again/saes.json").exists()
    noted = Noted()
    go(recipes, tmp_path / "again", noted)
    assert not [s for s in noted.stages if "training" in s]
    whole, again = bytes_of(finished), bytes_of(tmp_path / "again")
    assert whole.keys() == again.keys()
    # Commands name the folder.
    assert {k for k in whole if whole[k] != again[k]} <= {k for k in whole if k.endswith(("run.json", "saes.json"))}


def test_a_file_that_grew_goes_on_where_it_was(swept, write):
    more = write({k: v for k, v in QUICK.items() if k not in NAMED}, {"target": "tiny", "l0": [4.0, 6.0, 8.0]})
    noted = Noted()
    report = go(more, swept[1], noted)
    assert [s for s in noted.stages if "training" in s] == ["[3/3] tiny l0=8: training 8 SAEs together"]
    assert {s.subject for s in report.suites} == {"tiny l0=4", "tiny l0=6", "tiny l0=8"}


@pytest.mark.parametrize("l0", [None, 4.0])
def test_the_plan_knows_what_will_be_trained(folders, tmp_path, l0, monkeypatch):
    """Baselines of SAEs of one site, width and set L0 are trained once: planned, and so done."""
    monkeypatch.setenv("SAE_SANITY_BASELINES", str(tmp_path / "kept"))
    if l0:
        folders.write_text(folders.read_text().replace("[[run]]", f"l0 = {l0}\n[[run]]"))
    found = plan_sweep(folders)
    planned = [(share.trainings, share.saved) for share in shares(found)]
    assert planned == ([(4, 0), (0, 4), (0, 4)] if l0 else [(4, 0)] * 3)
    if l0:
        noted = Noted()
        go(folders, tmp_path / "sweep", noted)
        trained = [s for s in noted.stages if "training" in s and "torn" not in s]
        assert trained == ["[1/3] good-0: training 4 SAEs together"]


def test_a_check_reads_again_what_no_earlier_one_has_read(write, tmp_path):
    """AutoInterp reads what every check has read, probing suites what they probe."""
    defaults = {k: v for k, v in QUICK.items() if k not in {*NAMED, "suites"}} | {"judge": "token_statistics"}
    suites = [
        ["reconstruction"],
        ["reconstruction", "autointerp"],
        ["sparse_probing"],
        ["sparse_probing", "autointerp"],
    ]
    found = plan_sweep(write(defaults, *({"target": "tiny", "l0": 4.0 + n, "suites": s} for n, s in enumerate(suites))))
    assert [share.tokens > 0 for share in shares(found)] == [True, False, True, False]


def test_where_no_baselines_are_kept_none_is_saved(folders, monkeypatch):
    monkeypatch.setenv("SAE_SANITY_BASELINES", "none")
    folders.write_text(folders.read_text().replace("[[run]]", "l0 = 4.0\n[[run]]"))
    assert [share.saved for share in shares(plan_sweep(folders))] == [0, 0, 0]


def test_totals_are_the_sum_of_the_checks(recipes, tmp_path):
    found = plan_sweep(recipes)
    each = list(shares(found))
    whole = total(each)
    assert whole.seconds == pytest.approx(sum(s.seconds for s in each))
    assert whole.cells == sum(s.cells for s in each)
    assert each[1].tokens == 0  # read for the first
    data = json.loads(sweep_as_json(found, tmp_path))
    assert [check["name"] for check in data["checks"]] == ["tiny l0=4", "tiny l0=6"]
    assert data["total"]["trainings"] == 16
    assert len(list(sweep_as_tables(found, tmp_path))) == 2


def test_weights_take_the_disk_that_is_planned(tmp_path):
    tied_topk(d_sae=4096).save_model(tmp_path / "sae")
    assert sum(p.stat().st_size for p in (tmp_path / "sae").iterdir()) == pytest.approx(sae_bytes(16, 4096), rel=0.05)


# the command


def test_plan_starts_nothing(recipes, capsys, tmp_path):
    assert call("sweep", recipes, "--plan", "--results", "r") == 0
    out, err = capsys.readouterr()
    assert "tiny l0=4" in out
    assert "in all: 2 checks" in out
    assert err == ""
    assert not (tmp_path / "r").exists()
    assert call("sweep", recipes, "--plan", "--json") == 0
    assert json.loads(capsys.readouterr().out)["total"]["cells"] == 34


def test_a_sweep_from_file_to_files(recipes, capsys, tmp_path):
    names = ["o.svg", "o.png", "o.json", "o.txt", "o.md", "o.xml", "o.html"]
    (tmp_path / "o.png").symlink_to("elsewhere.png")
    outputs = [part for name in names for part in ("--output", tmp_path / name)]
    code = call("sweep", recipes, "--results", "r", "--json", *outputs)
    out, err = capsys.readouterr()
    found = SweepOverview.model_validate_json(out)
    assert code == found.report.exit_code
    assert [row.sae.name for row in found.rows] == ["tiny l0=4", "tiny l0=6"]
    assert [row.l0 for row in found.rows] == pytest.approx([4, 6], rel=0.1)
    assert (tmp_path / "o.json").read_text() == out
    assert "[2/2] tiny l0=6: training 8 SAEs together" in err
    ET.parse(tmp_path / "o.svg")  # noqa: S314  # our own file
    assert all((tmp_path / name).stat().st_size > 500 for name in [*names, "elsewhere.png"])
    assert found == overview_of(Path("r"))
    assert call("report", "r") == code
    assert "tiny l0=6: reconstruction" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "x.doc"], "must be one of .svg, .png"),
        (["--output", "nowhere/x.svg"], "there is no folder"),
        (["--output", "."], "--output is"),
        (["--plan", "--output", "x.svg"], "--plan writes no file"),
        (["--max-cost", "3"], "--judge-price"),
        (["--results", "taken"], "belongs to a check"),
        (["--results", "file"], "cannot be written"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_computed(recipes, capsys, tmp_path, options, message):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/store.json").write_text("{}")
    (tmp_path / "file").write_text("")
    assert call("sweep", recipes, *options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "sae-sanity-results").exists()


def test_no_sweep_in_a_folder():
    with pytest.raises(UsageError, match="holds no finished sweep"):
        overview_of(Path("nothing"))


def test_names_on_a_terminal_do_nothing():
    assert printable("[red]a\x1b[2J") == "(red)a?(2J"
    noted = Noted()
    progress = SweepProgress(noted)
    progress.begin(1, 2, "a\nb")
    progress.start("training", 3)
    assert noted.stages == ["[1/2] a?b: training"]


def test_bars_of_finished_checks_go_away(capsys):
    from sae_sanity.harness.progress import RichProgress

    inner = RichProgress()
    progress = RichSweepProgress(inner)
    for number, name in enumerate("ab", 1):
        progress.begin(number, 2, name)
        progress.start("training", 3)
        progress.finish()
    shown = [(task.description, task.visible) for task in inner.bars.tasks]
    assert shown == [("sweep", True), ("[1/2] a: training", False), ("[2/2] b: training", True)]
    assert inner.bars.tasks[0].completed == 1
