"""The day on which every chat template is rendered: one that asks for today's date would give another prompt each day."""

from __future__ import annotations

from datetime import datetime

TODAY = datetime(2024, 7, 26)
"""The day that Llama 3's own template takes where it is told none. Part of a run's identity."""

_CODES = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"
_MACRO = "strftime_now"


def with_fixed_date(template: str) -> str:
    """A chat template whose ``strftime_now`` is :data:`TODAY`; as it is where it asks for no date.

    A macro of that name before the template comes before transformers' function: passing a function of our own is no way, since transformers
    shows templates plain data alone.
    """
    if _MACRO not in template:
        return template
    values = {f"%{flag}{code}": TODAY.strftime(f"%{flag}{code}") for flag in ("-", "") for code in _CODES}
    steps = "".join(f"|replace({code!r},{value!r})" for code, value in values.items())
    # "%%" is set aside first: what follows it is no code.
    return (
        "{% macro " + _MACRO + "(format) %}{{ format|replace('%%','\ufdef')" + steps + "|replace('\ufdef','%') }}{% endmacro %}" + template
    )
