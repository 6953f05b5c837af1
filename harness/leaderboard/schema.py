"""The published JSON Schema of entries, for programs in other languages; what it cannot say (sums, digests) the models check."""

from __future__ import annotations

import json

from pydantic.json_schema import GenerateJsonSchema

from harness.leaderboard.entry import ENTRY_SCHEMA_VERSION, Entry
from harness.types import Json

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Untitled(GenerateJsonSchema):
    """Without pydantic's titles of fields, which repeat their names."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def entry_schema() -> dict[str, Json]:
    """Return the JSON Schema of an entry's file. Files of this program hold every field; one with a default may be left out."""
    schema = Entry.model_json_schema(schema_generator=_Untitled, mode="serialization")
    return {"$schema": DIALECT, **schema, "title": f"leaderboard entry, schema version {ENTRY_SCHEMA_VERSION}"}


def schema_text() -> str:
    """Return the published file's text."""
    return json.dumps(entry_schema(), indent=1, ensure_ascii=False) + "\n"
