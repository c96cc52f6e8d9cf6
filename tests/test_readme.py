"""The README's commands are the ones that run: CI types the second one, tox knows both."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^pip install tox && tox.*$", README, flags=re.MULTILINE)


def test_the_readme_has_two_commands():
    assert COMMANDS == ["pip install tox && tox -e demo", "pip install tox && tox"]


def test_ci_types_the_second_one_word_for_word():
    assert COMMANDS[1] in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()


def test_tox_knows_the_environments():
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    assert "sae-sanity check demo" in tox["testenv:demo"]["commands"]
    assert tox["tox"]["env_list"].split(", ") == ["lint", "tests"]


def test_links_lead_somewhere():
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!http)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_exit_codes_of_readme_and_help_agree():
    from sae_sanity.harness.cli import app

    documented = re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)
    assert documented == re.findall(r"(\d+) [a-z]", str(app.info.epilog))


def test_no_registry_or_machine_path_is_named():
    for path in (ROOT / "constraints.txt", ROOT / "tox.ini", ROOT / "pyproject.toml", ROOT / ".ci/run"):
        assert not re.search(r"https?://|file://|--index|--find-links|/opt/", path.read_text(encoding="utf-8"))
