"""How a report is shown: on a terminal, as JSON, and the schema of the JSON."""

from __future__ import annotations

from .json_format import from_json, to_json
from .terminal import render_text

__all__ = ["from_json", "render_text", "to_json"]
