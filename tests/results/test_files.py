from __future__ import annotations

import os
from pathlib import Path

import pytest

from sae_sanity.results.files import write_atomically, write_output


def test_an_output_goes_through_a_link_which_stays_one(tmp_path):
    real, link = tmp_path / "cards" / "R.md", tmp_path / "L.md"
    real.parent.mkdir()
    real.write_bytes(b"before")
    link.symlink_to(Path("cards") / "R.md")
    write_output(link, b"after")
    assert (os.readlink(link), real.read_bytes()) == (str(Path("cards") / "R.md"), b"after")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["L.md", "R.md", "cards"]


def test_an_output_makes_what_a_link_leads_to(tmp_path):
    (tmp_path / "L.md").symlink_to("new.md")
    write_output(tmp_path / "L.md", b"here")
    assert (tmp_path / "new.md").read_bytes() == b"here"
    assert (tmp_path / "L.md").is_symlink()


def test_the_store_never_writes_outside_of_itself(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"before")
    (tmp_path / "row").symlink_to("elsewhere")
    write_atomically(tmp_path / "row", b"after")
    assert (tmp_path / "elsewhere").read_bytes() == b"before"
    assert (tmp_path / "row").read_bytes() == b"after"


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "R.md").write_bytes(b"before")
    (tmp_path / "L.md").symlink_to("R.md")

    def full(*arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_output(tmp_path / "L.md", b"after")
    assert (tmp_path / "R.md").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["L.md", "R.md"]
