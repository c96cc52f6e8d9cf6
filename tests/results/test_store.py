from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sae_sanity.results import store as module
from sae_sanity.results.scores import COLUMNS, Score
from sae_sanity.results.store import CorruptCell, ForeignStore, Store, StoreError, content_key

KEY = content_key({"suite": "s", "seed": 1})
CELL = [Score("s", "m", f"i{i}", "c", "trained", 1, i / 3) for i in range(5)]
MANIFEST = {"suite": "s", "arm": "trained", "seed": 1}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


def paths(store):
    return store.folder / "cells" / f"{KEY}.parquet", store.folder / "cells" / f"{KEY}.json"


def test_what_was_written_is_read_bit_for_bit(store):
    assert not store.has(KEY)
    store.write(KEY, CELL, MANIFEST)
    assert store.has(KEY)
    assert store.keys() == (KEY,)
    back = store.read(KEY)
    assert list(back.columns) == list(COLUMNS)
    assert [Score(*row) for row in back.itertuples(index=False)] == CELL
    assert store.manifest(KEY) | MANIFEST == store.manifest(KEY)


def test_a_frame_is_as_good_as_rows(store):
    store.write(KEY, pd.DataFrame(CELL, columns=list(COLUMNS)), MANIFEST)
    assert len(store.read(KEY)) == 5


def test_two_writes_are_the_same_bytes(store, tmp_path):
    other = Store(tmp_path / "elsewhere")
    for one in (store, other):
        one.write(KEY, CELL, MANIFEST)
    for a, b in zip(paths(store), paths(other), strict=True):
        assert a.read_bytes() == b.read_bytes()
    before = [p.read_bytes() for p in paths(store)]
    store.write(KEY, CELL, dict(reversed(MANIFEST.items())))
    assert before == [p.read_bytes() for p in paths(store)]


def test_no_temporary_file_stays(store):
    store.write(KEY, CELL, MANIFEST)
    store.claim("h", {})
    assert sorted(p.name for p in store.folder.rglob("*") if p.is_file()) == sorted(
        [f"{KEY}.parquet", f"{KEY}.json", "store.json"]
    )


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "delete"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_file_is_one_clear_line(store, damage, which):
    store.write(KEY, CELL, MANIFEST)
    path = paths(store)[which]
    data = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes({"truncate": data[:-20], "flip": b"\x00" + data[1:], "empty": b""}[damage])
    with pytest.raises(CorruptCell) as caught:
        store.read(KEY)
    line = str(caught.value)
    assert str(path) in line
    assert "delete this file" in line
    assert "\n" not in line
    assert isinstance(caught.value, ValueError)


def replace_rows(store, table):
    """Rows other than those written, with a manifest that vouches for them."""
    store.write(KEY, CELL, MANIFEST)
    rows, manifest = paths(store)
    pq.write_table(table, rows)
    import hashlib

    manifest.write_text(json.dumps(MANIFEST | {"sha256": hashlib.sha256(rows.read_bytes()).hexdigest()}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="arm"), "its columns are"),
        (lambda f: f.assign(seed="1"), "its columns are"),
        (lambda f: f.assign(value=np.nan), "missing or not finite"),
        (lambda f: f.assign(item=None), "its columns are|missing"),
    ],
)
def test_a_cell_of_another_shape_is_refused(store, change, message):
    frame = change(pd.DataFrame(CELL, columns=list(COLUMNS)))
    replace_rows(store, pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None))
    with pytest.raises(CorruptCell, match=message):
        store.read(KEY)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_never_written(store, bad):
    with pytest.raises(ValueError, match=r"s: m of item 'x' is (nan|inf), not a finite score"):
        store.write(KEY, [*CELL, Score("s", "m", "x", "c", "trained", 1, bad)], MANIFEST)
    assert not store.has(KEY)


def test_a_kill_between_the_two_files_leaves_no_cell(store, monkeypatch):
    real, calls = os.replace, []

    def dies(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(module.os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        store.write(KEY, CELL, MANIFEST)
    rows, manifest = paths(store)
    assert (rows.exists(), manifest.exists(), store.has(KEY), store.keys()) == (True, False, False, ())
    monkeypatch.undo()
    store.write(KEY, CELL, MANIFEST)
    assert len(store.read(KEY)) == 5


def test_a_kill_while_a_cell_is_written_again_never_leaves_an_old_manifest_on_new_rows(store, monkeypatch):
    store.write(KEY, CELL, MANIFEST)
    monkeypatch.setattr(module, "_atomic", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.write(KEY, CELL[:2], MANIFEST)
    assert not store.has(KEY)


def test_a_process_killed_at_any_moment_leaves_whole_cells_only(tmp_path):
    code = (
        "import sys\n"
        "from sae_sanity.results.store import Store, content_key\n"
        "from sae_sanity.results.scores import Score\n"
        "store = Store(sys.argv[1])\n"
        "for i in range(10**6):\n"
        "    store.write(content_key({'i': i}), [Score('s','m',str(j),'c','a',0,.5) for j in range(50)], {'i': i})\n"
        "    print(i, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    store = Store(tmp_path)
    assert len(store.keys()) >= 20
    assert all(len(store.read(key)) == 50 for key in store.keys())  # noqa: SIM118 - keys() is ours


def test_discard_makes_room_for_a_new_measurement(store):
    store.write(KEY, CELL, MANIFEST)
    store.discard(KEY)
    store.discard(KEY)
    assert not store.has(KEY)


@pytest.mark.parametrize("key", ["../x", "", "a/b", "a.b", "x" * 200])
def test_a_key_is_no_path(store, key):
    with pytest.raises(ValueError, match="no cell key"):
        store.write(key, CELL, MANIFEST)


def test_content_key_is_canonical():
    assert content_key({"a": 1, "b": [1, 2]}) == content_key({"b": (1, 2), "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 1.5})
    assert content_key({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("bad", [{"a": float("nan")}, {"a": object()}, {1: "a"}, {"a": {1, 2}}])
def test_content_key_refuses_what_has_no_canonical_form(bad):
    with pytest.raises(ValueError):
        content_key(bad)


def test_a_store_belongs_to_one_configuration(store):
    settings = {"alpha": 0.05, "seeds": [1, 2], "target": "x"}
    store.claim("h1", settings)
    store.claim("h1", settings)
    with pytest.raises(
        ForeignStore, match=r"seeds is \[1, 2\] there and \[1, 2, 3\] here; use another folder"
    ) as caught:
        store.claim("h2", settings | {"seeds": [1, 2, 3], "target": "y"})
    assert "\n" not in str(caught.value)
    with pytest.raises(ForeignStore, match="extra is nothing there and null here"):
        store.claim("h2", settings | {"extra": None})
    with pytest.raises(ForeignStore, match="same settings, other code or data"):
        store.claim("h2", settings)


def test_of_two_that_claim_at_once_one_hears_of_the_other(store, monkeypatch):
    """Both saw an unclaimed folder; the second one's link fails."""
    store.claim("h1", {"a": 1})
    monkeypatch.setattr(module.Path, "exists", lambda _: False)
    with pytest.raises(ForeignStore):
        store.claim("h2", {"a": 2})


def test_a_damaged_claim_is_one_clear_line(store):
    store.claim("h1", {})
    (store.folder / "store.json").write_text("[1")
    with pytest.raises(StoreError, match=r"store\.json is damaged; use another results folder"):
        store.claim("h1", {})


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    blocked = Store(tmp_path / "file" / "run")
    for action in (lambda: blocked.write(KEY, CELL, MANIFEST), lambda: blocked.claim("h", {})):
        with pytest.raises(StoreError, match=r"cannot write .*run.*: Not a directory"):
            action()


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(store, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*: No space left on device"):
        store.write(KEY, CELL, MANIFEST)
    assert [p for p in store.folder.rglob("*") if p.is_file()] == []


def test_naming_a_folder_creates_nothing(tmp_path):
    Store(tmp_path / "x").has(KEY)
    assert list(tmp_path.iterdir()) == []
