"""What libraries write beside a command's output is kept off the screen; errors, and what harness itself has to say, stay."""

from __future__ import annotations

import logging
import os
import sys

from harness.files.progress_lines import say


def quiet_libraries() -> None:
    """Keep libraries from writing where results go, or phoning home; set before they are imported. What the user has set stays."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


class _Shown(logging.Handler):
    """Writes errors of all, and warnings of harness alone, to standard error, without keys."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        from harness.chat.providers.keys import redact

        if record.levelno >= logging.ERROR or record.name.partition(".")[0] in ("harness", "harness_plugins"):
            say(redact(self.format(record)))


def hide_warnings() -> None:
    """Hide the warnings of libraries, whichever way they come: Python's, and those of loggers. For a process that is ours.

    A plugin's author tells users by ``bench.warn``, and sees all warnings with ``PYTHONWARNINGS=default`` (or ``python -W default``).
    """
    logging.getLogger().addHandler(_Shown())
    if not sys.warnoptions:
        logging.captureWarnings(True)
