"""`--figures` of `check` and `report`, on stored rows of the suite `hard_probing`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import call, one_line

sys.path.insert(0, str(Path(__file__).parents[1] / "results"))
from gain_rows import DESIGN, judged, made

from sae_sanity.harness.record import RunRecord, Several, report_of, save_record, save_several
from sae_sanity.results.outcome import Manifest
from sae_sanity.results.store import Store

MANIFEST = Manifest(command="$", config_hash="", settings={}, versions={}, hashes={})


@pytest.fixture
def stored(tmp_path):
    """A finished run of nothing but made-up rows."""

    def write(folder="run", rows=None):
        rows = made() if rows is None else rows
        rows = rows[rows["suite"] == "hard_probing"].reset_index(drop=True)
        Store(tmp_path / folder).write("cell", rows, {})
        save_record(tmp_path / folder, RunRecord("made up", DESIGN, ("cell",), MANIFEST))
        return tmp_path / folder, rows

    return write


def test_report_shows_the_gains_of_the_stored_rows(stored, capsys):
    folder, rows = stored()
    assert report_of(folder).suites[0].gains == judged(rows).gains
    assert call("report", folder) in (0, 1, 3, 4)
    out, err = capsys.readouterr()
    assert "Gain of the quiver by regime" in out
    assert err == ""


def test_report_draws_the_figure(stored, capsys, tmp_path):
    folder, _ = stored()
    before = sorted(folder.rglob("*"))
    assert call("report", folder, "--figures", "a/b", "--format", "markdown") in (0, 1, 3, 4)
    out, err = capsys.readouterr()
    assert out.startswith("## sae-sanity")
    assert one_line(err) == "sae-sanity: wrote 2 figures to a/b"
    names = {file.name: file.read_bytes()[:5] for file in (tmp_path / "a/b").iterdir()}
    assert names == {"hard_probing-gain-by-size.png": b"\x89PNG\r", "hard_probing-gain-by-size.svg": b"<?xml"}
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["../../evil", "a/b", "x" * 300, "\N{GOTHIC LETTER AHSA}" * 300, ".hidden", "ä b"])
def test_each_of_several_saes_has_a_file_of_its_own_in_the_folder(stored, tmp_path, name, capsys):
    stored("several/one")
    stored("several/two", made(seed=1))
    members = {f"{name}?": "one", f"{name}!": "two"}
    save_several(tmp_path / "several", Several("made up", members, (), MANIFEST))
    assert call("report", "several", "--figures", "drawn") in (0, 1, 3, 4)
    assert "wrote 4 figures" in capsys.readouterr().err
    assert len(list((tmp_path / "drawn").iterdir())) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"several", "drawn"}


def test_nothing_to_draw_is_said(finished, capsys, tmp_path):
    _, folder = finished
    assert call("report", folder, "--figures", "drawn") in (0, 1, 3, 4)
    assert "no suite of this check has a figure" in one_line(capsys.readouterr().err)
    assert not (tmp_path / "drawn").exists()


@pytest.mark.parametrize("below", ["", "/figures"])
@pytest.mark.parametrize("command", [("check", "demo", "--results", "r"), ("report", "run")])
def test_a_folder_that_cannot_be_is_refused_before_anything_is_computed(stored, command, below, capsys, tmp_path):
    stored()
    (tmp_path / "file").write_text("")
    assert call(*command, "--figures", f"file{below}") == 2
    out, err = capsys.readouterr()
    assert "--figures is file" in one_line(err)
    assert out == ""
    assert not (tmp_path / "r").exists()
