from __future__ import annotations

import io
import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from command_line import call, one_line, untouched

from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.output import Destinations, deliver, destinations
from sae_sanity.results.report import EXTENSIONS, FORMATS, from_json


def test_the_table_is_the_default_and_json_is_a_synonym():
    assert destinations() == Destinations("table")
    assert destinations(json=True) == destinations("json", json=True) == destinations("json") == Destinations("json")


@pytest.mark.parametrize(("extension", "name"), EXTENSIONS.items())
def test_the_extension_decides(tmp_path, extension, name):
    path = tmp_path / f"a.b{extension.upper()}"
    assert destinations(output=[path]).files == ((path, name),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format_": "xml"}, "no such format: 'xml'; did you mean 'html'"),
        ({"format_": "markdown", "json": True}, "--json and --format markdown are two formats"),
        ({"output": [Path("a.csv")]}, "a.csv: its extension must be one of .json (json), .md (markdown), .xml (junit)"),
        ({"output": [Path("report")]}, "its extension must be one of"),
        ({"output": [Path("folder.json")]}, "folder.json: it is a folder; name a file"),
        ({"output": [Path("no/such/x.json")]}, "there is no folder"),
        ({"output": [Path("good.json"), Path("no/x.md")]}, "no/x.md: there is no folder"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_computed(tmp_path, options, message):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UsageError) as error:
        destinations(**options)
    assert message in one_line(str(error.value))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot be written to"):
        destinations(output=[tmp_path / "x.json"])


def special(folder, kind, name):
    """A path with this name that is no regular file, and leads to none."""
    path = folder / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to("other")
        (folder / "other").symlink_to(name)
    else:
        path.symlink_to("/dev/full")
    return path


@pytest.mark.parametrize("kind", ["pipe", "loop", "device"])
def test_what_is_no_regular_file_is_refused(tmp_path, kind):
    path = special(tmp_path, kind, "x.json")
    before = untouched(path)
    with pytest.raises(UsageError, match="it is no regular file") as error:
        destinations(output=[path])
    assert one_line(str(error.value)).startswith(f"--output is {path}: ")
    assert untouched(path) == before


def test_a_report_is_written_through_a_link(finished, tmp_path):
    (tmp_path / "real.md").write_text("before")
    (tmp_path / "link.md").symlink_to("real.md")
    deliver(finished[0], destinations("json", output=[tmp_path / "link.md"]))
    assert (tmp_path / "real.md").read_text() == FORMATS["markdown"](finished[0])
    assert (tmp_path / "link.md").is_symlink()


def test_a_link_is_judged_by_where_it_leads(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, to, why in (("a", "folder", "it is a folder"), ("b", "no/such.md", "there is no folder")):
        (tmp_path / f"{name}.md").symlink_to(to)
        with pytest.raises(UsageError, match=why):
            destinations(output=[tmp_path / f"{name}.md"])


def test_every_format_goes_to_stdout_alone_and_every_file_is_written(finished, capsysbinary, tmp_path):
    report, folder = finished
    files = {name: tmp_path / f"r{extension}" for extension, name in EXTENSIONS.items()}
    outputs = [argument for path in files.values() for argument in ("--output", str(path))]
    for name, render in FORMATS.items():
        assert call("report", str(folder), "--format", name, *outputs) == report.exit_code
        out, err = capsysbinary.readouterr()
        assert err == b""
        # A console pads its lines to their columns; files do not.
        lines = [line.rstrip() for line in out.decode("utf-8").splitlines()]
        if name in files:
            written = files[name].read_text(encoding="utf-8")
            assert lines == written.splitlines()
            assert from_json(files["json"].read_text()).suites == report.suites
        assert lines == [line.rstrip() for line in render(_shown(files)).splitlines()]
    assert ET.fromstring(files["junit"].read_bytes()).tag == "testsuites"  # noqa: S314
    assert not list(tmp_path.glob("*.tmp"))


def _shown(files):
    return from_json(files["json"].read_text())


def test_a_file_is_replaced_whole_or_left_as_it_was(finished, monkeypatch, tmp_path):
    report, _ = finished
    path = tmp_path / "r.md"
    path.write_text("before")

    def full(*arguments):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(UsageError, match="it cannot be written"):
            deliver(report, destinations("json", output=[path]))
    assert path.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["r.md"]
    deliver(report, destinations("json", output=[path]))
    assert path.read_text() == FORMATS["markdown"](report)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"table"}))
def test_a_format_is_utf_8_whatever_the_terminal_is(finished, monkeypatch, name):
    report = finished[0].model_copy(update={"headline": "better by ± 0.02 → 中"})
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    deliver(report, Destinations(name))
    assert raw.getvalue().decode("utf-8") == FORMATS[name](report)


@pytest.mark.parametrize("command", ["check", "report", "synthetic"])
def test_every_command_that_reports_has_the_options(command, capsys, tmp_path):
    target = {"check": ["demo"], "report": ["nowhere"], "synthetic": []}[command]
    assert call(command, *target, "--output", "a.json", "--output", "b.csv", "--format", "github") == 2
    out, err = capsys.readouterr()
    assert (out, "b.csv: its extension must be one of" in one_line(err)) == ("", True)
    assert not list(tmp_path.iterdir())
