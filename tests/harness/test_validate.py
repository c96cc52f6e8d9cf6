from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sae_sanity.harness.cli import main
from sae_sanity.harness.preregister import write_lock
from sae_sanity.harness.show_plan import register

ROOT = Path(__file__).parents[2]
POLICY = '[policy]\nsuites = ["reconstruction"]\n'


def said(capsys, *files: str) -> tuple[int, list[str]]:
    code = main(["validate", *files])
    out, err = capsys.readouterr()
    assert out == ""
    return code, err.splitlines()


def test_a_good_file_is_one_line(tmp_path, capsys):
    Path("sae-sanity.toml").write_text(POLICY)
    assert said(capsys) == (0, ["sae-sanity: sae-sanity.toml: ok"])
    assert [path.name for path in tmp_path.iterdir()] == ["sae-sanity.toml"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("tokns = 3", "sae-sanity.toml: no such setting: 'tokns'; did you mean 'tokens'"),
        ("= 3", "sae-sanity.toml cannot be read"),
        ('suites = ["recon"]', "no such suite: 'recon'"),
        ('[policy]\nsuites = ["autointerp"]', "policy.suites requires 'autointerp'"),
        ("[policy]\nseeds = 7", "seeds is 3, but policy.seeds asks for at least 7"),
        ('architecture = "topkk"', "no such architecture: 'topkk'"),
        ('[policy]\nlock = "gone.json"', "registered plan gone.json cannot be read"),
    ],
)
def test_a_bad_one_is_one_line_and_exit_2(content, message, capsys):
    Path("sae-sanity.toml").write_text(content)
    code, (line,) = said(capsys)
    assert code == 2
    assert message in line
    assert "sae-sanity.toml" in line


def test_the_plan_that_it_names_is_read(capsys, settings):
    write_lock(Path("plan.json"), register(settings))
    Path("sae-sanity.toml").write_text('[policy]\nlock = "plan.json"\nrequire_lock = true\n')
    assert said(capsys)[0] == 0
    Path("plan.json").write_text(Path("plan.json").read_text().replace("tiny", "tidy"))
    code, (line,) = said(capsys)
    assert code == 2
    assert "was changed after it was registered" in line


def test_the_environment_does_not_mend_it(capsys, monkeypatch):
    monkeypatch.setenv("SAE_SANITY_SEEDS", "9")
    Path("sae-sanity.toml").write_text("[policy]\nseeds = 7")
    assert said(capsys)[0] == 2


def test_pyproject_with_and_without_our_table(capsys):
    assert said(capsys)[0] == 2  # nothing here at all
    Path("pyproject.toml").write_text("[tool.ruff]\nx = 1\n")
    assert said(capsys, "pyproject.toml") == (
        0,
        ["sae-sanity: pyproject.toml: no table [tool.sae-sanity], nothing to look at"],
    )
    Path("pyproject.toml").write_text("[tool.sae-sanity.policy]\nseeds = 3\n")
    assert said(capsys) == (0, ["sae-sanity: pyproject.toml: ok"])
    Path("sae-sanity.toml").write_text(POLICY)
    assert said(capsys, "pyproject.toml") == (
        0,
        ["sae-sanity: pyproject.toml: ok, but sae-sanity.toml beside it is read instead"],
    )


def test_the_hook_runs_as_pre_commit_would_run_it(tmp_path):
    """pre-commit splits `entry`, appends the staged files that match `files`, and runs it in the repository's root."""
    text = (ROOT / ".pre-commit-hooks.yaml").read_text()
    hook = dict(re.findall(r"^[- ] (\w+): (.+)$", text, re.M))
    assert (hook["id"], hook["language"]) == ("sae-sanity-config", "system")
    wanted = re.compile(hook["files"].strip("'"))
    staged = [name for name in ("sae-sanity.toml", "pyproject.toml", "a/pyproject.toml", "x.py") if wanted.search(name)]
    assert staged == ["sae-sanity.toml", "pyproject.toml"]
    command = [str(Path(sys.executable).parent / shlex.split(hook["entry"])[0]), *shlex.split(hook["entry"])[1:]]
    (tmp_path / "sae-sanity.toml").write_text(POLICY)
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n")
    good = subprocess.run([*command, *staged], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    (tmp_path / "sae-sanity.toml").write_text("tokns = 3")
    bad = subprocess.run([*command, *staged], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert "did you mean 'tokens'" in bad.stderr


def test_the_entry_of_the_hook_is_a_command_that_the_package_installs():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    entry = re.search(r"^  entry: (.+)$", (ROOT / ".pre-commit-hooks.yaml").read_text(), re.M)
    assert entry is not None
    assert entry[1].split()[0] in scripts
