from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading

import pytest

from sae_sanity.suites import shelf
from sae_sanity.suites.shelf import allowed, drop, hold, make_room, settle, size_of

A, B, C, NEW = (f"{letter * 32}.st" for letter in "abcf")


@pytest.fixture
def room(tmp_path):
    """Ask for room for a set that is held only meanwhile."""

    def ask(need, most, name=NEW):
        with hold(tmp_path / name):
            make_room(tmp_path / name, need, most)

    return ask


@pytest.fixture
def make_set(tmp_path):
    """Make a set of some bytes that was used at some time."""

    def make(name, n_bytes, used):
        folder = tmp_path / name
        with hold(folder):
            (folder / "shard").write_bytes(b"x" * n_bytes)
        os.utime(folder / ".in-use", (used, used))
        return folder

    return make


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", None),
        ("  ", None),
        ("1000", 1000),
        ("20GB", 20 * 10**9),
        ("1.5 gb", 1_500_000_000),
        ("500MB", 5 * 10**8),
        ("7B", 7),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes(monkeypatch, text, size):
    monkeypatch.setenv(shelf.VARIABLE, text)
    assert allowed() == size


def test_no_limit_without_the_variable(monkeypatch):
    monkeypatch.delenv(shelf.VARIABLE, raising=False)
    assert allowed() is None


@pytest.mark.parametrize(
    "text",
    ["much", "-1GB", "20 G", "0", "0GB", ".5GB", "1e9", "20GiB", "20GB more", "9" * 400, "9" * 308 + "TB", "0.5"],
)
def test_what_is_no_size_is_named(monkeypatch, text):
    monkeypatch.setenv(shelf.VARIABLE, text)
    with pytest.raises(ValueError, match=r"SAE_SANITY_CACHE_MAX is .*; it must be a size above 0, as 500MB or 20GB"):
        allowed()


def test_as_few_as_needed_go_and_the_oldest_first(make_set, room):
    folders = [make_set(name, 100, used) for name, used in ((A, 30), (B, 10), (C, 20))]
    room(100, 400)
    assert all(folder.exists() for folder in folders)
    room(150, 400)
    assert [folder.exists() for folder in folders] == [True, False, True]
    room(400, 400)
    assert not any(folder.exists() for folder in folders)


def test_the_set_itself_is_neither_counted_nor_dropped(make_set, room):
    own = make_set(A, 300, 1)
    room(350, 400, own.name)
    assert own.exists()


def test_sets_without_a_mark_are_as_old_as_their_folder(make_set, room, tmp_path):
    marked, old = make_set(A, 100, 50), tmp_path / ("0" * 32)  # and without an ending
    old.mkdir()
    (old / "shard.npy").write_bytes(b"x" * 100)
    os.utime(old, (40, 40))
    room(100, 200)
    assert marked.exists()
    assert not old.exists()


def test_a_set_that_another_process_uses_stays(make_set, room):
    folder = make_set(A, 100, 1)
    code = (
        f"from pathlib import Path; from sae_sanity.suites.shelf import hold; f = hold(Path({str(folder)!r}));"
        "print('held', flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as other:
        assert other.stdout.readline() == "held\n"
        assert not drop(folder)
        with pytest.raises(OSError, match="that this and other runs use now") as error:
            room(100, 150)
        assert error.value.errno == errno.EDQUOT
        other.kill()  # and a process that dies lets go of it
    assert drop(folder)
    assert not folder.exists()


def test_two_may_use_one_set(make_set):
    folder = make_set(A, 100, 1)
    with hold(folder):
        with hold(folder):
            assert not drop(folder)
        assert not drop(folder)
    assert drop(folder)


def test_what_was_half_dropped_goes_next_time(make_set, room, tmp_path):
    """Also by earlier versions, whose names for it were not their own."""
    left = [make_set(A, 100, 1).rename(tmp_path / f".dropped-{mark}{A}") for mark in ("", "0a1b2c3d-")]
    again = make_set(A, 100, 2)
    room(100, 150)
    assert not any(folder.exists() for folder in (*left, again))


def test_what_was_half_dropped_is_in_nobodys_way(make_set, tmp_path):
    make_set(A, 100, 1).rename(tmp_path / f".dropped-{A}")
    assert drop(make_set(A, 100, 1))


def test_who_waits_for_a_set_that_is_being_dropped_makes_a_new_one(make_set, monkeypatch):
    """Somebody opens the mark, and before that one has the lock the set is gone."""
    folder = make_set(A, 100, 1)
    real, calls = shelf.fcntl.flock, []

    def slow(file, how):
        calls.append(how)
        if len(calls) == 1:
            monkeypatch.setattr(shelf.fcntl, "flock", real)
            assert drop(folder)
        real(file, how)

    monkeypatch.setattr(shelf.fcntl, "flock", slow)
    with hold(folder) as file:
        assert os.path.samestat(os.fstat(file.fileno()), (folder / ".in-use").stat())
        assert size_of(folder) == 0
        assert not drop(folder)


def test_without_locks_nothing_is_dropped_and_everything_else_works(make_set, room, tmp_path, monkeypatch):
    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    folder = make_set(A, 100, 1)
    monkeypatch.setattr(shelf.fcntl, "flock", none)
    with hold(tmp_path / B):
        assert not drop(folder)
    with pytest.raises(OSError, match="the activations need"):
        room(100, 150)
    assert folder.exists()


def test_what_is_no_set_is_neither_counted_nor_dropped(make_set, room, tmp_path):
    """`causal_editing` keeps its answers in the same folder."""
    others = [tmp_path / name for name in ("answers", "a" * 31, "g" * 32, f"{A}.old copy", ".dropped-answers")]
    for folder in others:
        folder.mkdir()
        (folder / "known.json").write_bytes(b"x" * 1000)
        os.utime(folder, (1, 1))
    own = make_set(A, 100, 5)
    room(100, 150)
    assert not own.exists()
    assert all(folder.exists() for folder in others)


def test_who_is_about_to_drop_a_set_that_is_dropped_and_made_again_leaves_it(make_set, monkeypatch):
    """Somebody opens the mark, and before that one has the lock another one has dropped the set and a third made it."""
    folder = make_set(A, 100, 1)
    real, third = shelf.fcntl.flock, []

    def slow(file, how):
        monkeypatch.setattr(shelf.fcntl, "flock", real)
        assert drop(folder)
        third.append(hold(folder))
        (folder / "shard").write_bytes(b"new")
        real(file, how)

    monkeypatch.setattr(shelf.fcntl, "flock", slow)
    assert not drop(folder)
    assert (folder / "shard").read_bytes() == b"new"
    third[0].close()


def test_of_two_that_make_sets_at_once_each_counts_what_the_other_will_take(room, tmp_path):
    with hold(tmp_path / A) as file:
        make_room(tmp_path / A, 900, 1000)
        with pytest.raises(OSError, match="need 900 bytes beside the 900 bytes that this and other runs use now"):
            room(900, 1000)
        room(100, 1000)
        (tmp_path / A / "shard").write_bytes(b"x" * 400)
        settle(file)  # it is made, and smaller
        room(600, 1000)
        with pytest.raises(OSError, match="beside the 400 bytes"):
            room(601, 1000)


def test_what_a_killed_run_had_reserved_counts_no_more(make_set, room, tmp_path):
    used_before = make_set(B, 300, 1)
    with hold(tmp_path / A):
        make_room(tmp_path / A, 600, 1000)
        (tmp_path / A / "shard").write_bytes(b"x" * 10)
    room(500, 1000)
    assert used_before.exists()


def test_room_is_made_by_one_after_another(tmp_path, room):
    done = threading.Event()
    with (tmp_path / ".room").open("a") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        other = threading.Thread(target=lambda: (room(100, 150), done.set()))
        other.start()
        assert not done.wait(0.3)
    assert done.wait(30)
    other.join()


def test_a_set_that_another_process_drops_first_leaves_its_room(make_set, room, monkeypatch):
    make_set(A, 100, 1)

    def late(folder):
        assert real(folder)
        return real(folder)

    real = shelf.drop
    monkeypatch.setattr(shelf, "drop", late)
    room(100, 150)


def test_a_set_that_could_not_be_removed_whole_still_counts(make_set, room, monkeypatch):
    def none(folder):
        raise PermissionError

    folder = make_set(A, 100, 1)
    monkeypatch.setattr(shelf.shutil, "rmtree", none)
    with pytest.raises(OSError, match="beside the 100 bytes"):
        room(100, 150)
    assert not folder.exists()


def test_the_size_of_what_vanishes_is_what_was_left(make_set, monkeypatch, tmp_path):
    folder = make_set(A, 100, 1)
    (folder / "inner").mkdir()
    real = os.scandir

    def gone(path):
        if os.path.basename(path) == "inner":
            raise FileNotFoundError
        return real(path)

    monkeypatch.setattr(os, "scandir", gone)
    assert size_of(folder) == 100
    assert size_of(tmp_path / "nowhere") == 0


def test_a_linked_set_takes_nothing_here_and_stays(make_set, room, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "shard").write_bytes(b"x" * 1000)
    (tmp_path / A).symlink_to(elsewhere)
    room(100, 150)
    assert not drop(tmp_path / A)
    assert (tmp_path / A / "shard").stat().st_size == 1000
    with hold(tmp_path / A):
        pass
