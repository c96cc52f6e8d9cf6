from __future__ import annotations

import pytest
from tiny_worlds import tiny_worlds

from sae_sanity.harness.progress import Silent
from sae_sanity.harness.synthetic.judge import run_synthetic
from sae_sanity.harness.synthetic.reproduce import Curve, Part


@pytest.fixture(scope="session")
def part(tmp_path_factory):
    """A finished run with the curve of its training: its settings, folder and report."""
    part = Part(tiny_worlds(), tmp_path_factory.mktemp("whole") / "results")
    return part, run_synthetic(part.settings, part.folder, Silent(), watch=Curve(part).watch)
