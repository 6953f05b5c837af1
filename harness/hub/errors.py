"""What the hub, its client or the line said, as one line of ours: what is wrong, with what, and what to do next."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from harness.errors import HarnessError
from harness.hub.session import HubFailure
from harness.hub.source import Source, is_offline

_AGAIN = "what is complete is kept, and the same command goes on"
_BROKEN = {"RemoteProtocolError", "ReadError", "ReadTimeout", "ChunkedEncodingError", "XetDownloadError"}
_SHOWN = 160


def offline(source: Source, file: str = "") -> HarnessError:
    """Return the error for something that is not in the cache while the hub may not be asked."""
    variable = "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
    missing = source.title if not file or source.given.endswith(file) else f"{file} of {source.title}"
    at = "" if source.revision is None else f" at revision {source.revision!r}"
    message = f"{missing}{at} is not in the hub cache, and {variable} is set"
    return source.error(message, given=source.given, hint=f"unset {variable}, or {source.instead}")


def unreachable(error: HarnessError) -> bool:
    """Return whether an error of ours says that the hub did not answer at all."""
    return isinstance(error.__cause__, HubFailure) and error.__cause__.status is None


def explained(error: BaseException, source: Source, file: str = "", done: int = 0, size: int | None = None) -> HarnessError:
    """Return the error of one line for whatever was raised while something of a source was asked for.

    Args:
        error: what was raised.
        source: what was asked.
        file: which file of it, where one was.
        done: bytes of it that had come.
        size: its size in bytes, where it is known.
    """
    if isinstance(error, HarnessError):
        return error
    chain = list(_chain(error))
    kinds = {kind.__name__ for item in chain for kind in type(item).__mro__}
    response = next((found for item in chain if (found := getattr(item, "response", None)) is not None), None)
    status = getattr(response, "status_code", None)
    failure = next((item for item in chain if isinstance(item, HubFailure)), None)
    message, hint = (
        _about_access(source, kinds, status)
        or _about_content(source, kinds, file)
        or _about_the_disk(source, chain)
        or _about_the_hub(source, failure, status, response)
        or _about_the_line(source, chain, kinds, file, done, size)
        or (f"{source.title} cannot be fetched from the hub ({_first_line(error)})", f"try again, or {source.instead}")
    )
    return source.error(message, given=source.given, hint=hint)


# ------------------------------------------------------------------------------------------------------------------------------- inside

Advice = tuple[str, str]


def _about_access(source: Source, kinds: set[str], status: int | None) -> Advice | None:
    from huggingface_hub import get_token

    if "GatedRepoError" in kinds:
        if get_token() is None:
            return f"{source.title} is gated", f"accept its terms at {source.url} and set HF_TOKEN"
        message = f"{source.title} is gated, and the account of your token (HF_TOKEN) has no access to it"
        return message, f"accept its terms at {source.url} with that account, or wait until they grant it"
    if "DisabledRepoError" in kinds:
        return f"{source.title} is disabled on the hub", source.instead
    if "RepositoryNotFoundError" in kinds:
        return f"{source.title} was not found on the hub ({source.url}), or it is private", f"check the name, set HF_TOKEN, or {source.instead}"
    if status == 401:
        return f"the hub refuses the token for {source.title} (HTTP 401)", "set HF_TOKEN to a valid token, or unset it"
    if status == 403:
        return f"the hub refuses access to {source.title} (HTTP 403)", f"open {source.url} with the account of your HF_TOKEN, or {source.instead}"
    return None


def _about_content(source: Source, kinds: set[str], file: str) -> Advice | None:
    at = "" if source.revision is None else f" at revision {source.revision!r}"
    if "RevisionNotFoundError" in kinds:
        return f"{source.title} has no revision {source.revision!r}", f"name a branch, tag or commit that {source.url}/commits lists"
    if "RemoteEntryNotFoundError" in kinds or ("EntryNotFoundError" in kinds and "LocalEntryNotFoundError" not in kinds):
        return f"{source.title}: the repository {source.repo}{at} has no {file or 'such file'}", f"see {source.url}/tree/{source.revision or 'main'}"
    if "HFValidationError" in kinds:
        return f"{source.title}: {source.repo!r} is not a name of the hub", "write owner/name"
    return None


def _about_the_disk(source: Source, chain: list[BaseException]) -> Advice | None:
    full = next((item for item in chain if isinstance(item, OSError) and item.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)), None)
    if full is None:
        return None
    return f"{source.title} cannot be stored in the hub cache ({full.strerror})", "free some space, or set HF_HOME to another folder"


def _about_the_hub(source: Source, failure: HubFailure | None, status: int | None, response: object) -> Advice | None:
    status = failure.status if failure is not None else status
    if status is None:
        return None
    if status == 429:
        when = f" in {failure.wait:.0f} s" if failure is not None and failure.wait else " later"
        return f"the hub limits requests and did not answer about {source.title} (HTTP 429)", f"try again{when}, or set HF_TOKEN"
    if status >= 500:
        message = f"the hub failed when it was asked for {source.title} (HTTP {status})"
        return message, f"the fault is the hub's: try again later, or {source.instead}"
    return f"the hub refused a request for {source.title} (HTTP {status})", f"see {source.url}, or {source.instead}"


def _about_the_line(
    source: Source, chain: list[BaseException], kinds: set[str], file: str, done: int, size: int | None
) -> Advice | None:
    import huggingface_hub.constants as constants

    text = " ".join(str(item) for item in chain)
    if "OfflineModeIsEnabled" in kinds or ("LocalEntryNotFoundError" in kinds and is_offline()):
        found = offline(source, file)
        return found.message, found.hint
    if done or "Consistency check failed" in text or "(IncompleteRead" in text or (kinds & _BROKEN and "HubFailure" not in kinds):
        share = f" after {done / 1e6:.1f} MB" + (f" of {size / 1e6:.1f} MB" if size else "") if done else ""
        part = "" if not file or source.given.endswith(file) else f"{file} of "
        return f"the download of {part}{source.title} broke off{share}", _AGAIN
    failure = next((item for item in chain if isinstance(item, HubFailure)), None)
    if failure is not None or kinds & {"TransportError", "ConnectionError", "LocalEntryNotFoundError", "FileMetadataError", "TimeoutError"}:
        reason = failure.reason if failure is not None else _first_line(chain[-1])
        message = f"the hub cannot be reached at {constants.ENDPOINT} for {source.title} ({reason[:_SHOWN]})"
        return message, f"check the network (and HF_ENDPOINT, if you set it), or {source.instead}"
    return None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}{': ' + lines[0][:_SHOWN] if lines else ''}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what led to it, itself first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
