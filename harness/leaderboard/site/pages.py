"""Templates to HTML: one environment, its filters, and the policy that forbids a page everything but its own scripts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.leaderboard.site.tables import Cell, Table
from harness.types import Json

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
STYLES = ("site.css",)
SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "tables.js", "charts.js")
COMPARE = "compare.js"
LICENCES = ("vendor/d3.LICENSE", "vendor/plot.LICENSE")

_FIXED = "img-src data:; base-uri 'none'; form-action 'none'"
OF_FILES = f"default-src 'none'; script-src 'self'; style-src 'self'; {_FIXED}"
"""The content security policy of a site's pages, whose scripts and styles lie beside them."""


@cache
def environment() -> Environment:
    """Return the environment of the templates. Everything that is not a template is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["table_body"] = table_body
    return made


def _finalize(value: Any) -> Any:
    """Return what an expression of a template puts on the page: text as :func:`shown`, which is escaped next; our own markup as it is."""
    return shown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def table_body(table: Table) -> Any:
    """Return the rows of a table as HTML; the largest part of most pages, and so made without a template."""
    from markupsafe import Markup

    rows = []
    for line in table.lines:
        data = "".join(f' data-{name}="{_text(value)}"' for name, value in line.data.items())
        rows.append(f"<tr{_css(line.css)}{data}>")
        rows += [
            _cell(cell, place == table.names, head.words) for place, (cell, head) in enumerate(zip(line.cells, table.heads, strict=True))
        ]
        rows.append("</tr>\n")
    return Markup("".join(rows))


def _cell(cell: Cell, names: bool, words: bool) -> str:
    tag = "th" if names else "td"
    css = " ".join(part for part in ("w" if words else "", cell.css) if part)
    value = "" if cell.value is None else f' data-v="{cell.value:g}"' if cell.value == round(cell.value) else f' data-v="{cell.value!r}"'
    text = f'<a href="{_text(cell.href)}">{_text(cell.text)}</a>' if cell.href else _text(cell.text)
    mark = f' <span class="mark">{_text(cell.mark)}</span>' if cell.mark else ""
    scope = ' scope="row"' if names else ""
    return f"<{tag}{scope}{_css(css)}{value}>{text}{mark}</{tag}>"


def _css(name: str) -> str:
    return f' class="{_text(name)}"' if name else ""


def _text(text: str) -> str:
    """Return text for an element or a quoted attribute."""
    from markupsafe import escape

    return str(escape(shown(text)))


def render(template: str, **values: Any) -> str:
    """Return a template with its values."""
    return environment().get_template(template).render(**values)


_NO_CHARACTERS = "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000))
_ACTS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef" + _NO_CHARACTERS + "]"
)
"""Letters that are no markup and act on a page all the same, and code points that are no characters, which HTML does not allow."""


_ESCAPED = re.compile(r"\\[ubf]")
"""How JSON writes control letters; a backslash before such a letter looks the same."""


def shown(text: str) -> str:
    """Return text without what acts on a page though it is no markup: letters that turn the direction of what follows, and control letters.

    Each of them stands there as its number, so nothing disappears.
    """
    if text.isascii() and text.isprintable():
        return text
    return _ACTS.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def json_block(value: Json) -> Any:
    """Return JSON for a ``<script type="application/json">``: no letter of it can end the element or begin a tag."""
    from markupsafe import Markup

    text = _dumps(value)
    if _ESCAPED.search(text) or _ACTS.search(text):
        text = _dumps(_clean(value))
    for letter, escape in _ESCAPES.items():
        text = text.replace(letter, escape)
    return Markup(text)


def _dumps(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _clean(value: Json) -> Json:
    """Return JSON whose texts are as :func:`shown` has them."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {shown(str(name)): _clean(part) for name, part in value.items()}
    return [_clean(part) for part in value] if isinstance(value, list | tuple) else value


@cache
def static(name: str) -> str:
    """Return one of the scripts or styles."""
    return (FOLDER / "static" / name).read_text(encoding="utf-8")


def inlined(scripts_of: Sequence[str] = SCRIPTS) -> Mapping[str, Any]:
    """Return what a page that stands alone holds: its styles and scripts, and the policy that allows these and no others.

    Args:
        scripts_of: names of the scripts that it needs.
    """
    from markupsafe import Markup

    styles, scripts = ([_inline(static(name)) for name in names] for names in (STYLES, scripts_of))
    allowed = {"script-src": scripts, "style-src": styles}
    sources = "; ".join(f"{kind} {' '.join(map(_source, texts))}" for kind, texts in allowed.items())
    policy = f"default-src 'none'; {sources}; {_FIXED}"
    return {"policy": policy, "styles": [Markup(text) for text in styles], "scripts": [Markup(text) for text in scripts]}


def _inline(text: str) -> str:
    """Return a script that may stand in an element: what would end it there is refused."""
    if "</script" in text.lower() or "</style" in text.lower() or "<!--" in text:
        raise ValueError("a script or style holds the end of its element")
    return f"\n{text.strip()}\n"


def _source(text: str) -> str:
    """Return what the policy calls an inline script or style: the digest of exactly these characters."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
