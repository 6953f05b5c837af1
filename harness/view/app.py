"""The addresses of the pages, and what is answered there. Everything is read; nothing that an address holds is made a path."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from harness.errors import HarnessError
from harness.view import other_items
from harness.view.errors import BadRequest, NotFound
from harness.view.filters import ASPECT_NAMES, CHOSEN, ORDERS, STATUSES, read_cursor, read_filter
from harness.view.guard import Guard
from harness.view.pages import TYPES, address, render, run_address, static_files
from harness.view.run_view import RunView
from harness.view.runs import Runs

FIELDS = ("q", "within", "method", "concept", "instruction", "labeling", "strength", "judge", "status", "differ", "order",
          *(f"{name}_{end}" for name in ASPECT_NAMES for end in ("min", "max")))  # fmt: skip
"""Fields of an address that say what is shown."""


def make_app(runs: Runs) -> Starlette:
    """Return the pages over some runs, as an ASGI application."""
    pages = Pages(runs)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        runs.close()

    return Starlette(
        routes=[
            Route("/", pages.first),
            Route("/run/{run}", pages.with_slash),
            Route("/run/{run}/", pages.texts),
            Route("/run/{run}/state", pages.state),
            Route("/run/{run}/text/{id}", pages.text),
            Route("/run/{run}/detection", pages.detection),
            Route("/run/{run}/detection/{id}", pages.scores),
            Route("/run/{run}/dictionary", pages.dictionary),
            Route("/static/{name}", static),
        ],
        middleware=[Middleware(Guard)],
        exception_handlers={HarnessError: _refused, HTTPException: _no_page},
        lifespan=lifespan,
    )


class Pages:
    """What is answered; each call runs in a thread of its own."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def first(self, request: Request) -> Response:
        """The list of runs, or the texts of the only one."""
        if self._runs.only:
            return self._texts(self._runs.get(self._runs.only), request)
        return HTMLResponse(render("runs.html.jinja", lines=self._runs.lines()))

    def with_slash(self, request: Request) -> Response:
        return RedirectResponse(f"{run_address(self._run(request).id)}/")

    def texts(self, request: Request) -> Response:
        """The texts that a filter holds."""
        return self._texts(self._run(request), request)

    def _texts(self, run: RunView, request: Request) -> Response:
        run.watch()
        given = dict(request.query_params)
        names = run.names()
        asked = read_filter(given, names)
        cursor = read_cursor(given)
        fields = {name: given[name].strip() for name in FIELDS if given.get(name, "").strip()}
        return self._page(
            "texts.html.jinja", run, page=run.page(asked, cursor), asked=asked, fields=fields, orders=ORDERS, statuses=STATUSES, chosen=CHOSEN,
            aspects=ASPECT_NAMES, first=cursor is None,
        )  # fmt: skip

    def text(self, request: Request) -> Response:
        """One text, with those at the other strengths."""
        run, judge = self._run(request), request.query_params.get("judge", "")
        found, others, ignored = run.text(request.path_params["id"], judge)
        return self._page("text.html.jinja", run, text=found, others=others, ignored=ignored)

    def state(self, request: Request) -> Response:
        """How far run and index are, for the script that keeps a page up to date."""
        return JSONResponse(asdict(self._run(request).state()))

    def detection(self, request: Request) -> Response:
        """The labelings of the detection methods."""
        run, given = self._run(request), dict(request.query_params)
        method, concept = given.get("method", "").strip(), given.get("concept", "").strip()
        after = read_cursor({"after": given.get("after", "")})
        with run.reading() as opened:
            rows, more = other_items.list_detection_items(opened.database, opened.names, method, concept, -1 if after is None else after.position)
        return self._page("detection.html.jinja", run, rows=rows, more=more, fields={"method": method, "concept": concept})

    def scores(self, request: Request) -> Response:
        """The scored texts of one labeling."""
        run, given = self._run(request), dict(request.query_params)
        with run.reading() as opened:
            row, item, outcome = other_items.detection_item(opened.database, opened.names, request.path_params["id"])
            found = None if outcome is None else other_items.scored_texts(opened.database, item, outcome, given)
        fields = {name: given[name].strip() for name in ("set", "label", "score_min", "score_max", "order") if given.get(name, "").strip()}
        return self._page(
            "scores.html.jinja", run, row=row, found=found, fields=fields, size=other_items.SCORES,
            sets=other_items.SETS, labels=other_items.LABELS, orders=other_items.ORDERS,
        )  # fmt: skip

    def dictionary(self, request: Request) -> Response:
        """The measurements of dictionaries."""
        run = self._run(request)
        fields = {name: request.query_params.get(name, "").strip() for name in ("metric", "arm")}
        with run.reading() as opened:
            rows, arms = other_items.list_measurements(opened.database, opened.names, **fields)
        return self._page("dictionary.html.jinja", run, rows=rows, arms=arms, fields=fields)

    def _run(self, request: Request) -> RunView:
        run = self._runs.get(request.path_params["run"])
        run.watch()
        return run

    def _page(self, template: str, run: RunView, **values: Any) -> Response:
        names = run.names()
        base = run_address(run.id)
        several = not self._runs.only
        return HTMLResponse(render(template, names=names, state=run.state(), base=base, several=several, link=_links(base, values), **values))


def _links(base: str, values: Mapping[str, Any]) -> Callable[..., str]:
    """Return what makes addresses of the texts' list with the page's filter, but for some fields."""
    fields = values.get("fields", {})
    return lambda **changes: address(f"{base}/", fields, **changes)


def static(request: Request) -> Response:
    """A file beside the pages."""
    name = request.path_params["name"]
    content = static_files().get(name)
    if content is None:
        raise HTTPException(404)
    kind = next(kind for end, kind in TYPES.items() if name.endswith(end))
    return Response(content, media_type=kind, headers={"Cache-Control": "max-age=31536000, immutable"})


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HarnessError)
    status = 400 if isinstance(error, BadRequest) else 404 if isinstance(error, NotFound) else 503
    return HTMLResponse(render("error.html.jinja", message=str(error)), status)


def _no_page(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = "there is no such page" if error.status_code == 404 else error.detail
    return HTMLResponse(render("error.html.jinja", message=message), error.status_code, error.headers)
