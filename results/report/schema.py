"""The JSON schema of the report, made from the models; `python -m sae_sanity.results.report.schema` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from ..outcome import SCHEMA_VERSION, CheckReport

if TYPE_CHECKING:
    from pydantic_core import core_schema

SCHEMA_FILE = Path("docs") / "schema" / f"report-v{SCHEMA_VERSION}.json"
"""The published schema, in a checkout."""


class ReportSchema(GenerateJsonSchema):
    """Draft 2020-12 in which every number may be null, as `to_json` writes one that is not finite."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        """A number or null."""
        return {**super().float_schema(schema), "type": ["number", "null"]}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """A number is nullable already; saying it twice helps nobody."""
        if schema["schema"]["type"] == "float":
            return self.generate_inner(schema["schema"])
        return super().nullable_schema(schema)


def schema() -> dict[str, Any]:
    """The schema of what `to_json` writes."""
    made = CheckReport.model_json_schema(mode="serialization", schema_generator=ReportSchema)
    return {
        "$schema": ReportSchema.schema_dialect,
        "$comment": "Null in place of a number means that it is unknown or not finite.",
        **made,
    }


def schema_text() -> str:
    """The schema as text, as it is published."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def write_schema(path: Path = SCHEMA_FILE) -> Path:
    """Write the schema.

    Args:
        path: Where to; folders are made.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(schema_text(), encoding="utf-8", newline="\n")
    return path


if __name__ == "__main__":
    write_schema()
