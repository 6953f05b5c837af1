"""Keys stay out of the logs of the packages that send requests: a server may repeat a key in a header or an address, which they log at DEBUG."""

from __future__ import annotations

import logging

from harness.chat.providers.keys import redact

PACKAGES = frozenset({"openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2"})
"""The packages whose loggers are filtered."""


class KeyFilter(logging.Filter):
    """A filter that replaces the keys in a record's text and traceback; it lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the keys; the record then holds its finished text and none of the objects that it was made of."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a record whose arguments do not fit: logging itself reports those
            text = str(record.msg)
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info) if record.exc_info[0] is not None else None
        record.msg, record.args, record.exc_info = redact(text), (), None
        record.exc_text = redact(record.exc_text) if record.exc_text else None
        for name, value in vars(record).items():
            if name not in _PLAIN and not isinstance(value, (int, float, type(None))):  # what a package put beside the text
                setattr(record, name, redact(str(value)))
        return True


_FILTER = KeyFilter()
_PLAIN = frozenset(vars(logging.makeLogRecord({})))


def hide_keys_in_logs() -> None:
    """Filter every logger that the packages have made by now: a filter holds for its own logger alone, not for those below it."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in PACKAGES and isinstance(logger, logging.Logger):
            logger.addFilter(_FILTER)  # added once, however often
