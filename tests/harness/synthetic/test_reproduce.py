"""The published experiment in miniature: parts, curves, processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil
import pytest
import torch
from tiny_worlds import TINY_WORLDS, Told, results_of, rows_of, values

from sae_sanity.harness import cli
from sae_sanity.harness.cli_synthetic import exit_code_of
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.synthetic import reproduce as module
from sae_sanity.harness.synthetic.config import resolve_synthetic
from sae_sanity.harness.synthetic.reproduce import Curve, of_published_size, parts_of, replication_of, reproduce
from sae_sanity.results.replication import Line, Replication, published_numbers

FLAGS = TINY_WORLDS | {"samples": 4096, "baselines": ["random"]}


@pytest.fixture(scope="module", autouse=True)
def _two_parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WORLDS", ("constant",))
        patch.setattr(module, "ARCHITECTURES", ("batchtopk", "topk"))
        yield


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The experiment in one process."""
    folder = tmp_path_factory.mktemp("one") / "results"
    told = Told()
    return folder, reproduce(folder, FLAGS, told), told


def but_the_folder(found):
    """A manifest names the results folder in its command."""
    manifests = {name: manifest.model_copy(update={"command": ""}) for name, manifest in found.manifests.items()}
    return found.model_copy(update={"manifests": manifests})


def test_the_paper_s_four_architectures_in_two_worlds(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WORLDS", ("constant", "variable"))
        patch.setattr(module, "ARCHITECTURES", ("batchtopk", "jumprelu", "topk", "matryoshka_batchtopk"))
        parts = parts_of(tmp_path, {"preset": "paper"})
    published = {(line.world, line.architecture) for line in module.published_numbers()}
    assert published <= {(p.settings.world, p.settings.architecture) for p in parts}
    assert {(p.settings.n_features, p.settings.d_in, p.settings.worlds) for p in parts} == {(3200, 100, 3)}


def test_ours_are_the_rows_of_the_parts(one):
    folder, found, _ = one
    lines = {(line.published.architecture, line.published.metric): line for line in found.lines[:6]}
    for architecture in ("batchtopk", "topk"):
        rows = rows_of(folder / "constant" / architecture)
        mean = values(rows, "trained", "recovered_0.8").mean()
        assert lines[architecture, "recovered_0.8"].ours == pytest.approx(mean)
        arm = next(a for a in found.arms if (a.architecture, a.arm) == (architecture, "@oracle"))
        assert (arm.recovered, arm.n_worlds) == (1.0, 2)
    assert lines["jumprelu", "recovered_0.8"].verdict == "NOT RUN"
    assert all(line.verdict == "NOT RUN" for line in found.lines if line.published.world == "variable")
    assert set(found.manifests) == {"constant/batchtopk", "constant/topk"}


def test_the_curve_ends_where_the_rows_are(one):
    folder, found, _ = one
    points = [p for p in found.curves if (p.architecture, p.arm) == ("topk", "trained")]
    assert [p.samples for p in points] == sorted(p.samples for p in points)
    assert points[-1].samples == 4096
    rows = rows_of(folder / "constant" / "topk")
    assert points[-1].recovered == pytest.approx(values(rows, "trained", "recovered_0.8").mean())
    assert len(points[-1].by_world) == 2


def test_the_file_holds_what_was_returned(one):
    folder, found, _ = one
    assert Replication.model_validate_json((folder / module.FILE).read_text()) == found


def test_progress_is_told_of_each_stage(one):
    _, _, told = one
    stages = [stage for stage, _ in told.lines]
    assert sum(stage.startswith("measuring") and done == 1 for stage, done in told.lines) == 4
    assert not any(stage.startswith("2 recipes") for stage in stages)


def test_two_processes_write_the_same_bytes(one, tmp_path):
    folder, found, _ = one
    assert torch.get_num_threads() == 1  # as in the children
    told = Told()
    other = reproduce(tmp_path / "two", FLAGS, told, jobs=2)
    mine, theirs = results_of(tmp_path / "two"), results_of(folder)
    assert mine.pop(module.FILE) != theirs.pop(module.FILE)  # the folders' names; compared below without them
    assert mine == theirs
    assert but_the_folder(other) == but_the_folder(found)
    assert [done for _, done in told.lines] == [1, 2]


def test_a_part_that_was_not_run_is_said(tmp_path):
    found = replication_of(parts_of(tmp_path, FLAGS))
    assert {line.verdict for line in found.lines} == {"NOT RUN"}
    assert (found.arms, found.curves) == ((), ())


def test_processes_share_the_memory(tmp_path, monkeypatch):
    """What fits alone does not fit beside another: refused before either starts."""
    monkeypatch.setattr(module, "available_bytes", lambda: 2 * 2**30)
    with pytest.raises(UsageError, match=r"of the 1\.0 GiB that it may use"):
        reproduce(tmp_path / "r", FLAGS, Silent(), jobs=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_bad_input_is_one_line_exit_2_and_nothing_is_written(jobs, capsys, tmp_path):
    for flags, message in (
        (["korznikov"], "no such experiment: 'korznikov'; did you mean 'korznikov2026-synthetic'"),
        (["--preset", "papr"], "no such preset: 'papr'; did you mean 'paper'"),
        (["--lr", "nan"], "lr is 'nan'"),
        (["--baselines", "randm"], "no such baseline: 'randm'; did you mean random"),
        (["--n-features", "90000000"], "would fit"),
        (["--world", "constant"], "--world"),
    ):
        assert cli.main(["reproduce", *flags, "--jobs", jobs]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.strip().splitlines()
        assert message in line
    assert cli.main(["reproduce", "--jobs", "0"]) == 2
    assert not list(tmp_path.iterdir())


def test_the_command_prints_json_alone(one, capsys):
    folder, found, _ = one
    flags = ["--samples", "4096", "--baselines", "random", "--jobs", "1", "--results", str(folder)]
    for name, value in TINY_WORLDS.items():
        if name != "samples":
            flags += [f"--{name.replace('_', '-')}", str(value)]
    assert cli.main(["reproduce", *flags, "--json"]) == 0
    assert Replication.model_validate(json.loads(capsys.readouterr().out)) == found
    assert cli.main(["reproduce", *flags]) == 0
    assert "not of the paper's size" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("same_size", "verdict", "code"),
    [(True, "DIFFERS", 1), (True, "NOT RUN", 1), (True, "PASS", 0), (False, "OTHER SIZE", 0)],
)
def test_only_the_published_size_can_miss_a_published_number(same_size, verdict, code):
    line = Line(published=published_numbers()[0], ours=0.5, by_world=(0.5,), lo=None, hi=None, verdict=verdict)
    found = Replication(
        paper="p",
        preset="paper",
        published_size=same_size,
        lines=(line,),
        arms=(),
        verdicts=(),
        curves=(),
        manifests={},
    )
    assert exit_code_of(found) == code


def test_the_published_size_is_a_matter_of_numbers_not_of_the_preset_s_name():
    assert of_published_size(resolve_synthetic({"preset": "paper"}))
    assert of_published_size(resolve_synthetic({"preset": "paper", "samples": 5000, "evaluation_samples": 100}))
    for name, value in {"n_features": 3199, "d_in": 99, "world_l0": 19.0, "d_sae": 1600, "l0": 10.0}.items():
        assert not of_published_size(resolve_synthetic({"preset": "paper", name: value}))


def test_a_damaged_curve_is_one_line(tmp_path):
    part = parts_of(tmp_path, FLAGS)[0]
    part.folder.mkdir(parents=True)
    (part.folder / "curve.json").write_text("{")
    with pytest.raises(UsageError, match=r"curve\.json is damaged; delete the folder"):
        Curve(part)


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    """kill -9 of the command: nobody goes on for hours behind its back, holding the folders."""
    flags = ["--preset", "smoke", "--samples", "50000000", "--jobs", "2", "--results", str(tmp_path / "r")]
    code = "import sys; from sae_sanity.harness.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "reproduce", *flags]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as parent:
        workers: list[psutil.Process] = []
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and len(list((tmp_path / "r").rglob(".lock"))) < 2:
            time.sleep(0.2)
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(list((tmp_path / "r").rglob(".lock"))) == 2
        parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
