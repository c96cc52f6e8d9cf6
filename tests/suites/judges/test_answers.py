from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sae_sanity.suites.judges.answers import AnswerStore, answer_key
from sae_sanity.suites.judges.judge import Answer

ANSWER = Answer("1, 3 é\n", prompt_tokens=11, completion_tokens=3, model="tiny", fingerprint="fp", tries=2)


def _judge(**identity):
    who = {"model": "tiny", "seed": 0} | identity
    return SimpleNamespace(name="tiny", is_llm=True, identity=lambda: who, ask=print, close=print)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "answers.sqlite"


@pytest.fixture
def store(path):
    store = AnswerStore(path)
    yield store
    store.close()


def test_what_was_put_is_got_and_is_marked(store, path, explanation):
    assert store.get(_judge(), explanation()) is None
    store.put(_judge(), explanation(), ANSWER)
    assert store.get(_judge(), explanation()) == replace(ANSWER, cached=True)
    again = AnswerStore(path)
    assert again.get(_judge(), explanation()) == replace(ANSWER, cached=True)
    again.close()


def test_failures_are_not_kept(store, explanation):
    for answer in (Answer(None, failure="timeout"), Answer("cut", failure="too long"), replace(ANSWER, cached=True)):
        store.put(_judge(), explanation(), answer)
    assert len(store) == 0


def test_everything_in_the_question_and_the_identity_is_in_the_key(explanation, detection):
    asked = [explanation(), explanation("else"), explanation(max_tokens=9), explanation(attempt=1), detection()]
    asked += [explanation(n_examples=3), explanation(messages=(("user", "You judge."), ("user", "what is it?")))]
    keys = {answer_key(_judge(**who), q) for q in asked for who in ({}, {"model": "m"}, {"seed": 1})}
    assert len(keys) == 3 * len(asked)
    assert answer_key(_judge(), explanation()) == answer_key(_judge(), explanation())


def test_the_key_stays_the_same_from_version_to_version(explanation):
    # Changing it would ask, and pay, everything again: sha256 of the JSON below, by coreutils.
    written = (
        '[{"model": "tiny", "seed": 0}, {"attempt": 0, "max_tokens": 20, "messages": [["system", "You judge."], '
        '["user", "what is it? \\u00e9"]], "n_examples": 0, "purpose": "explanation"}]'
    )
    done = subprocess.run(["sha256sum"], input=written.encode(), capture_output=True, check=True)
    assert answer_key(_judge(), explanation("what is it? é")) == done.stdout.split()[0].decode()


def test_eight_threads_at_once(store, explanation):
    def put_and_get(i):
        store.put(_judge(), explanation(str(i)), replace(ANSWER, text=str(i)))
        return store.get(_judge(), explanation(str(i))).text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(put_and_get, range(200))) == [str(i) for i in range(200)]
    assert len(store) == 200


WRITER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from sae_sanity.suites.judges.answers import AnswerStore
from sae_sanity.suites.judges.judge import Answer, Question
store = AnswerStore(Path(sys.argv[1]))
judge = SimpleNamespace(identity=dict)
for i in range(int(sys.argv[2])):
    store.put(judge, Question((("user", sys.argv[3] + str(i)),), 9, "explanation"), Answer("x" * 500))
    print(i, flush=True)
"""


def test_a_killed_process_loses_nothing_that_was_put(path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "1000000", "q"], stdout=subprocess.PIPE)
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(300)]
    process.kill()
    lines += process.stdout.read().splitlines()
    process.wait()
    store = AnswerStore(path)
    assert len(lines) >= 300
    assert len(lines) <= len(store) <= len(lines) + 1
    store.close()


def test_four_processes_make_and_fill_one_file(path):
    started = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), "50", name], stdout=subprocess.DEVNULL)
        for name in "abcd"
    ]
    assert [process.wait() for process in started] == [0] * 4
    store = AnswerStore(path)
    assert len(store) == 200
    store.close()


def _fill(path, explanation):
    store = AnswerStore(path)
    for i in range(500):
        store.put(_judge(), explanation(str(i)), replace(ANSWER, text="x" * 200))
    store.close()


@pytest.mark.parametrize("damage", ["text", "truncated", "overwritten", "header"])
def test_a_damaged_file_is_one_line(path, explanation, damage):
    _fill(path, explanation)
    content = bytearray(path.read_bytes())
    match damage:
        case "text":
            content = b"this is no database, and it is longer than a header" * 9
        case "truncated":
            content = content[: len(content) // 2]
        case "overwritten":
            content[4096 * 3 : 4096 * 4] = os.urandom(4096)
        case "header":
            content[:16] = b"\0" * 16
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^the cache of answers .*answers\.sqlite is damaged \(.+\); delete it"
    ) as caught:
        AnswerStore(path)
    assert "\n" not in str(caught.value)


def test_damage_under_a_running_store_is_the_same_line(path, explanation):
    store = AnswerStore(path)
    store.put(_judge(), explanation(), ANSWER)
    other = sqlite3.connect(path)
    other.execute("UPDATE answers SET answer = '{\"text\": '")
    other.commit()
    other.close()
    with pytest.raises(ValueError, match="is damaged"):
        store.get(_judge(), explanation())
    store.close()


@pytest.mark.parametrize("statement", ["CREATE TABLE cookies (a)", "PRAGMA user_version = 9"])
def test_another_database_is_left_alone(path, statement):
    path.parent.mkdir()
    database = sqlite3.connect(path)
    database.execute(statement)
    database.commit()
    database.close()
    with pytest.raises(ValueError, match="is no cache of answers of this version; delete it, or name another file"):
        AnswerStore(path)


def test_a_folder_in_its_place_is_an_error_of_the_system(path):
    path.mkdir(parents=True)
    with pytest.raises(OSError, match=r"answers\.sqlite"):
        AnswerStore(path)


def test_a_full_disk_is_an_error_of_the_system(store, explanation):
    store.put(_judge(), explanation(), ANSWER)
    store._database.execute("PRAGMA max_page_count = 1")  # SQLite's own way to be full
    with pytest.raises(OSError, match=r"database or disk is full: .*answers\.sqlite") as caught:
        store.put(_judge(), explanation("long"), replace(ANSWER, text="x" * 100_000))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(store.path))
    assert store.get(_judge(), explanation()) == replace(ANSWER, cached=True)


def test_a_database_that_may_only_be_read_is_an_error_of_the_system(store, explanation):
    store._database.execute("PRAGMA query_only = 1")  # SQLite's own way to be read-only
    with pytest.raises(OSError, match="readonly") as caught:
        store.put(_judge(), explanation(), ANSWER)
    assert caught.value.errno == errno.EROFS


def test_a_disk_that_fails_is_an_error_of_the_system(store):
    failed = sqlite3.OperationalError("disk I/O error")
    failed.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    with pytest.raises(OSError, match="I/O") as caught, store._errors():
        raise failed
    assert caught.value.errno == errno.EIO


def test_answers_of_an_older_version_are_read(store, explanation):
    store.put(_judge(), explanation(), ANSWER)
    store._database.execute("UPDATE answers SET answer = json_remove(answer, '$.lost', '$.without')")
    assert store.get(_judge(), explanation()) == replace(ANSWER, cached=True)
