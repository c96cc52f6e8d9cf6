"""badge, card, cite and reanalyse from the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import typer
from command_line import untouched
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from sae_sanity.harness.cli_release import register
from sae_sanity.harness.errors import UsageError
from sae_sanity.results.reanalysis import Reanalysis
from sae_sanity.results.release.badge import WORDS


@pytest.fixture
def call():
    app = typer.Typer()
    register(app)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def refused(result):
    assert isinstance(result.exception, UsageError)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_badges_of_a_run(call, finished):
    report, folder = finished
    assert call("badge", folder, "--output", "b.svg").exit_code == 0
    assert WORDS[report.verdict].message in Path("b.svg").read_text()
    assert call("badge", folder, "--output", "b.json").exit_code == 0
    assert json.loads(Path("b.json").read_text())["message"] == WORDS[report.verdict].message


@pytest.mark.parametrize(("output", "why"), [("b.png", "extension"), ("no/b.svg", "no folder"), (".", "extension")])
def test_a_badge_that_cannot_be_is_refused_and_nothing_written(call, finished, output, why):
    before = sorted(Path().rglob("*"))
    assert why in refused(call("badge", finished[1], "--output", output))
    assert sorted(Path().rglob("*")) == before


def test_a_card_is_printed_or_put_into_a_file(call, finished):
    report, folder = finished
    shown = call("card", folder)
    assert f"**{report.verdict}.**" in shown.stdout
    Path("README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    assert call("card", folder, "--output", "README.md").exit_code == 0
    card = ModelCard.load("README.md")
    assert card.data.license == "mit"
    assert card.text.startswith("# Mine")
    before = Path("README.md").read_bytes()
    call("card", folder, "--output", "README.md")
    assert Path("README.md").read_bytes() == before


def test_a_card_that_cannot_be_read_stays_as_it_was(call, finished):
    Path("README.md").write_bytes(b"\xff\xfe\x00")
    assert "README.md" in refused(call("card", finished[1], "--output", "README.md"))
    assert Path("README.md").read_bytes() == b"\xff\xfe\x00"


def no_regular_file(kind, name):
    if kind == "pipe":
        os.mkfifo(name)
    else:
        Path(name).symlink_to("/dev/full")


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(("command", "name"), [("card", "README.md"), ("badge", "b.svg")])
def test_a_device_is_neither_read_nor_written(call, finished, command, name, kind):
    no_regular_file(kind, name)
    before = untouched(Path(name))
    assert "no regular file" in refused(call(command, finished[1], "--output", name))
    assert untouched(Path(name)) == before


def test_a_card_and_a_badge_are_written_through_a_link(call, finished):
    Path("cards").mkdir()
    Path("cards/R.md").write_text("# Mine\n")
    for link, real in (("L.md", "cards/R.md"), ("b.svg", "cards/b.svg")):
        Path(link).symlink_to(real)
    assert call("card", finished[1], "--output", "L.md").exit_code == 0
    assert call("badge", finished[1], "--output", "b.svg").exit_code == 0
    assert "sae-sanity: begin" in Path("cards/R.md").read_text()
    assert Path("cards/b.svg").read_text().startswith("<svg")
    assert all(Path(link).is_symlink() for link in ("L.md", "b.svg"))


@pytest.mark.parametrize(("there", "told"), [(True, "layer-3"), (False, "me/layer-3")])
def test_what_reads_like_a_repo_is_a_folder_where_there_is_one(call, finished, monkeypatch, there, told):
    report = finished[0].model_copy(update={"target": "me/layer-3", "headline": "me/layer-3 beats random."})
    monkeypatch.setattr("sae_sanity.harness.record.report_of", lambda folder: report)
    if there:
        Path("me/layer-3").mkdir(parents=True)
    shown = call("card", finished[1]).stdout
    assert f"\n{told} beats random.\n" in shown
    assert call("badge", finished[1], "--output", "b.svg").exit_code == 0
    assert f"sae-sanity: {told} " in Path("b.svg").read_text()


def test_a_command_that_is_none_is_one_line(call, finished, monkeypatch):
    manifest = finished[0].manifest.model_copy(update={"command": "sae-sanity check 'open"})
    monkeypatch.setattr(
        "sae_sanity.harness.record.report_of", lambda folder: finished[0].model_copy(update={"manifest": manifest})
    )
    assert "is damaged" in refused(call("card", finished[1]))


def test_cite_with_and_without_a_run(call, finished):
    assert "@software{sae_sanity" in call("cite").stdout
    assert "bloom2024saelens" in call("cite", finished[1]).stdout
    assert "holds no finished run" in refused(call("cite", "nowhere"))


def test_reanalyse_prints_the_table_or_json(call):
    text = call("reanalyse", "korznikov2026")
    assert text.exit_code == 0
    assert "the paper's own tables, judged again" in text.stdout
    found = Reanalysis.model_validate_json(call("reanalyse", "--json").stdout)
    assert len(found.contrasts) == 120
    assert "did you mean 'korznikov2026'" in refused(call("reanalyse", "korznikov2025"))
