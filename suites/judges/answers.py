"""The cache of answers: one SQLite file, by the content of the question and who was asked."""

from __future__ import annotations

import errno
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from .judge import Answer, Judge, Question

_VERSION = 1
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
}
"""What the system would say: a full disk is no bug, and whoever catches this tells them apart by the number."""


def answer_key(judge: Judge, question: Question) -> str:
    """SHA-256 over the judge's identity and everything in the question."""
    content = json.dumps([judge.identity(), asdict(question)], sort_keys=True, allow_nan=False)
    return hashlib.sha256(content.encode("ascii")).hexdigest()


class AnswerStore:
    """Answers that outlive the run; from several threads and processes at once.

    Every answer is written when it comes, so a run that is killed keeps all it got. Only answers are kept:
    a failure says nothing about the question, and is asked again by the next run.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it with its folder.

        Raises:
            ValueError: the file is damaged, or is something else.
            OSError: it cannot be read or written.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        with self._errors():
            self._database = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    def get(self, judge: Judge, question: Question) -> Answer | None:
        """Answer that is known, marked as cached; None if there is none.

        Raises:
            ValueError: the file is damaged.
        """
        key = answer_key(judge, question)
        with self._lock, self._errors():
            row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            return replace(Answer(**json.loads(row[0])), cached=True)
        except (TypeError, ValueError):
            raise ValueError(self._damaged("an answer in it cannot be read")) from None

    def put(self, judge: Judge, question: Question, answer: Answer) -> None:
        """Keep an answer, whole or not at all; failures and what came from the cache are passed over.

        Raises:
            ValueError: the file is damaged.
            OSError: it cannot be written, as on a full disk.
        """
        if answer.failure or answer.cached:
            return
        row = (answer_key(judge, question), json.dumps(asdict(answer)))
        with self._lock, self._errors():
            self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", row)

    def __len__(self) -> int:
        with self._lock, self._errors():
            return self._database.execute("SELECT count(*) FROM answers").fetchone()[0]

    def close(self) -> None:
        """Close the file; what was put in is safe without it."""
        with self._lock:
            self._database.close()

    def _prepare(self) -> None:
        execute = self._database.execute
        # Safe against a killed process; only a power cut may take the last answers, and never damages the file.
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        if (found := execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise ValueError(self._damaged(found.splitlines()[0]))
        version = execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables - {"answers"} or version not in (0, _VERSION):
            raise ValueError(f"{self.path} is no cache of answers of this version; delete it, or name another file")
        execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID")
        execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _DAMAGED:
                raise ValueError(self._damaged(str(error))) from None
            if code in _ERRNO:
                raise OSError(_ERRNO[code], str(error), str(self.path)) from None
            raise OSError(f"{self.path}: {error}") from None

    def _damaged(self, why: str) -> str:
        return f"the cache of answers {self.path} is damaged ({why}); delete it, and its questions are asked again"
