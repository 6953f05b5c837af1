"""What a page refuses, with the status that its answer has."""

from __future__ import annotations

from harness.errors import HarnessError


class BadRequest(HarnessError):
    """An address that asks for what cannot be: a filter of another form, a number that is none. Status 400."""


class NotFound(HarnessError):
    """An address that names nothing: no such run, no such text. Status 404."""
