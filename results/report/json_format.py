"""The report as JSON: what `docs/schema/report-v1.json` describes."""

from __future__ import annotations

import json
from math import nan
from typing import Any

from pydantic import ValidationError

from ..outcome import CheckReport


def to_json(report: CheckReport) -> str:
    """A report as JSON text.

    Args:
        report: What a check concluded.

    Returns:
        Pure JSON in ASCII, so that it survives any pipe, keys in the order of the models, with a trailing newline.
        Numbers that are not finite are null.
    """
    return json.dumps(json.loads(report.model_dump_json()), indent=2, allow_nan=False) + "\n"


def from_json(text: str) -> CheckReport:
    """The report that `to_json` wrote.

    Args:
        text: JSON text.

    Returns:
        An equal report, but for numbers that were not finite: they come back as None where the field allows it,
        else NaN.

    Raises:
        ValueError: The text is no JSON, or no report of this version; a pydantic `ValidationError` names each field.
    """
    data = json.loads(text)
    try:
        return CheckReport.model_validate_json(text)
    except ValidationError as error:
        missing = [e["loc"] for e in error.errors() if e["type"] == "float_type" and e["input"] is None]
        if len(missing) < error.error_count():
            raise
    for location in missing:
        _fill(data, location)
    # json writes NaN as a bare word, which pydantic's JSON reader understands.
    return CheckReport.model_validate_json(json.dumps(data))


def _fill(data: Any, location: tuple[int | str, ...]) -> None:  # noqa: ANN401
    for step in location[:-1]:
        data = data[step]
    data[location[-1]] = nan
