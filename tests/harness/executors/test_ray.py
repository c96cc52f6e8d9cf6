"""A real Ray cluster of two nodes on this machine, against the same check in one process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from pathlib import Path

import psutil
import pytest
import torch
from tiny_site import TINY, tiny_subject

from sae_sanity.baselines.wrap import Artefact, load_folder
from sae_sanity.harness import check
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.executors.executor import Bench, Cell, Found, executing
from sae_sanity.harness.executors.worker import Blueprint, Refusal, Worker
from sae_sanity.harness.plan import ArmSeed, make_plan
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.record import load_record, versions
from sae_sanity.results.outcome import CheckReport
from sae_sanity.results.store import Store

ray = pytest.importorskip("ray")
from sae_sanity.harness.executors.ray import Crew, Need, RayExecutor  # noqa: E402

SUPPORT = Path(__file__).parents[2] / "support"


def cells(folder: Path) -> dict[str, bytes]:
    """Bytes of every cell."""
    return {p.name: p.read_bytes() for p in sorted((folder / "cells").iterdir()) if not p.name.startswith(".")}


def same(one: CheckReport, two: CheckReport) -> bool:
    """Whether two reports agree in all but the folder that their command names."""
    return one.model_copy(update={"manifest": None}) == two.model_copy(update={"manifest": None})


@pytest.fixture
def unmeasured(finished, tmp_path):
    """The report and the cells of a finished check, and its folder with the arms alone."""
    report, folder = finished
    wanted = cells(folder)
    shutil.rmtree(folder / "cells")
    (folder / "run.json").unlink()
    return report, wanted, folder


class Watching(Silent):
    """Does something once so many cells are measured."""

    def __init__(self, **deeds):
        self.deeds = {int(name[1:]): deed for name, deed in deeds.items()}
        self.stage, self.told = "", []

    def start(self, stage, total):
        self.stage = stage

    def advance(self, done):
        if "measuring" in self.stage:
            self.told.append(done)
            for number in [n for n in self.deeds if n <= done]:
                self.deeds.pop(number)()


@pytest.fixture(scope="module")
def two_nodes(cache):
    """Two raylets with a CPU each; workers know the tiny target."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SUPPORT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        second = cluster.add_node(num_cpus=1)
        yield cluster, second
        ray.shutdown()
        cluster.shutdown()


def workers() -> list[psutil.Process]:
    """Processes of our actors on this machine."""
    mine = os.getpid()
    found = psutil.Process(mine).children(recursive=True)
    return [p for p in found if p.is_running() and " ".join(p.cmdline()).startswith("ray::Worker")]


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_node_leave_the_bytes_of_a_local_run(settings, unmeasured, two_nodes, run):
    report, wanted, folder = unmeasured
    cluster, second = two_nodes
    seen = []

    def kill_a_worker():
        seen.append(workers())
        os.kill(seen[0][0].pid, signal.SIGKILL)

    watching = Watching(_3=kill_a_worker, _8=lambda: cluster.remove_node(second, allow_graceful=False))
    with executing("ray", cluster.address) as executor:
        found = check.run_check(settings, folder, watching, executor=executor)
        assert not watching.deeds
        assert len(seen[0]) == 2  # one on each node
        assert cells(folder) == wanted
        assert same(found, report)
        assert watching.stage.startswith("Ray: measuring")
        assert watching.told[-1] == len(wanted) // 2
        # Nothing is left to measure: nobody is asked.
        assert same(check.run_check(settings, folder, Silent(), executor=executor), report)


@pytest.mark.slow
def test_a_cluster_without_room_is_one_line(settings, unmeasured, two_nodes, monkeypatch):
    _, _, folder = unmeasured
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    message = "no node of the Ray cluster has 64 CPUs; set OMP_NUM_THREADS to fewer"
    with executing("ray", two_nodes[0].address) as executor, pytest.raises(UsageError, match=message):
        check.run_check(settings, folder, Silent(), executor=executor)
    assert not list((folder / "cells").glob("*.json"))


LOCAL = """
import json, os, signal, sys
sys.path.insert(0, {support!r})
import psutil
from tiny_site import TINY, tiny_subject
from sae_sanity.harness import cli, subject
from sae_sanity.harness.progress import PlainProgress
from contextlib import contextmanager
subject.TARGETS["tiny"] = tiny_subject

class Looking(PlainProgress):
    def advance(self, done):
        super().advance(done)
        if "measuring" in self.stage and done == 3:
            mine = psutil.Process().children(recursive=True)
            ends = [c for p in [psutil.Process(), *mine] for c in p.net_connections() if c.status == "LISTEN"]
            token, = [os.environ["RAY_AUTH_TOKEN"]]
            named = [p.cmdline() for p in mine if token in " ".join(p.cmdline())]
            json.dump({{"listen": sorted({{c.laddr.ip for c in ends}}), "n": len(ends), "named": len(named),
                        "processes": [p.pid for p in mine]}}, open("looked.json", "w"))
            os.kill(os.getpid(), signal.SIGTERM)  # Ray puts a handler of its own there

@contextmanager
def looking():
    yield Looking(every=0.0)

cli.progress_bars = looking
sys.exit(cli.main(["check", "tiny", "--config", "tiny.toml", "--results", "results", "--executor", "ray"]))
"""


@pytest.mark.slow
def test_a_cluster_of_ones_own_is_for_this_machine_alone_and_ends_with_the_command(settings, unmeasured, tmp_path, run):
    report, wanted, folder = unmeasured
    lines = [f"{name} = {json.dumps(value)}" for name, value in TINY.items() if name != "target"]
    (tmp_path / "tiny.toml").write_text("\n".join(lines))
    key = "sk-not-to-be-seen"
    environ = os.environ | {"PYTHONPATH": str(SUPPORT), "OPENAI_API_KEY": key}
    done = subprocess.run(
        [sys.executable, "-c", LOCAL.format(support=str(SUPPORT))],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 130, done.stderr[-3000:]
    assert done.stderr.splitlines()[-1].startswith("sae-sanity: interrupted; what was finished is kept")
    assert key not in done.stderr + done.stdout
    looked = json.loads((tmp_path / "looked.json").read_text())
    assert looked["n"] >= 4
    assert {ip.removeprefix("::ffff:") for ip in looked["listen"]} == {"127.0.0.1"}
    assert looked["named"] == 0
    deadline = time.monotonic() + 20
    while (left := [pid for pid in looked["processes"] if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in left if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    assert 0 < len(cells(folder)) < len(wanted)
    assert same(run(settings)[0], report)  # in this process, from there
    assert cells(folder) == wanted


def blueprint(folder, settings, cache, **changes):
    given = {
        "plan": make_plan(settings),
        "suites": ("reconstruction",),
        "recipe": tiny_subject,
        "artefact": None,
        "results": folder,
        "cache": cache,
        "threads": 1,
        "versions": versions(),
    }
    return Blueprint(**given | changes)


def test_a_worker_measures_what_this_process_measures_and_nothing_else(settings, finished, cache):
    _, folder = finished
    worker = Worker()
    assert worker.load(blueprint(folder, settings, cache)) is None
    assert {f"{key}.json" for key in worker.cells} == {name for name in cells(folder) if name.endswith(".json")}
    key = load_record(folder).cells[-1]
    cell = worker.cells[key]
    found = worker.measure(cell.suite.name, cell.sae, key)
    assert isinstance(found, Found)
    assert [tuple(row) for row in found.scores] == [
        tuple(row) for row in Store(folder).read(key).itertuples(index=False)
    ]
    other = worker.measure("reconstruction", ArmSeed("trained", 0), "0" * 64)
    assert isinstance(other, Refusal)
    assert "reconstruction of trained seed 0 has another content key" in other.reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"results": Path("/nowhere/results")},
            "there is no /nowhere/results; results must be on a path that all nodes",
        ),
        ({"versions": {"torch": "1.0"}}, "torch is .*, but 1.0 where the check was started"),
    ],
)
def test_a_worker_that_sees_something_else_says_what(settings, finished, cache, changes, message):
    refusal = Worker().load(blueprint(finished[1], settings, cache, **changes))
    assert refusal is not None
    with pytest.raises(UsageError, match=message):
        Crew._refused(None, refusal)
    assert "\n" not in refusal.reason


@pytest.mark.parametrize(("number", "told"), [(errno.EDQUOT, True), (errno.ENOSPC, True), (errno.EMFILE, False)])
def test_a_full_disk_under_a_worker_is_a_line_and_no_bug(settings, finished, cache, monkeypatch, number, told):
    worker = Worker()
    assert worker.load(blueprint(finished[1], settings, cache)) is None

    def full(bench, cell):
        raise OSError(number, "the activations need 2 GB", "/cache/activations")

    monkeypatch.setattr(Bench, "measure", full)
    key, cell = next(iter(worker.cells.items()))
    if not told:
        with pytest.raises(OSError, match="2 GB"):
            worker.measure(cell.suite.name, cell.sae, key)
        return
    refusal = worker.measure(cell.suite.name, cell.sae, key)
    assert isinstance(refusal, Refusal)
    assert not refusal.suite
    assert refusal.reason.endswith(": cannot write /cache/activations: the activations need 2 GB")


def test_a_worker_has_the_limit_of_the_cache_and_no_secret(monkeypatch):
    monkeypatch.setenv("SAE_SANITY_CACHE_MAX", "2GB")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    variables = crew()._options()["runtime_env"]["env_vars"]
    assert variables["SAE_SANITY_CACHE_MAX"] == "2GB"
    assert "OPENAI_API_KEY" not in variables


class Suite:
    """A suite that has a name."""

    def __init__(self, name):
        self.name = name


def crew(*names: str) -> Crew:
    found = Crew(Need(1, 0), object.__new__(Blueprint), object.__new__(Bench))
    found.queue = deque(Cell(Suite(name), ArmSeed("random", i), f"{name}{i}") for i, name in enumerate(names))
    return found


def test_of_a_suite_that_cannot_measure_here_nothing_more_is_tried():
    c = crew("a", "b", "a", "b")
    assert c._refused(Refusal("it knows nothing", suite="a")) == 3  # the one that came back and two that need not go
    assert [cell.key for cell in c.queue] == ["b1", "b3"]
    assert c._refused(Refusal("nor here", suite="a")) == 1  # another worker was at it
    assert [skip.reason for skip in c.skipped.values()] == ["it knows nothing"]


def test_a_cell_that_kills_every_worker_is_named_and_others_are_not_blamed(monkeypatch):
    monkeypatch.setattr(ray, "kill", lambda worker: None)
    c = crew("a", "b")
    for _ in range(2):
        c._bury(None, c.queue.popleft())
        assert [cell.key for cell in c.queue] == ["a0", "b1"]
    c._bury(None, c.queue.pop())
    c._bury(None, None)
    assert c.deaths == Counter({"a0": 2, "b1": 1, "": 1})
    with pytest.raises(UsageError, match=r"3 Ray workers died as they were to measure a of random seed 0; is their"):
        c._bury(None, next(cell for cell in c.queue if cell.key == "a0"))


@pytest.mark.parametrize(
    ("cpus", "gpus", "node", "fits"),
    [(2, 0, {"CPU": 5.0}, 2), (1, 1, {"CPU": 8.0, "GPU": 2.0}, 2), (1, 1, {"CPU": 8.0}, 0), (4, 0, {"CPU": 2.0}, 0)],
)
def test_how_many_workers_a_node_holds(cpus, gpus, node, fits):
    assert Need(cpus, gpus)._fits(node) == fits


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0), ("cuda", 1)])
def test_a_check_on_a_gpu_takes_one_for_each_worker(device, gpus, settings):
    def bench(device):
        found = object.__new__(Bench)
        object.__setattr__(found, "plan", make_plan(settings.model_copy(update={"device": device})))
        return found

    assert Need.of(bench(device)).gpus == gpus
    with pytest.raises(UsageError, match="device is 'cuda:1'; with --executor ray it must be cuda"):
        Need.of(bench("cuda:1"))


@pytest.mark.parametrize("normalise", ["none", "layer_norm"])
def test_a_given_sae_travels_to_the_workers_as_it_is(normalise, tmp_path):
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    torch.manual_seed(0)
    TopKSAE(TopKSAEConfig(d_in=8, d_sae=24, k=4, normalize_activations=normalise)).save_model(tmp_path / "sae")
    artefact = load_folder(tmp_path / "sae", name="one")
    there: Artefact = ray.cloudpickle.loads(ray.cloudpickle.dumps(artefact))
    x = torch.randn(5, 8)
    assert torch.equal(there.sae(x), artefact.sae(x))
    assert (there.sha256, there.recipe) == (artefact.sha256, artefact.recipe)


@pytest.mark.parametrize(
    ("name", "address", "message"),
    [
        ("rey", None, "no such executor: 'rey'; did you mean 'ray'"),
        ("local", "auto", "ray_address is set, but executor is local; add --executor ray"),
    ],
)
def test_a_slip_in_the_executor_is_one_line(name, address, message):
    with pytest.raises(UsageError, match=message), executing(name, address):
        pass


def test_a_cluster_that_is_not_there_is_one_line_without_its_address(settings, unmeasured, monkeypatch):
    def refuse(**options):
        raise ConnectionError("could not connect to user:secret@10.0.0.1:6379")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    executor = RayExecutor("10.0.0.1:6379")
    with pytest.raises(UsageError, match="no Ray cluster could be reached") as caught:
        check.run_check(settings, unmeasured[2], Silent(), executor=executor)
    assert "10.0.0.1" not in str(caught.value)
    executor.close()
