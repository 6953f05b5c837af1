"""Until when a server answers for its models: its list is asked for once a day, and nothing is sent to a model whose day has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from harness.chat import model_list
from harness.chat.providers.servers import Connection, retiring_name
from harness.chat.retirement import ModelRetired, Retirement, Retirements, load_retirements
from harness.types import Json

LISTS = frozenset({"openai"})
"""The APIs whose lists of models may hold a last day."""


class ModelDates:
    """What is known of the ends of a server's models.

    Args:
        api: ``openai`` or ``anthropic``.
        connection: the server.
        folder: the cache folder; None neither reads nor asks for the server's list.
        fetch: returns the server's list of models; may raise whatever it likes.
    """

    def __init__(self, api: str, connection: Connection, folder: Path | None, fetch: Callable[[], Json]) -> None:
        self._server = retiring_name(api, connection.url)
        self._folder, self._fetch = folder, fetch
        self._due = folder is not None and api in LISTS and connection.secret is not None and connection.trusted
        self._asking: asyncio.Task[None] | None = None
        self._known: Retirements | None = None

    def check(self, model: str) -> Retirement | None:
        """Return when the server stops to answer for a model, None where no day is known. Raises ModelRetired once the day has come."""
        if self._known is None:
            self._known = load_retirements(self._folder)
        retirement = self._known.of(self._server, model)
        if retirement is not None and retirement.gone:
            raise ModelRetired(retirement)
        return retirement

    async def ask_once(self) -> None:
        """Ask for the server's list where that is due; many may call at once, and one asks."""
        if not self._due:
            return
        if self._asking is None or self._asking.get_loop() is not asyncio.get_running_loop():
            self._asking = asyncio.ensure_future(asyncio.to_thread(self.ask))
        await asyncio.shield(self._asking)

    def ask(self) -> None:
        """Ask for the server's list where that is due, and keep what it says. What fails is passed over. Blocks."""
        if not self._due or self._folder is None:
            return
        now = model_list.now()
        if not model_list.was_asked(self._folder, self._server, now):
            try:
                body = self._fetch()
            except Exception:  # the list is a help; whatever is wrong with the server is said by what is asked of it next
                body = None
            model_list.keep(self._folder, self._server, now, body)
            self._known = None
        self._due = False
