"""HTML fragments and comments of Stack Exchange as plain text (standard library only)."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_BREAKS = frozenset(
    ("address", "article", "aside", "blockquote", "br", "dd", "details", "div", "dl", "dt", "figcaption", "figure", "footer")
    + ("h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section", "summary")
    + ("table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul")
)
_HIDDEN = frozenset({"script", "style", "template"})
_MARKDOWN_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")


def html_to_text(html: str, *, code_blocks: bool = True) -> str:
    """Return the text of an HTML fragment: a line for each block, no markup, character references resolved.

    Args:
        html: the fragment; unclosed or unknown tags do no harm.
        code_blocks: keep what stands in ``<pre>``, its line breaks included. Code inside a sentence is always kept.
    """
    parser = _TextParser(code_blocks)
    parser.feed(html)
    parser.close()
    return parser.text()


def comment_to_text(comment: str) -> str:
    """Return a comment (Stack Exchange keeps these as Markdown) with its links replaced by their words, on one line."""
    return " ".join(_MARKDOWN_LINK.sub(r"\1", comment).split())


class _TextParser(HTMLParser):
    def __init__(self, code_blocks: bool) -> None:
        super().__init__(convert_charrefs=True)
        self._code_blocks = code_blocks
        self._lines: list[str] = [""]
        self._pre = self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _BREAKS:
            self._break()
        self._pre += tag == "pre"
        self._hidden += tag in _HIDDEN

    def handle_endtag(self, tag: str) -> None:
        if tag in _BREAKS:
            self._break()
        self._pre = max(0, self._pre - (tag == "pre"))
        self._hidden = max(0, self._hidden - (tag in _HIDDEN))

    def handle_data(self, data: str) -> None:
        if self._hidden or (self._pre and not self._code_blocks):
            return
        if self._pre:
            first, *rest = data.split("\n")
            self._lines[-1] += first
            self._lines += rest
        else:
            self._lines[-1] += re.sub(r"\s+", " ", data)

    def text(self) -> str:
        stripped = (line.rstrip() if line.startswith((" ", "\t")) and line.strip() else line.strip() for line in self._lines)
        return "\n".join(line for line in stripped if line)

    def _break(self) -> None:
        self._lines.append("")
