# The signs of the report are what is compared.
"""The whole report as text, against files in `golden/`; `UPDATE_GOLDEN=1 pytest ...` writes them anew, to be read."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from math import nan
from pathlib import Path

import pytest
from gate_reports import LOCK, kinds
from hostile_names import NASTY, renamed
from rich.cells import cell_len
from rich.console import Console

from sae_sanity.results.outcome import CheckReport, Verdict
from sae_sanity.results.report import render_text
from sae_sanity.results.report.look import Look
from sae_sanity.results.report.terminal import heading

GOLDEN = Path(__file__).parent / "golden"

CASES = [(80, "utf-8"), (100, "utf-8"), (140, "utf-8"), (80, "ascii")]


@pytest.mark.parametrize(("width", "encoding"), CASES)
def test_against_golden(report, show, width, encoding):
    text = "".join(line.rstrip() + "\n" for line in show(report, width, encoding).splitlines())
    path = GOLDEN / f"{width}-{encoding}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_no_line_but_the_command_is_too_long(report, show, width, encoding):
    *lines, command = show(report, width, encoding).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert command == f"$ {report.manifest.command}"


@pytest.mark.parametrize("width", [1, 10, 20, 40])
def test_tiny_consoles_do_not_crash(report, show, width):
    assert show(report, width)


def test_order_of_the_sections(report, show):
    text = show(report, 100)
    titles = [re.sub(r"[─ ]+$", "", line).removeprefix("── ") for line in text.splitlines() if line.startswith("── ")]
    assert titles == [
        "reconstruction BEATS",
        "sparse_probing INCONCLUSIVE",
        "Could the assay have told?",
        "What would change the verdict",
        "Not measured",
        "How to reproduce",
    ]
    assert text.startswith("╭─ sae-sanity: INCONCLUSIVE")


def test_same_report_same_bytes(report, show):
    assert show(report) == show(CheckReport.model_validate(report.model_dump()))


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("options", [{}, {"force_terminal": True, "color_system": "truecolor", "no_color": True}])
def test_names_are_literal_everywhere(report, show, name, options):
    lines = show(renamed(report, name), 140, **options).splitlines()
    plain = re.sub(r"[\s│]", "", "".join(re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines))
    rows = sum(len(s.arms) * 2 + len(s.comparisons) * 2 + len(s.exploratory) for s in report.suites)
    if len(name) < 100:  # a folded name is broken by the columns beside it
        assert plain.count(name.replace(" ", "")) >= rows
    assert max(cell_len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in lines[:-1]) <= 140


@pytest.mark.parametrize("kind", ["worse", "departed", "no vote"])
@pytest.mark.parametrize("width", [60, 100, 140])
def test_what_a_policy_adds_fits_and_shows_names_literally(show, kind, width):
    for name in ("[red]x", "a" * 120, "\x1b[2J"):
        *lines, _ = show(renamed(kinds()[kind], name), width).splitlines()
        assert max(map(cell_len, lines)) <= width
        assert "\x1b" not in "".join(lines)


def sections(text):
    return [re.sub(r"[─ ]+$", "", line).removeprefix("── ") for line in text.splitlines() if line.startswith("── ")]


def test_an_earlier_run_has_a_section_with_its_figures(show):
    text = show(kinds()["worse"])
    assert sections(text) == [
        "good BEATS",
        "Against an earlier run",
        "Could the assay have told?",
        "What would change the verdict",
        "Not measured",
        "How to reproduce",
    ]
    section = text[text.index("Against an earlier run") : text.index("Could the assay")]
    assert "my-sae minus the last release, item by item." in section
    assert re.search(r"good, accuracy: WORSE\n +this run minus .*\n  the last release .*−0\.\d+ \[−.* WORSE", section)
    assert "- autointerp: not there" in section
    assert "* required" not in section


@pytest.mark.parametrize("departures", [LOCK.departures, ()])
def test_a_registered_plan_has_a_section(report, show, departures):
    lock = LOCK.model_copy(update={"departures": departures})
    text = show(report.model_copy(update={"lock": lock}))
    assert sections(text)[-2:] == ["Registered plan", "How to reproduce"]
    assert f"Registered as sha256 {lock.sha256}" in text
    late = show(report.model_copy(update={"lock": lock.model_copy(update={"before": False})}))
    assert f"Held afterwards against sha256 {lock.sha256}" in late
    assert ("- seeds: registered 5, run with 3" in text) == bool(departures)
    assert ("The run is what was registered." in text) != bool(departures)


def test_a_suite_without_a_vote_is_marked(show):
    text = show(kinds()["no vote"])
    assert sections(text)[:2] == ["good BEATS", "bad WORSE (shown only)"]
    assert text.count("shown only: the policy requires other suites") == 2


def test_escape_sequences_of_a_name_never_reach_the_terminal(report, show):
    text = show(renamed(report, "\x1b[2J\x9b\u202eevil"), 100)
    assert not re.search("[\x1b\x9b\u202e]", text)
    assert "\\x1b[2J\\x9b\\u202eevil" in text


@pytest.mark.parametrize("options", [{}, {"force_terminal": True, "color_system": "standard"}])
def test_nothing_is_told_by_colour_alone(report, show, options):
    coloured = show(report, 100, force_terminal=True, color_system="truecolor")
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == show(report, 100)
    assert re.sub(r"\x1b\[[\d;]*m", "", show(report, 100, **options)) == show(report, 100)


def test_no_color_has_no_colour(report, show):
    text = show(report, 100, force_terminal=True, color_system="truecolor", no_color=True)
    assert not re.search(r"\x1b\[(?:\d+;)*(?:3[0-7]|38|4[0-7]|48)[;m]", text)


def test_old_windows_console(report):
    file = io.StringIO()
    render_text(report, Console(file=file, width=100, legacy_windows=True, force_terminal=False))
    assert "::::|" in file.getvalue() or "::|" in file.getvalue()


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_is_written_out(make, show, verdict):
    suite = make.reconstruction(verdict)
    rows = tuple(c.model_copy(update={"verdict": verdict}) for c in suite.comparisons)
    text = show(make.report(suites=(suite.model_copy(update={"comparisons": rows}),)), 100)
    assert f"── reconstruction {verdict} ─" in text
    assert len(re.findall(rf"\] {verdict}\b", text)) == len(rows)


def test_empty_report(make, show):
    text = show(make.report(suites=(), skipped=(), advice=()), 100)
    for words in ("No suite was measured.", "Nothing that this report knows of.", "Everything was measured."):
        assert words in text


def test_empty_suite(make, show):
    empty = {"arms": (), "comparisons": (), "exploratory": (), "gate": (), "p": None, "p_holm": None}
    text = show(make.report(suites=(make.probing().model_copy(update=empty),)), 100)
    for words in ("No arm was measured.", "Nothing was compared.", "assay not checked", "p –, Holm p –"):
        assert words in text


def test_nan_everywhere_is_a_dash(make, show):
    numbers = make.estimate(nan, nan, p_signflip=nan, p_wilcoxon=nan, superiority=nan, d_z=nan, mde=nan, p_crossed=nan)
    suite = make.probing().model_copy(
        update={
            "arms": (make.arm("trained", "trained", nan, seed_sd=nan, l0=nan, dead_share=nan, secondary={"auc": nan}),),
            "comparisons": (make.comparison("random", "INCONCLUSIVE", numbers, margin=nan),),
        }
    )
    text = show(make.report(suites=(suite,)), 100)
    assert "nan" not in text.lower()
    assert "– [no interval]" in text


def test_heading_fills_the_line():
    assert heading("ab", Look(20), "BEATS").plain == "── ab BEATS ────────"
    assert heading("ab", Look(20, ascii=True)).plain == "-- ab --------------"


def test_imports_no_torch():
    code = "import sys, sae_sanity.results.report; assert not {'torch', 'sae_lens', 'nnsight'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
