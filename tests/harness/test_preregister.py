from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_site import TINY

from sae_sanity.harness import check
from sae_sanity.harness.cli import main
from sae_sanity.harness.config import resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.preregister import Lock, read_lock, status_in, write_lock
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.record import Several, load_record, report_of, save_record, save_several
from sae_sanity.harness.show_plan import register
from sae_sanity.results.report import from_json
from sae_sanity.results.store import Store


def settings(**changes):
    return resolve(TINY | changes, environ={})


@pytest.fixture
def lock(tmp_path):
    path = tmp_path / "plan.json"
    write_lock(path, register(settings()))
    return path


def departures(folder, **changes):
    """Of the finished run from a plan with other settings."""
    plan = register(settings(**changes))
    return status_in(plan.model_copy(update={"sha256": "x"}), folder).departures


def test_what_is_registered_can_be_read_and_hashed_by_anybody(lock):
    """The hash is sha256 over JSON with sorted keys and no spaces, without the hash itself."""
    data = json.loads(lock.read_text())
    said = data.pop("sha256")
    assert said == hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    (suite,) = data["saes"][""].values()
    assert (suite["metric"], suite["margin"], suite["clusters"]) == ("explained_variance", 0.02, 100)
    assert suite["arms"]["trained"] == suite["arms"]["frozen_decoder@iso"] == 2
    assert suite["arms"]["random"] == 3
    assert data["identity"]["rule"]["margins"] == {"reconstruction": ["explained_variance", 0.02]}


def test_a_plan_is_registered_through_a_link(tmp_path):
    (tmp_path / "link.json").symlink_to("plan.json")
    write_lock(tmp_path / "link.json", register(settings()))
    assert (tmp_path / "link.json").is_symlink()
    assert read_lock(tmp_path / "plan.json") == read_lock(tmp_path / "link.json")


def test_a_plan_is_registered_once(lock):
    before = lock.stat().st_mtime_ns
    assert not write_lock(lock, register(settings()))
    with pytest.raises(UsageError, match=r"another registered plan: seeds is 2 there and 3 here; name another file"):
        write_lock(lock, register(settings(seeds=3)))
    assert lock.stat().st_mtime_ns == before


def test_other_expectations_are_the_same_plan(lock):
    """What it could see is of the runs that are known; later more may be."""
    plan = read_lock(lock)
    saes = {
        name: {suite: one.model_copy(update={"detectable": 0.5}) for suite, one in suites.items()}
        for name, suites in plan.saes.items()
    }
    assert not write_lock(lock, plan.model_copy(update={"saes": saes}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b"{}", "is damaged"),
        (b"\xff", "is damaged"),
        (b'{"schema_version": 2}', "is damaged"),
        (b"secret: hunter2", "is damaged"),
        (None, "cannot be read (No such file or directory); `sae-sanity plan TARGET"),
    ],
)
def test_a_missing_or_damaged_plan_is_one_line_before_anything_is_computed(content, message, tmp_path, capsys):
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    assert main(["check", "demo", "--lock", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "hunter2" not in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_plan_that_was_changed_is_refused(lock):
    lock.write_text(lock.read_text().replace('"margin": 0.02', '"margin": 0.01').replace("0.02", "0.01"))
    with pytest.raises(UsageError, match="was changed after it was registered"):
        read_lock(lock)


def test_layout_is_no_change(lock):
    lock.write_text(json.dumps(json.loads(lock.read_text())))
    assert read_lock(lock).sha256


def test_a_run_as_registered_departs_in_nothing(lock, finished):
    report, folder = finished
    assert report.lock is None
    held = check.run_check(settings(), folder, Silent(), lock=lock)  # resumed: the same folder, nothing is run again
    assert held.lock.departures == ()
    assert held.lock.sha256 == read_lock(lock).sha256
    assert report_of(folder).lock == held.lock
    assert held.decision == report.decision


def test_a_departing_run_says_so_and_is_run_all_the_same(lock, tmp_path, capsys):
    given = settings(seeds=3, device="cpu", **{"policy.margins.reconstruction": 0.03})
    report = check.run_check(given, tmp_path / "r", Silent(), lock=lock)
    assert report.lock.departures == (
        "seeds: registered 2, run with 3",
        "margin of reconstruction: registered 0.02, run with 0.03",
    )
    assert report.suites
    code = main(["report", str(tmp_path / "r"), "--json"])
    out = from_json(capsys.readouterr().out)
    assert (code, out.lock) == (report.exit_code, report.lock)
    assert any("departed from the registered plan: seeds" in reason for reason in out.decision.reasons)


def test_the_policy_names_the_plan_and_may_insist_on_it(lock, run):
    report, folder = run(settings(**{"policy.lock": str(lock), "policy.require_lock": True}))
    assert report.lock.departures == ()
    assert not any("plan" in reason for reason in report.decision.reasons)
    bare, _ = run(settings(**{"policy.require_lock": True}))
    assert bare.decision.action == "fail"
    assert "no plan was registered before the run" in bare.decision.reasons
    held = report_of(folder, lock=status_in(read_lock(lock), folder))
    assert "no plan was registered before the run" not in held.decision.reasons


def test_what_was_registered_and_has_no_scores(finished):
    _, folder = finished
    assert departures(folder) == ()
    more = {"suites": ["reconstruction", "sparse_probing"], "baselines": ["frozen_decoder", "frozen_encoder"]}
    found = departures(folder, **more, random_seeds=5)
    assert 'suites: registered ["reconstruction", "sparse_probing"], run with ["reconstruction"]' in found
    assert "reconstruction: random registered with 5 seeds, scored with 3" in found
    assert "sparse_probing: registered, has no scores" in found
    assert not any("margin of" in line for line in found)
    record, store = load_record(folder), Store(folder)
    kept = [key for key in record.cells if (store.manifest(key)["arm"], store.manifest(key)["seed"]) != ("random", 0)]
    save_record(folder, replace(record, cells=tuple(kept)))
    assert departures(folder) == ("reconstruction: random registered with 3 seeds, scored with 2",)


def test_a_run_that_knew_no_plan_can_be_held_against_one(finished, lock, capsys):
    _, folder = finished
    record = load_record(folder)
    save_record(folder, replace(record, asked={}))  # as older versions wrote it
    main(["report", str(folder), "--lock", str(lock), "--json"])
    assert from_json(capsys.readouterr().out).lock.departures == ()
    assert load_record(folder).lock is None  # reading writes nothing


def edited(folder, **changes):
    """The record of a run whose design somebody has changed afterwards."""
    record = load_record(folder)
    (suite,) = record.design.suites
    whole = {name: changes.pop(name) for name in ("alpha",) if name in changes}
    save_record(folder, replace(record, design=replace(record.design, suites=(replace(suite, **changes),), **whole)))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"margin": 0.2}, "reconstruction: margin registered 0.02, judged with 0.2"),
        ({"metric": "ce"}, 'reconstruction: metric registered "explained_variance", judged with "ce"'),
        ({"votes": False}, "reconstruction: votes registered true, judged with false"),
        ({"required": ("random",)}, 'registered ["frozen_decoder@iso", "random"], judged with ["random"]'),
        ({"alpha": 0.2}, "alpha: registered 0.05, judged with 0.2"),
        ({"suite": "mine"}, "reconstruction: registered, not judged"),
        ({"suite": "mine"}, "mine: judged, not registered"),
    ],
)
def test_a_plan_is_held_against_what_is_judged(finished, changes, line):
    """Not against what the record says of its settings alone: rows are judged by the design beside them."""
    _, folder = finished
    edited(folder, **changes)
    assert any(line in found for found in departures(folder))


def test_arms_in_another_order_are_the_same(finished):
    _, folder = finished
    edited(folder, required=("random", "frozen_decoder@iso"))
    assert departures(folder) == ()


def test_clusters_are_counted_in_the_rows(finished):
    _, folder = finished
    plan = register(settings())
    suite = plan.saes[""]["reconstruction"].model_copy(update={"clusters": 99})
    other = plan.model_copy(update={"saes": {"": {"reconstruction": suite}}, "sha256": "x"})
    expected = "reconstruction: registered with 99 clusters, scored with 100"
    assert status_in(other, folder).departures == (expected,)
    edited(folder, trials=True)  # entities that the model knows: nobody can register how many
    assert status_in(other, folder).departures == ()


def test_a_plan_of_several_saes_is_not_that_of_one(finished):
    _, folder = finished
    plan = register(settings())
    both = plan.model_copy(update={"saes": {"a": plan.saes[""], "b": plan.saes[""]}, "sha256": "x"})
    assert status_in(both, folder).departures == ("2 SAEs registered, one checked",)


REQUIRED = {"policy.require_lock": True}
LATE = "no plan was registered before the run; it was held against one only afterwards"


def test_a_plan_that_the_run_knew_is_told_from_one_that_came_after_it(lock, finished, tmp_path):
    folder, (_, after) = tmp_path / "knew", finished
    knew = check.run_check(settings(**REQUIRED), folder, Silent(), lock=lock)
    assert (knew.lock.before, knew.lock.departures) == (True, ())
    assert status_in(read_lock(lock), folder).before
    bare = check.run_check(settings(**REQUIRED), after, Silent())
    assert "no plan was registered before the run" in bare.decision.reasons
    held = status_in(read_lock(lock), after)
    assert (held.before, held.departures) == (False, ())
    assert LATE in report_of(after, lock=held).decision.reasons
    # Neither does the same command with a plan, which finds all scores there, make it one that was registered before.
    again = check.run_check(settings(**REQUIRED), after, Silent(), lock=lock)
    assert not again.lock.before
    assert (again.decision.action, LATE in again.decision.reasons) == ("fail", True)
    assert check.run_check(settings(**REQUIRED), folder, Silent(), lock=lock) == knew


def test_a_plan_that_came_in_the_middle_of_a_run_came_late(finished, lock):
    _, folder = finished
    (folder / "run.json").unlink()
    (folder / "store.json").unlink()
    next((folder / "cells").glob("*.json")).unlink()
    assert not check.run_check(settings(), folder, Silent(), lock=lock).lock.before


def test_another_plan_than_the_one_that_the_run_knew_came_late(lock, tmp_path):
    check.run_check(settings(), tmp_path / "r", Silent(), lock=lock)
    write_lock(tmp_path / "other.json", register(settings(random_seeds=4)))
    held = status_in(read_lock(tmp_path / "other.json"), tmp_path / "r")
    assert not held.before
    assert "random_seeds: registered 4, run with 3" in held.departures


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"sha256": 3}'])
def test_a_damaged_note_of_the_plan_is_none(finished, lock, content):
    _, folder = finished
    (folder / "registered.json").write_bytes(content)
    assert not status_in(read_lock(lock), folder).before


def test_a_setting_that_an_older_version_did_not_have_is_its_default(finished):
    _, folder = finished
    plan = register(settings())
    older = {name: value for name, value in plan.identity.items() if name not in ("early_stop", "masks", "lr")}
    lines = status_in(plan.model_copy(update={"identity": older}), folder).departures
    assert lines == ()  # the tiny check takes the lr of the profile
    older["early_stop"] = True
    assert status_in(plan.model_copy(update={"identity": older}), folder).departures == (
        "early_stop: registered true, run with false",
    )


def test_another_device_is_no_departure(finished):
    _, folder = finished
    plan = register(settings())
    elsewhere = plan.model_copy(update={"identity": plan.identity | {"device": "cuda"}})
    assert status_in(elsewhere, folder).departures == ()


def test_several_saes_are_held_one_by_one(finished, tmp_path):
    report, folder = finished
    plan = register(settings())
    both = plan.model_copy(update={"saes": {"a": plan.saes[""], "b": plan.saes[""]}, "sha256": "x"})
    shutil.copytree(folder, tmp_path / "all/a")
    several = Several("tiny", {"a": "a", "c": "a"}, (), report.manifest, asked=plan.identity)
    save_several(tmp_path / "all", several)
    assert status_in(both, tmp_path / "all").departures == ("b: registered, not checked", "c: checked, not registered")


def test_names_from_a_file_cannot_write_on_the_terminal(finished):
    _, folder = finished
    plan = register(settings())
    hostile = plan.model_copy(update={"identity": plan.identity | {"\x1b[2J\n": "\x1b]0;x\n" * 99}})
    (line,) = status_in(hostile, folder).departures
    assert "\x1b" not in line
    assert "\n" not in line
    assert len(line) < 250


@pytest.mark.parametrize("place", ["no/such/folder/plan.json", "."])
def test_a_place_that_cannot_be_written_is_one_line(place, capsys):
    assert main(["plan", "demo", "--lock", place]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1


def test_the_command_registers_and_prints_the_plan(tmp_path, capsys):
    assert main(["plan", "demo", "--lock", "plan.json", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["clusters"] == {"reconstruction": 160, "sparse_probing": 16}
    assert err == "sae-sanity: this plan registered in plan.json\n"
    assert main(["plan", "demo", "--lock", "plan.json"]) == 0
    assert "is the one already registered in plan.json" in capsys.readouterr().err
    assert isinstance(read_lock(Path("plan.json")), Lock)
