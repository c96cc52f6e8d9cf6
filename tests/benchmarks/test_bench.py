from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import bench
import demo
import l0_matching
import memory
import training
from catalogue import CATALOGUE, Benchmark, Figure, number
from figures import emit, read
from table import BEGIN, END, lines, write_table

from sae_sanity.results.design import ArmFacts
from sae_sanity.suites.activations import ActivationSet, Shard

ROOT = Path(__file__).parents[2]
FAKE = """
import os, sys
sys.path.insert(0, {benchmarks!r})
from figures import emit
print("ratio 3, as people read it")
{rest}
"""


@pytest.fixture
def here(tmp_path):
    """A folder of fake benchmarks."""
    folder = tmp_path / "fakes"
    folder.mkdir()

    def write(name, rest):
        (folder / f"{name}.py").write_text(FAKE.format(benchmarks=str(ROOT / "benchmarks"), rest=rest))
        return folder

    return write


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"# Speed\n\n{BEGIN}\nold\n{END}\n\nThe rest.\n")
    return path


@pytest.fixture
def go(here, page, tmp_path):
    """Run the driver on some fakes; exit code, records by name, and the page."""

    def run(*catalogue, arguments=()):
        to = ["--folder", str(tmp_path / "published"), "--page", str(page)]
        code = bench.main([*to, *arguments], catalogue, tmp_path / "fakes")
        found = {path.stem: json.loads(path.read_bytes()) for path in (tmp_path / "published").glob("*.json")}
        return code, found, page.read_text()

    return run


def fast(name="fast", **more):
    return Benchmark(name, (Figure("ratio", "one thing against another", least=3.0, unit="times"),), **more)


# what a benchmark says


def test_figures_are_read_as_they_were_said(capsys):
    emit("speed", {"ratio": [3.5, 4.0], "seconds": 12})
    assert read("noise\n" + capsys.readouterr().out, "speed") == {"ratio": [3.5, 4.0], "seconds": [12.0]}


def test_the_last_line_counts(capsys):
    emit("speed", {"ratio": 1.0})
    emit("speed", {"ratio": 2.0})
    assert read(capsys.readouterr().out, "speed") == {"ratio": [2.0]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), []])
def test_what_is_no_figure_is_not_said(value, capsys):
    with pytest.raises(ValueError):
        emit("speed", {"ratio": value})
    assert not capsys.readouterr().out


def test_no_figures_and_those_of_another():
    with pytest.raises(ValueError, match="speed said no figures"):
        read("ratio 3\n", "speed")
    with pytest.raises(ValueError, match="speed said the figures of other"):
        read('figures {"benchmark": "other", "figures": {}}', "speed")


# one benchmark


def test_repeats_and_rounds_are_one_spread(go, here):
    here("fast", "emit('fast', {'ratio': [3.0, 5.0], 'more': 1})")
    code, found, text = go(fast(repeats=2))
    assert code == 0
    ratio = found["fast"]["figures"]["ratio"]
    assert ratio == {
        "median": 4.0,
        "least": 3.0,
        "greatest": 5.0,
        "values": [3.0, 5.0, 3.0, 5.0],
        "wanted": "at least 3 times",
        "met": True,
    }
    assert found["fast"]["figures"]["more"] == {"median": 1.0, "least": 1.0, "greatest": 1.0, "values": [1.0, 1.0]}
    assert found["fast"]["repeats"] == len(found["fast"]["load"]) == 2
    assert "| one thing against another | 4 times (3 to 5) | at least 3 times | yes | `fast.py` |" in text
    assert text.startswith("# Speed\n\n")
    assert text.endswith(f"{END}\n\nThe rest.\n")
    assert "old" not in text


@pytest.mark.parametrize("counted", [True, False])
def test_a_record_says_what_the_host_gave_to_others(go, here, monkeypatch, counted):
    counter = iter([10.0, 10.0 + 0.5 * os.cpu_count(), 20.0, 20.0])
    times = lambda: SimpleNamespace(**({"steal": next(counter)} if counted else {}))  # noqa: E731
    monkeypatch.setattr(bench.psutil, "cpu_times", times)
    here("fast", "import time; time.sleep(1); emit('fast', {'ratio': 4})")
    _, found, _ = go(fast(repeats=2))
    first, second = found["fast"]["stolen"]
    assert (0 < first < 0.5) if counted else first == 0  # half a second of every core, of a run of a second and more
    assert second == 0


def test_a_record_has_machine_and_versions_and_neither_dates_nor_folders(go, here, tmp_path):
    here("fast", "emit('fast', {'ratio': 4})")
    _, found, text = go(fast(arguments=("--tokens", "5")))
    record = found["fast"]
    assert record["command"] == "python benchmarks/fast.py --tokens 5"
    assert record["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert record["machine"]["memory_gib"] == pytest.approx(psutil.virtual_memory().total / 2**30, abs=0.1)
    assert record["versions"]["torch"].startswith(__import__("torch").__version__.split("+")[0])
    for shown in (json.dumps(record), text):
        assert str(tmp_path) not in shown
        assert str(ROOT) not in shown
        assert not re.search(r"\b20\d\d-\d\d-\d\d\b", shown)


def test_a_missed_target_is_in_the_table_and_no_failure(go, here):
    here("fast", "emit('fast', {'ratio': 2.5})")
    code, found, text = go(fast())
    assert code == 0
    assert found["fast"]["figures"]["ratio"]["met"] is False
    assert "| 2.5 times | at least 3 times | **no** |" in text


def test_one_that_says_its_figures_and_exits_with_1_has_said_them(go, here):
    here("fast", "emit('fast', {'ratio': 4}); sys.exit(1)")
    assert go(fast())[0] == 0


def test_threads_and_arguments_reach_it_and_others_have_the_machine_s(go, here, monkeypatch):
    here("fast", "emit('fast', {'ratio': float(sys.argv[1]), 'threads': int(os.environ.get('OMP_NUM_THREADS', 0))})")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    figures = go(fast(threads=1, arguments=("3.25",)))[1]["fast"]["figures"]
    assert (figures["ratio"]["median"], figures["threads"]["median"]) == (3.25, 1)
    assert go(fast(arguments=("3.25",)))[1]["fast"]["figures"]["threads"]["median"] == 0


def test_a_file_may_be_run_in_two_ways(go, here):
    here("fast", "emit('fast', {'ratio': float(sys.argv[1])})")
    _, found, _ = go(fast(arguments=("3",)), fast("fast_4096", file="fast", arguments=("4",)))
    assert {name: each["figures"]["ratio"]["median"] for name, each in found.items()} == {"fast": 3, "fast_4096": 4}


# failures


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (
            "raise ValueError('no such file: /root/secret/model.bin')",
            "exit code 1: ValueError: no such file: model.bin",
        ),
        ("sys.exit(3)", "exit code 3: ratio 3, as people read it"),
        ("emit('other', {'ratio': 1})", 'exit code 0: figures {"benchmark": "other"'),
        ("print('figures [')", "exit code 0: figures ["),
        ("print('figures [1]')", "exit code 0: figures [1]"),
        ("os.kill(os.getpid(), 9)", "exit code -9"),
        ("emit('bad', {'another': 1})", "exit code 0: it did not say ratio"),
        ("emit('bad', {'another': 1}); sys.exit(70)", "exit code 70: it did not say ratio"),
        ("emit('bad', {'ratio': 4}); sys.exit(70)", "exit code 70, though it said its figures"),
        ("emit('bad', {'ratio': 4}); os.kill(os.getpid(), 9)", "exit code -9, though it said its figures"),
    ],
)
def test_one_that_fails_is_a_row_and_the_others_go_on(go, here, capsys, rest, reason):
    here("bad", rest)
    here("fast", "emit('fast', {'ratio': 4})")
    code, found, text = go(fast("bad"), fast())
    assert code == 1
    assert found["bad"]["failed"].startswith(reason)
    assert "figures" not in found["bad"]
    assert re.search(r"\| one thing against another \| failed: exit code .* \| \| \*\*no\*\* \| `bad\.py` \|", text)
    assert "| 4 times | at least 3 times | yes | `fast.py` |" in text
    assert "1 of 2 benchmarks ran" in capsys.readouterr().err


def test_one_that_hangs_is_ended_with_all_that_it_started(go, here, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "PATIENCE", 3.0)
    child = "import subprocess, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    here("hangs", f"{child}; open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); time.sleep(600)")
    code, found, _ = go(fast("hangs"))
    assert code == 1
    assert found["hangs"]["failed"] == "took longer than 0 minutes"
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the child of a benchmark that was ended lives on")


def test_a_failure_in_a_later_run_fails_the_benchmark(go, here, tmp_path):
    mark = str(tmp_path / "ran")
    here("fast", f"os.path.exists({mark!r}) and sys.exit('second'); open({mark!r}, 'w'); emit('fast', {{'ratio': 4}})")
    assert go(fast(repeats=2))[1]["fast"]["failed"] == "exit code 1: second"


def test_ended_by_hand_it_ends_what_runs_and_keeps_what_is_done(here, page, tmp_path):
    here("first", "emit('first', {'ratio': 4})")
    here("second", f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); import time; time.sleep(600)")
    code = f"""
import signal, sys
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
import bench
from catalogue import Benchmark, Figure
from pathlib import Path
signal.signal(signal.SIGTERM, signal.default_int_handler)
some = [Benchmark(n, (Figure("ratio", "x"),)) for n in ("first", "second")]
bench.main(["--folder", {str(tmp_path / "out")!r}, "--page", {str(page)!r}], some, Path({str(tmp_path / "fakes")!r}))
"""
    driver = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    for _ in range(300):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.1)
    driver.terminate()
    assert driver.wait(60) != 0
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first.json"]
    assert "| x | 4 |" in page.read_text()


# the command line


def test_only_runs_some_and_keeps_what_is_known_of_the_others(go, here):
    here("one", "emit('one', {'ratio': 3})")
    here("two", "emit('two', {'ratio': 4})")
    go(fast("one"), fast("two"))
    here("two", "emit('two', {'ratio': 5})")
    (here("one", "sys.exit(9)"))
    code, found, text = go(fast("one"), fast("two"), arguments=["--only", "two", "--repeats", "2"])
    assert code == 0
    assert (found["one"]["figures"]["ratio"]["median"], found["two"]["figures"]["ratio"]["median"]) == (3, 5)
    assert found["two"]["repeats"] == 2
    assert text.index("`one.py`") < text.index("`two.py`")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "three"], "invalid choice: 'three'"),
        (["--repeats", "0"], "'0' is no number of runs; it must be at least 1"),
        (["--repeats", "x"], "'x' is no number of runs"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(go, here, capsys, tmp_path, arguments, words):
    here("fast", "emit('fast', {'ratio': 3})")
    with pytest.raises(SystemExit) as error:
        go(fast(), arguments=arguments)
    assert error.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "published").exists()


def test_a_page_without_markers_is_refused_before_anything_runs(go, here, page, capsys):
    here("fast", "emit('fast', {'ratio': 3})")
    page.write_text(f"{END} {BEGIN}")
    code, found, text = go(fast())
    assert (code, found, text) == (2, {}, f"{END} {BEGIN}")
    assert "page.md has not the lines" in capsys.readouterr().err


# the table


def test_targets_are_those_of_today():
    figure = Figure("x", "x", 0.75, 1.25)
    assert figure.wanted == "0.75 to 1.25"
    assert [figure.met([value]) for value in (0.74, 0.75, 1.25, 1.26)] == [False, True, True, False]
    assert figure.met([1.0, 1.3]) is False
    assert Figure("x", "x").met([1.0]) is None
    assert Figure("x", "x", most=0.0).met([0.1]) is False


def test_what_was_not_measured_says_so(tmp_path):
    made = list(lines(tmp_path, [fast()]))
    assert made[2:] == ["| one thing against another | not measured | at least 3 times |  | `fast.py` |"]


def test_machines_are_named_once_and_told_apart(tmp_path):
    def write(name, cores):
        machine = {"processor": "P", "cores": cores, "memory_gib": 8.0}
        values = {"median": 3.0, "least": 3.0, "greatest": 3.0, "values": [3.0]}
        record = {"machine": machine, "versions": {"torch": "2"}, "figures": {"ratio": values}}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))

    write("one", 2)
    write("two", 2)
    made = "\n".join(lines(tmp_path, [fast("one"), fast("two")]))
    assert made.endswith("`two.py` |\n\nP, 2 cores, 8 GiB; torch 2.")
    write("two", 4)
    made = "\n".join(lines(tmp_path, [fast("one"), fast("two")]))
    assert "`one.py` (1) |" in made
    assert "`two.py` (2) |" in made
    assert made.endswith("(1) P, 2 cores, 8 GiB; torch 2.\n\n(2) P, 4 cores, 8 GiB; torch 2.")


def test_a_reason_cannot_leave_its_cell(tmp_path):
    record = {"machine": {"processor": "P", "cores": 1, "memory_gib": 1}, "versions": {}, "failed": "a | b `c` <br>"}
    (tmp_path / "fast.json").write_text(json.dumps(record))
    assert "failed: a \\| b 'c' &lt;br> |" in "\n".join(lines(tmp_path, [fast()]))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.9, "0.9"),
        (0.00012, "0.0001"),
        (-4e-7, "under 0.0001"),
        (1.25, "1.25"),
        (13.72, "13.7"),
        (324.4, "324"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_as_people_read_them(value, text):
    assert number(value) == text


# the real ones


def test_every_benchmark_is_a_file_that_says_its_figures_and_knows_its_arguments():
    assert len({each.name for each in CATALOGUE}) == len(CATALOGUE)
    for each in CATALOGUE:
        source = (ROOT / "benchmarks" / f"{each.script}.py").read_text()
        assert f'"{each.script}"' in source
        assert "emit(" in source
        for flag in (argument for argument in each.arguments if argument.startswith("--")):
            assert f'"{flag}"' in source, f"{each.name}: {flag}"


def test_every_file_that_says_figures_is_run():
    saying = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if _calls_emit(path)} - {"figures"}
    assert saying == {each.script for each in CATALOGUE}


def _calls_emit(path):
    return any(
        isinstance(node, ast.Call) and getattr(node.func, "id", "") == "emit"
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_the_page_has_the_table_of_the_published_figures(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs/performance.md").read_text())
    write_table(page, ROOT / "results/published/benchmarks", CATALOGUE)
    assert page.read_text() == (ROOT / "docs/performance.md").read_text()


def test_published_figures_say_nothing_of_anybody_s_folders(go, here, tmp_path):
    here("bad", "sys.exit(f'no file {__file__}, nor /root/a/b.bin, /home/c/d or /work/e')")
    here("fast", "emit('fast', {'ratio': 4})")
    assert set(go(fast("bad"), fast())[1]) == {"bad", "fast"}
    for folder in (tmp_path / "published", ROOT / "results/published/benchmarks"):
        for path in folder.glob("*.json"):
            assert not re.search(r"(/root|/home|/tmp|/work)/", path.read_text())


def test_explained_variance_says_after_how_many_steps():
    for each in CATALOGUE:
        if each.script == "training":
            steps = each.arguments[each.arguments.index("--steps") + 1]
            assert re.search(rf"of these arms, after {steps} steps(,|$)", each.figures[-1].what)


def test_every_plan_has_the_target():
    rows = [row for each in CATALOGUE for row in each.figures if "predicted / actual" in row.what]
    assert len([row for row in rows if "rules of thumb" in row.what]) == 5
    assert {(row.least, row.most) for row in rows} == {(0.75, 1.25)}


# what counts as measured


@pytest.fixture
def ends_with(monkeypatch, tmp_path):
    """Put a command `sae-sanity` that only ends with a code where the benchmarks look for it."""

    def put(code):
        command = tmp_path / "sae-sanity"
        command.write_text(f"#!/bin/sh\n{'kill -9 $$' if code < 0 else f'exit {code}'}\n")
        command.chmod(0o755)
        monkeypatch.setattr(memory.sysconfig, "get_path", lambda _: str(tmp_path))
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    return put


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_check_with_a_verdict_is_measured(code, ends_with, tmp_path):
    ends_with(code)
    assert memory.peak_gib("smoke", 10, tmp_path)[0] > 0
    assert l0_matching.check("topk", tmp_path, []) == ""


@pytest.mark.parametrize("code", [2, 4, 70, 130, -9])
def test_a_check_that_failed_is_not_measured(code, ends_with, tmp_path):
    ends_with(code)
    with pytest.raises(SystemExit, match=f"the check of 1,000 tokens ended with exit code {code}$"):
        memory.peak_gib("smoke", 1000, tmp_path)
    assert l0_matching.check("topk", tmp_path, []) == f"exit code {code}"


def test_the_demo_is_measured_by_the_same_codes(monkeypatch, tmp_path):
    said = '{"seconds": 1, "results_bytes": 1, "cache_bytes": 1}'
    monkeypatch.setattr(demo, "command", lambda what, *_: ["-c", f"print('{said}'); exit({4 * (what == 'check')})"])
    with pytest.raises(SystemExit, match="the check of profile smoke ended with exit code 4"):
        demo.check("smoke", tmp_path, tmp_path / "none")


def test_the_demo_is_planned_with_and_without_what_is_known(monkeypatch, tmp_path):
    """The plan is of 2e6 s where it knows something; the check takes well under a second."""
    there = "import json, os, pathlib; known = pathlib.Path(os.environ['SAE_SANITY_CACHE'], 'speeds.json')"
    plan = f"{there}; print(json.dumps(dict(seconds=1e6 * (1 + known.exists()), results_bytes=3, cache_bytes=8)))"
    check = f"{there}; results = pathlib.Path(sys.argv[-1]); results.mkdir(); (results / 'rows').write_text('12')"
    shelf = "(known.parent / 'activations').mkdir(); (known.parent / 'activations/a').write_text('1234')"
    script = {"plan": plan, "check": f"import sys; {check}; {shelf}; known.write_text('new')"}
    monkeypatch.setattr(demo, "command", lambda what, *rest: ["-c", script[what], *map(str, rest)])
    speeds = tmp_path / "speeds.json"
    speeds.write_text("old")
    planned = demo.check("smoke", tmp_path, speeds).planned
    assert planned.pop("seconds") == pytest.approx(2 * planned.pop("seconds, thumbs"))
    assert planned == {"results": 1.5, "cache": 2.0}
    assert speeds.read_text() == "new"


@pytest.fixture
def l0(monkeypatch, capsys):
    """Run the benchmark of L0 on a check that left these arms; what it said."""

    def run(arms, failed=""):
        facts = {arm: [ArmFacts(arm=arm, seed=0, l0=33.0, target_l0=32.0, dead_share=0.0)] for arm in arms}
        monkeypatch.setattr(l0_matching, "check", lambda *_: failed)
        monkeypatch.setattr(l0_matching, "read_facts", lambda _: facts)
        monkeypatch.setattr(sys, "argv", ["l0_matching.py", "--architectures", "topk"])
        l0_matching.main()
        return read(capsys.readouterr().out, "l0_matching")

    return run


def test_l0_is_measured_where_every_arm_has_an_sae(l0, capsys):
    assert l0(l0_matching.ARMS) == {"greatest error": [1 / 32]}
    with pytest.raises(SystemExit, match=r"^topk: no SAE of frozen_encoder@iso; topk: no SAE of random$"):
        l0(set(l0_matching.ARMS) - {"random", "frozen_encoder@iso"})
    with pytest.raises(SystemExit, match=r"^topk: out of memory$"):
        l0(l0_matching.ARMS, "out of memory")
    assert "figures" not in capsys.readouterr().out


def test_an_arm_that_does_not_exist_for_an_architecture_is_not_missed():
    some = {arm: [None] for arm in ("trained", "frozen_decoder@iso", "soft_frozen@0.8", "random")}
    assert l0_matching.missing("matching_pursuit", some) == []
    assert l0_matching.missing("topk", some) == ["no SAE of frozen_encoder@iso", "no SAE of permuted_encoder"]


# held out


class Counted(ActivationSet):
    """A set without files that counts the rows that are read."""

    n_tokens = 10**9
    read = 0

    def _shuffled_blocks(self, rng):
        while True:
            yield 0, 0, 64

    def _rows(self, shard, start, stop):
        type(self).read += stop - start
        return np.zeros((stop - start, 1), dtype=np.int16)


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(Counted, "read", 0)
    return Counted(Path(), "", 1, 0, 0.0, (Shard(0, 0, 0, 0, 0, 0, 0.0, ""),))


@pytest.mark.parametrize("n_batches", [1, 16, 17, 28, 32, 33, 48, 119])
def test_held_out_rows_are_new_in_a_set_of_so_many(n_batches, counted):
    assert sum(1 for _ in counted.batches(training.BATCH, seed=0, n_batches=n_batches)) == n_batches
    assert Counted.read == training.rows_entered(n_batches)


def test_a_set_that_would_begin_again_is_refused(counted, monkeypatch):
    monkeypatch.setattr(Counted, "n_tokens", 131_071)
    with pytest.raises(SystemExit, match=r"^48 batches without a row twice need 131,072 tokens, not 131,071$"):
        training.activations(counted, 48, 1)
    monkeypatch.setattr(Counted, "n_tokens", 131_072)
    assert len(training.activations(counted, 48, 1)) == 48


def test_the_explained_variance_of_every_round_is_said(monkeypatch, capsys):
    monkeypatch.setattr(training, "ceilings", lambda _: {"bfloat16": 1.0, "copy": 1.0})
    moments = training.measure_moments([torch.randn(64, training.D_IN)])
    task = training.Task(
        training.Shape("topk", training.D_IN, 64, 2.0), moments, training.Schedule(2, 64), [], torch.zeros(0), True, ""
    )
    rounds = [
        (training.Side(1, 1, (0.5, 0.5, 0.5, 0.5)), training.Side(3, 3, (0.5, gap, 0.5, 0.5))) for gap in (0.4, 0.5)
    ]
    found = training.report(task, rounds)["explained_variance_difference"]
    assert [max(each.values()) for each in found] == [pytest.approx(0.1), 0]
    assert "3.00" in capsys.readouterr().out
