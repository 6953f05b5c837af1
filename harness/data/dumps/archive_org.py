"""Items of the Internet Archive, https://archive.org: which files one has, with their sizes and checksums."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from harness.chat.values import RequestFailed
from harness.data.dumps.transfer import Remote, unreachable
from harness.data.dumps.web import reply_of, tried
from harness.errors import DataError
from harness.files.json_text import parse_json
from harness.types import Json

BASE = "https://archive.org"
_MD5 = re.compile(r"[0-9a-f]{32}")


def check_base(base: str) -> str:
    """Return the address of a server without a slash at its end. Raises DataError for what is not one."""
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise DataError(f"{base!r} is not the address of a server", given=base, allowed=f"an address like {BASE}", hint="give another --from")
    return base.rstrip("/")


def file_of(base: str, item: str, name: str, facts: Mapping[str, Json] | None = None) -> Remote:
    """Return a file of an item; ``facts`` is what the item's list says of it."""
    size, md5 = (facts or {}).get("size"), (facts or {}).get("md5")
    return Remote(
        name,
        f"{base}/download/{quote(item)}/{quote(name)}",
        int(size) if isinstance(size, str | int) and str(size).isdigit() else None,
        md5 if isinstance(md5, str) and _MD5.fullmatch(md5) else None,
    )


def files_of(base: str, item: str) -> dict[str, Remote] | None:
    """Return the files of an item by name; None where the server has no such list, as a mirror of the files alone has not.

    Raises:
        DataError: the server cannot be reached or does not answer with a list, or there is no such item.
    """
    url, host = f"{base}/metadata/{quote(item)}", urlsplit(base).netloc

    def ask() -> tuple[int, bytes]:
        with reply_of(url) as reply:
            return reply.status_code, reply.read()

    try:
        status, content = tried(ask)
    except RequestFailed as failure:
        raise unreachable(host, failure) from None
    if status == 404:
        return None
    try:
        found = parse_json(content, surrogates="replace") if status == 200 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{host} does not answer with the list of files of {item} (HTTP {status})", given=url, hint="try again later")
    listed = found.get("files")
    if not isinstance(listed, list):  # for an item that it does not have, the archive answers with an empty object
        raise DataError(f"{host} has no item {item!r}", given=item, hint=f"see {BASE}/details/stackexchange, or give another --item")
    rows = [row for row in listed if isinstance(row, dict) and isinstance(row.get("name"), str)]
    return {row["name"]: file_of(base, item, row["name"], row) for row in rows}
