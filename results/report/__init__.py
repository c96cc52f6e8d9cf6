"""How a report is shown: on a terminal, in the formats of `FORMATS`, and the schema of the JSON."""

from __future__ import annotations

from .formats import EXTENSIONS, FORMATS
from .json_format import from_json, to_json
from .terminal import render_text

__all__ = ["EXTENSIONS", "FORMATS", "from_json", "render_text", "to_json"]
