"""Several processes on one results folder: what each does, who waits, who reports, and what a kill costs."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_site import TINY

from sae_sanity.harness import check, cli
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.lock import InUseError, attempt, locked, waiting
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.record import report_of
from sae_sanity.harness.shards import OtherSiteError, Shard, Turns, Unfinished, one_prepares
from sae_sanity.results.outcome import CheckReport

SUPPORT = Path(__file__).parents[1] / "support"


class Telling(Silent):
    """Keeps the stages."""

    def __init__(self):
        self.stages = []

    def start(self, stage, total):
        self.stages.append(stage)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that holds a result; the record names the folder in its command line."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: data for name, data in found.items() if name != "run.json" and not Path(name).name.startswith(".")}


def same(one: CheckReport, two: CheckReport) -> bool:
    """Whether two reports agree in all but the folder that their command names."""
    return one.model_copy(update={"manifest": None}) == two.model_copy(update={"manifest": None})


@pytest.mark.parametrize(("text", "index", "of"), [("1/3", 1, 3), ("3/3", 0, 3), ("0/3", 0, 3), ("1/1", 0, 1)])
def test_numbers_may_begin_at_0_or_at_1(text, index, of):
    assert Shard.parse(text) == Shard(index, of)


@pytest.mark.parametrize("text", ["4/3", "1/0", "0/0", "-1/3", "1", "1/3/5", "a/b", "", "1.5/3", "²/3"])
def test_what_is_no_shard_is_one_line(text):
    with pytest.raises(UsageError, match=r"it must be i/n, as 1/4 … 4/4 or 0/4 … 3/4"):
        Shard.parse(text)


@pytest.mark.parametrize("numbers", [range(4), range(1, 5)])
@pytest.mark.parametrize("n", [0, 3, 19])
def test_every_cell_is_in_exactly_one_share(n, numbers):
    shares = [Shard.parse(f"{i}/4").own(range(n)) for i in numbers]
    assert sorted(cell for share in shares for cell in share) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_shards_share_a_folder_but_not_with_a_whole_check_or_their_own_double(tmp_path):
    with Turns(tmp_path, Shard(0, 3), Silent()), Turns(tmp_path, Shard(1, 3), Silent()):
        with (
            pytest.raises(InUseError, match=r"shard 1/3 of .* is at work already"),
            Turns(tmp_path, Shard(1, 3), Silent()),
        ):
            pass
        with pytest.raises(InUseError, match="in use by another check"), Turns(tmp_path, None, Silent()):
            pass
    with locked(tmp_path), pytest.raises(InUseError, match="in use by another check"):
        Turns(tmp_path, Shard(0, 3), Silent()).__enter__()
    with Turns(tmp_path, None, Silent()):
        pass


def test_one_at_a_time_while_the_others_wait_and_say_so(tmp_path):
    told, order = Telling(), []

    def second():
        with Turns(tmp_path, Shard(1, 2), told) as turns, turns.alone("waiting for the arms"):
            order.append("second")

    with Turns(tmp_path, Shard(0, 2), Silent()) as turns, turns.alone("not said"):
        thread = threading.Thread(target=second)
        thread.start()
        while not told.stages:
            assert thread.is_alive()
        order.append("first")
    thread.join(timeout=20)
    assert order == ["first", "second"]
    assert told.stages == ["waiting for the arms"]


def test_only_who_is_last_reports_and_only_one_of_them(tmp_path):
    one, two = (Turns(tmp_path, Shard(i, 2), Silent()) for i in (0, 1))
    with one, two:
        with pytest.raises(Unfinished, match=r"shard 2/2 is finished; 5 cells are left to others"):
            one.finish(5)
        one.finish(0)
        with pytest.raises(Unfinished, match=r"shard 1/2 is finished; another one makes the report"):
            two.finish(0)
    with two:
        two.finish(0)  # the other one has let go
    Turns(tmp_path, None, Silent()).finish(5)  # of a check without shards: what is left, such as a suite, is no one's


def test_a_lock_that_has_become_needless_is_not_waited_for(tmp_path):
    done = tmp_path / "done"
    with attempt(tmp_path / "lock") as held:
        assert held
        done.touch()
        with waiting(tmp_path / "lock", Silent(), "waiting", unless=done.exists) as needed:
            assert not needed


def test_activations_are_prepared_by_one_and_again_where_that_one_failed(tmp_path):
    def prepare(fails):
        with one_prepares(Shard(0, 2), tmp_path, "key", Silent()):
            if fails:
                raise UsageError("no such hook")

    with pytest.raises(UsageError):
        prepare(fails=True)
    assert not list(tmp_path.rglob("*.done"))
    prepare(fails=False)
    assert [p.name for p in tmp_path.rglob("*.done")] == ["key.done"]
    with attempt(tmp_path / "shards/key.lock"):
        prepare(fails=False)  # nobody is waited for
    with one_prepares(None, tmp_path / "elsewhere", "key", Silent()):
        assert not (tmp_path / "elsewhere").exists()


def test_others_wait_for_activations_and_then_go_all_at_once(tmp_path):
    told, inside = [Telling(), Telling()], threading.Barrier(2, timeout=20)

    def other(progress):
        with one_prepares(Shard(1, 3), tmp_path, "key", progress):
            inside.wait()  # each only while the other one is in too

    threads = [threading.Thread(target=other, args=(progress,)) for progress in told]
    with one_prepares(Shard(0, 3), tmp_path, "key", Silent()):
        for thread in threads:
            thread.start()
        while not all(progress.stages for progress in told):
            assert all(thread.is_alive() for thread in threads)
        assert inside.n_waiting == 0
    for thread in threads:
        thread.join(timeout=20)
    assert not inside.broken
    assert told[0].stages == ["waiting for another shard that computes the activations"]


def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def none(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(UsageError, match=r"the file system of .* has no locks; put results and cache on one"):
        Turns(tmp_path, Shard(0, 2), Silent()).__enter__()


def test_two_shards_after_each_other_end_in_the_report_of_one_check(settings, finished, tmp_path):
    report, whole = finished
    folder, first, second = tmp_path / "shared", Telling(), Telling()
    with pytest.raises(Unfinished, match="left to others"):
        check.run_check(settings, folder, first, shard=Shard.parse("1/2"))
    assert not (folder / "run.json").exists()
    half = len(list((folder / "cells").glob("*.json")))
    assert 0 < half < len(list((whole / "cells").glob("*.json")))
    found = check.run_check(settings, folder, second, shard=Shard.parse("2/2"))
    assert same(found, report)
    assert same(report_of(folder), report)
    assert contents(folder) == contents(whole)
    assert any(stage.startswith("training") for stage in first.stages)
    assert not any(stage.startswith("training") for stage in second.stages)
    assert any(stage.startswith(f"shard 1/2: measuring {half} of {half} cells") for stage in first.stages)


def test_shards_whose_language_models_compute_otherwise_are_refused_and_a_whole_check_starts_afresh(tmp_path):
    one, two, whole = (Turns(tmp_path, shard, Silent()) for shard in (Shard(1, 2), Shard(0, 2), None))
    one.agree("ab", "bfloat16")
    one.agree("ab", "bfloat16")
    wrong = "shard 2/2: the language model computes in float32, and in bfloat16 on the other shards; name --set"
    with pytest.raises(OtherSiteError, match=re.escape(wrong)):
        two.agree("cd", "float32")
    with pytest.raises(OtherSiteError, match="shard 2/2 has another site than others had here: versions of torch"):
        two.agree("cd", "bfloat16")
    two.agree("ab", "bfloat16")
    whole.agree("cd", "float32")
    two.agree("cd", "float32")


def test_a_shard_of_another_site_neither_makes_arms_nor_measures(settings, tmp_path):
    (tmp_path / ".shards-site").write_text("bfloat16 ab")  # as a shard on a machine of another kind leaves it
    with pytest.raises(OtherSiteError, match="shard 2/2: the language model computes in float32, and in bfloat16 on"):
        check.run_check(settings, tmp_path, Silent(), shard=Shard.parse("2/2"))
    assert set(contents(tmp_path)) == {"store.json"}


def test_among_several_saes_such_a_shard_ends_and_leaves_none_out(settings, tmp_path, monkeypatch):
    def other(*_):
        raise OtherSiteError("shard 2/2 …")

    monkeypatch.setattr(check, "_run_task", other)
    tasks = [check.Task(settings, check.validate(settings), SimpleNamespace(name=name)) for name in ("one", "two")]
    run = check.Run(settings, Silent(), None, shard=Shard.parse("2/2"))
    with pytest.raises(OtherSiteError):
        check._run_several(tasks, (), run, tmp_path)


def test_the_command_line_says_that_others_are_at_work_and_the_last_one_reports(finished, capsys, tmp_path):
    report, folder = finished
    shutil.rmtree(folder / "cells")
    (folder / "run.json").unlink()
    lines = [f"{name} = {json.dumps(value)}" for name, value in TINY.items() if name != "target"]
    (tmp_path / "tiny.toml").write_text("\n".join(lines))
    command = ["check", "tiny", "--config", "tiny.toml", "--results", str(folder), "--shard"]
    assert cli.main([*command, "0/2"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "sae-sanity: shard 2/2 is finished; " in err.splitlines()[-1]
    assert cli.main([*command, "1/2"]) == report.exit_code
    out, _ = capsys.readouterr()
    assert "What would change the verdict" in out
    assert cli.main([*command, "5/2"]) == 2
    assert "shard is '5/2'; it must be i/n" in capsys.readouterr().err


def test_a_suite_that_cannot_measure_here_keeps_nobody_waiting(settings, finished, tmp_path, monkeypatch):
    from sae_sanity.suites.reconstruction import Reconstruction
    from sae_sanity.suites.suite import NotMeasurable

    def cannot(*arguments):
        raise NotMeasurable("it knows nothing")

    _, folder = finished
    shutil.rmtree(folder / "cells")
    (folder / "run.json").unlink()
    monkeypatch.setattr(Reconstruction, "measure_reference", cannot)
    monkeypatch.setattr(Reconstruction, "measure", cannot)
    report = check.run_check(settings, folder, Silent(), shard=Shard.parse("2/2"))
    assert [skip.reason for skip in report.skipped if skip.what == "reconstruction"] == ["it knows nothing"]
    assert report.exit_code == 4


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {support!r})
from tiny_site import TINY, tiny_subject
from sae_sanity.harness import check, subject
from sae_sanity.harness.config import resolve
from sae_sanity.harness.progress import PlainProgress
from sae_sanity.harness.shards import Shard, Unfinished

class Mortal(PlainProgress):
    def advance(self, done):
        super().advance(done)
        if "measuring" in self.stage and done == {dies_at}:
            os.kill(os.getpid(), signal.SIGKILL)

subject.TARGETS["tiny"] = tiny_subject
try:
    check.run_check(resolve(TINY, environ={{}}), Path({folder!r}), Mortal(every=0.0), shard=Shard.parse({shard!r}))
except Unfinished as others:
    sys.stderr.write(str(others))
"""


def start(shard: str, folder: Path, *, dies_at: int = -1) -> subprocess.Popen[str]:
    code = SCRIPT.format(support=str(SUPPORT), folder=str(folder), shard=shard, dies_at=dies_at)
    environ = os.environ | {"SAE_SANITY_CACHE": str(folder.parent / "cache"), "SAE_SANITY_BASELINES": "none"}
    return subprocess.Popen([sys.executable, "-c", code], env=environ, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_three_shards_at_once_of_which_one_is_killed(settings, finished, tmp_path):
    report, whole = finished
    folder = tmp_path / "shared"
    processes = [start("1/3", folder), start("2/3", folder, dies_at=2), start("3/3", folder)]
    lines = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, -signal.SIGKILL, 0], lines
    assert sum("training 8 SAEs together: done" in each for each in lines) == 1
    assert "is finished; " in lines[0]
    assert "is finished; " in lines[2]
    assert not (folder / "run.json").exists()
    assert 0 < len(contents(whole)) - len(contents(folder)) < len(contents(whole))
    # The cells of the one that was killed, by a rerun of it: it is the last, and reports.
    assert same(check.run_check(settings, folder, Silent(), shard=Shard.parse("2/3")), report)
    assert contents(folder) == contents(whole)
