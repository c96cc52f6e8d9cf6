"""The house rules of DESIGN.md: arrows point down, the ground floor knows no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("results", "baselines", "suites", "harness")  # ground floor first
HEAVY = {"torch", "sae_lens", "sae_bench", "sae_probes", "transformer_lens", "nnsight", "transformers"}
TERMINALS = {"typer", "rich"}
MODULES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Top-level names of absolute imports, and `room:<name>` for imports from another room."""
    found: set[str] = set()
    depth = len(path.relative_to(ROOT).parts) - 1
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 0:
                found.add(module)
            elif node.level > depth:  # leaves the room
                found |= {f"room:{module.split('.')[0]}"} if module else {f"room:{a.name}" for a in node.names}
    return {f"room:{n.split('.')[1]}" if n.startswith("sae_sanity.") else n for n in found}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = ROOMS.index(path.relative_to(ROOT).parts[0])
    above = {f"room:{room}" for room in ROOMS[here + 1 :]}
    assert not imports(path) & above


@pytest.mark.parametrize("path", [p for p in MODULES if p.is_relative_to(ROOT / "results")], ids=lambda p: p.name)
def test_the_ground_floor_knows_no_model(path):
    assert not {name.split(".")[0] for name in imports(path)} & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_command_line_and_the_report_know_a_terminal(path):
    allowed = path.is_relative_to(ROOT / "results/report") or path.parent == ROOT / "harness"
    assert allowed or not {name.split(".")[0] for name in imports(path)} & TERMINALS


def test_importing_results_imports_no_torch():
    code = (
        "import sys, sae_sanity.results.analysis, sae_sanity.results.store, sae_sanity.results.report;"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_package_of_the_tree_is_installed():
    import tomllib

    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {".".join(("sae_sanity", *p.parent.relative_to(ROOT).parts)) for p in MODULES if p.name == "__init__.py"}
    assert set(tool["packages"]) == found
