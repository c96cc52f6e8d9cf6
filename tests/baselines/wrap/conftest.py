from __future__ import annotations

from pathlib import Path

import pytest
from tiny_saes import make_sae, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good SAE folder."""
    return save(make_sae("jumprelu"), tmp_path / "sae")
