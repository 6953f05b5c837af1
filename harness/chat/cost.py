"""What requests cost: a dated price table that the user can override, the cost of real usage, and an upper bound before anything is sent.

What has no price costs an unknown amount (None), never 0; only what runs on this machine or in its private network is free unless a price is given.
"""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.chat.values import ChatRequest, Usage
from harness.errors import OptionError
from harness.files.toml import read_toml
from harness.types import canonical_json

PRICES_ENV = "HARNESS_PRICES"
"""Environment variable: a price file of the user's, in the form of ``prices.toml`` beside this module."""

FILE_NAME = "prices.toml"
CHARACTERS_PER_TOKEN = 2.5
"""For upper bounds, where a provider's table names no number of its own."""

TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST = 8, 16
"""What roles, separators and the reply's opening take at most."""

FREE = "a local server, free unless the price file says otherwise"
"""Where the price of a local server is from."""

_LOCAL_NAMES = (".localhost", ".local", ".lan", ".internal", ".home.arpa")
SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
"""What a snapshot's name has behind that of its model."""


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens. Without a price of its own, cached input is charged as any input."""

    input: float
    output: float
    cached_input: float | None = None

    def of(self, usage: Usage) -> float:
        """Return dollars for ``usage``."""
        cached = self.input if self.cached_input is None else self.cached_input
        return ((usage.input - usage.cached_input) * self.input + usage.cached_input * cached + usage.output * self.output) / 1e6


@dataclass(frozen=True)
class Prices:
    """A price table.

    Attributes:
        date: when the shipped prices were looked up, ``YYYY-MM-DD``.
        models: prices by (provider, model).
        batch: share of the price that a batch pays.
        characters_per_token: by provider, for upper bounds.
        schema_tokens: by API: input tokens that it adds to a request with a schema, beside the schema itself.
        own: the user's files that were read over the shipped table.
        place: the file in which the user's prices go.
    """

    date: str
    models: Mapping[tuple[str, str], Price] = field(default_factory=dict)
    batch: float = 0.5
    characters_per_token: Mapping[str, float] = field(default_factory=dict)
    schema_tokens: Mapping[str, int] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    place: str = FILE_NAME

    def price(self, provider: str, model: str) -> Price | None:
        """Return the price of a model, None where it is not known. A dated snapshot (``gpt-4o-2024-08-06``) without a row costs what its model costs.

        ``provider`` is :attr:`harness.chat.values.Provider.name`: a server of one's own (``openai@host:8000``) has no price but the user's, and
        without one it is free where it is local (:func:`is_local`), and unknown elsewhere.
        """
        stated = self.stated(provider, model)
        return Price(0.0, 0.0) if stated is None and is_local(provider) else stated

    def stated(self, provider: str, model: str) -> Price | None:
        """Return the price of a model that stands in a table; None where none does."""
        exact = self.models.get((provider, model))
        return exact if exact is not None else self.models.get((provider, SNAPSHOT.sub("", model)))

    def cost(self, provider: str, model: str, usage: Usage, batch: bool = False) -> float | None:
        """Return dollars for ``usage``; None where the model's price is not known."""
        price = self.price(provider, model)
        return None if price is None else price.of(usage) * (self.batch if batch else 1.0)

    @property
    def source(self) -> str:
        """Return where the prices are from, for people."""
        return f"prices of {self.date}" + "".join(f" and {path}" for path in self.own)


@dataclass(frozen=True)
class Estimate:
    """What requests will cost, before anything is sent: an upper bound for each, and how many there may be.

    Attributes:
        calls: requests that will be sent; what the cache holds, and repeated requests, are left out.
        input_tokens: at most, estimated from the characters (see :class:`Tally`).
        output_tokens: at most: ``max_tokens`` of each request.
        cost: dollars at most, None where a model's price is not known.
        unpriced: the models without a price, as ``provider/model``.
        cached: requests that the cache answers, or that repeat another.
        source: where the prices are from.
        sections: for each model without a price, the section of a price file that would give one, as TOML.
        place: the file in which such sections go.
        repeats: what may come on top where replies cannot be read and are asked for again, at most; None for nothing.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = 0.0
    unpriced: tuple[str, ...] = ()
    cached: int = 0
    source: str = ""
    sections: tuple[str, ...] = ()
    place: str = ""
    repeats: Estimate | None = None

    def __add__(self, other: Estimate) -> Estimate:
        repeats = [part.repeats for part in (self, other) if part.repeats is not None]
        return Estimate(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=None if self.cost is None or other.cost is None else self.cost + other.cost,
            unpriced=tuple(dict.fromkeys(self.unpriced + other.unpriced)),
            cached=self.cached + other.cached,
            source=self.source or other.source,
            sections=tuple(dict.fromkeys(self.sections + other.sections)),
            place=self.place or other.place,
            repeats=sum(repeats[1:], repeats[0]) if repeats else None,
        )

    def times(self, n: int) -> Estimate:
        """Return the same ``n`` times over: for requests that do not exist yet, of which one of the largest stands for all."""
        cost = None if self.cost is None else self.cost * n
        counts = {name: getattr(self, name) * n for name in ("calls", "input_tokens", "output_tokens", "cached")}
        return replace(self, cost=cost, repeats=None if self.repeats is None else self.repeats.times(n), **counts)

    @property
    def most(self) -> Estimate:
        """Return the estimate with all repeats: the upper bound that nothing exceeds."""
        once = replace(self, repeats=None)
        return once if self.repeats is None else once + self.repeats

    def __str__(self) -> str:
        """Return one line for people: first what is likely (every reply can be read), then the most that it can be."""
        calls = f"{self.calls:,} call{'' if self.calls == 1 else 's'}" + (
            f" ({self.cached:,} more are in the cache)" if self.cached else ""
        )
        line = f"{calls}, at most {self.input_tokens:,} input and {self.output_tokens:,} output tokens"
        if self.cost is not None:
            line += f", at most ${self.cost:,.2f}"
        if self.repeats is not None:
            price = "" if self.most.cost is None else f" and ${self.most.cost:,.2f}"
            line += f"; with repeats of unreadable replies at most {self.most.calls:,} calls{price}"
        if self.most.cost is None:
            return f"{line}; cost unknown: no price for {', '.join(self.most.unpriced)}"
        return line + (f" ({self.source})" if self.source else "")


def is_local(provider: str) -> bool:
    """Return whether a provider's server is this machine, or in its private network: by its address, or by a name that no public server has."""
    try:
        host = (urlsplit(f"//{provider.partition('@')[2]}").hostname or "").rstrip(".")
    except ValueError:
        return False
    try:
        address = ipaddress.ip_address(host)
        return not (getattr(address, "ipv4_mapped", None) or address).is_global
    except ValueError:
        return host.endswith(_LOCAL_NAMES) or (host != "" and "." not in host and not host.isdigit())


class Tally:
    """Adds up an upper bound of what requests will cost, each answered once.

    Input tokens: ASCII characters divided by the provider's ``characters_per_token`` (3 for OpenAI, whose tokens hold 4 to 4.5 characters of
    English; 2.5 elsewhere), the UTF-8 bytes of all other characters, 8 a message and 16 a request, and what the API adds where a reply has a
    schema (Anthropic: text about its tools). Output tokens: ``max_tokens``. No cached
    input is assumed. A server may charge, on top, for a reply that a dropped connection kept from us and that is asked for again.

    Args:
        provider: the provider's name.
        prices: from :func:`load_prices`.
        batch: priced as a batch.
    """

    def __init__(self, provider: str, prices: Prices, batch: bool = False) -> None:
        self._provider, self._prices, self._batch = provider, prices, batch
        self._ratio = prices.characters_per_token.get(provider, CHARACTERS_PER_TOKEN)
        self._schema_tokens = prices.schema_tokens.get(provider.partition("@")[0], 0)
        self._by_model: dict[str, Usage] = {}
        self._calls = 0

    def add(self, request: ChatRequest, times: int = 1) -> None:
        """Count a request, or so many of its size."""
        extra = self._schema_tokens if request.schema is not None else 0
        bound = Usage(input=times * (input_bound(request, self._ratio) + extra), output=times * request.max_tokens)
        self._by_model[request.model] = self._by_model.get(request.model, Usage()) + bound
        self._calls += times

    def estimate(self, cached: int = 0, repeats: Estimate | None = None) -> Estimate:
        """Return what was added; ``cached`` and ``repeats`` as they are to be shown."""
        total = sum(self._by_model.values(), Usage())
        costs = {model: self._prices.cost(self._provider, model, usage, self._batch) for model, usage in self._by_model.items()}
        unpriced = tuple(f"{self._provider}/{model}" for model, cost in costs.items() if cost is None)
        cost = None if unpriced else math.fsum(cost for cost in costs.values() if cost is not None)
        sections = tuple(_section(self._provider, model) for model, cost in costs.items() if cost is None)
        free = bool(costs) and is_local(self._provider) and not any(self._prices.stated(self._provider, model) for model in costs)
        source = FREE if free else self._prices.source
        return Estimate(
            self._calls, total.input, total.output, cost, unpriced, cached, source, sections, self._prices.place, repeats
        )


def _section(provider: str, model: str) -> str:
    """Return the section of a price file for a model; its prices are for people to fill in."""
    return f"[{json.dumps(provider, ensure_ascii=False)}.models]\n{json.dumps(model, ensure_ascii=False)} = {{ input = 0.00, output = 0.00 }}"


def input_bound(request: ChatRequest, characters_per_token: float = CHARACTERS_PER_TOKEN) -> int:
    """Return input tokens of a request at most, estimated from its characters; see :class:`Tally`."""
    texts = [message.content for message in request.messages]
    if request.schema is not None:
        texts.append(canonical_json(dict(request.schema)))
    plain = sum(len(text) if text.isascii() else sum(character < "\x80" for character in text) for text in texts)
    other = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) - plain
    return math.ceil(plain / characters_per_token) + other + TOKENS_PER_MESSAGE * len(request.messages) + TOKENS_PER_REQUEST


def load_prices(folder: Path | None = None) -> Prices:
    """Return the shipped prices, with the user's over them.

    Those are in ``prices.toml`` in ``folder`` (the cache folder), and in the file that ``HARNESS_PRICES`` names.

    Raises:
        OptionError: a file of the user's is missing where it was named, or malformed.
    """
    first, *own = price_files(folder)
    shipped = _read(first)
    for path in own:
        shipped = _over(shipped, _read(path), str(path))
    place = own[-1] if named_file() is not None else folder / FILE_NAME if folder is not None else Path(FILE_NAME)
    return replace(shipped, place=str(place))


def price_files(folder: Path | None = None) -> list[Path]:
    """Return the shipped price file, then the user's, each of which goes before those in front of it; ``folder`` as in :func:`load_prices`."""
    paths = [Path(__file__).with_name(FILE_NAME)]
    paths += [folder / FILE_NAME] if folder is not None and (folder / FILE_NAME).is_file() else []
    named = named_file()
    return paths + ([named] if named is not None else [])


def named_file() -> Path | None:
    """Return the price file that ``HARNESS_PRICES`` names, None where it names none."""
    named = os.environ.get(PRICES_ENV, "").strip()
    return Path(named).expanduser() if named else None


def read_price_file(path: Path) -> dict[str, Any]:
    """Return the content of a price file, unchecked. Raises OptionError where it cannot be read."""
    return read_toml(path, "price file", OptionError, f"mend it, or unset {PRICES_ENV}")


def _over(base: Prices, own: Prices, path: str) -> Prices:
    return Prices(
        base.date,
        {**base.models, **own.models},
        base.batch if math.isnan(own.batch) else own.batch,
        {**base.characters_per_token, **own.characters_per_token},
        {**base.schema_tokens, **own.schema_tokens},
        (*base.own, path),
    )


_SECTION = ("source", "characters_per_token", "schema_tokens", "models", "shutdown", "reasoning")
"""The last two are read by :mod:`harness.chat.retirement` and :mod:`harness.chat.reasoning`."""


def _read(path: Path) -> Prices:
    content = read_price_file(path)
    models: dict[tuple[str, str], Price] = {}
    ratios: dict[str, float] = {}
    schema_tokens: dict[str, int] = {}
    for provider, section in content.items():
        if not isinstance(section, dict):
            if provider not in ("date", "batch"):
                message, allowed = f"the price file {path} has {provider!r} at its top", ("date", "batch", "one table a provider")
                raise OptionError(message, given=provider, allowed=allowed)
            continue
        if wrong := sorted(set(section) - set(_SECTION)):
            raise OptionError(f"the price file {path} has [{provider}] {wrong[0]}", given=wrong[0], allowed=_SECTION)
        if "characters_per_token" in section:
            ratios[provider] = _number(section["characters_per_token"], path, f"[{provider}] characters_per_token", above_zero=True)
        if "schema_tokens" in section:
            schema_tokens[provider] = math.ceil(_number(section["schema_tokens"], path, f"[{provider}] schema_tokens"))
        for model, row in section.get("models", {}).items():
            models[provider, model] = _price(row, path, f"[{provider}.models] {model}")
    batch = _number(content["batch"], path, "batch") if "batch" in content else math.nan
    return Prices(str(content.get("date", "an unknown day")), models, batch, ratios, schema_tokens)


def _price(row: Any, path: Path, where: str) -> Price:
    if not isinstance(row, dict) or not {"input", "output"} <= set(row) or set(row) - {"input", "output", "cached_input"}:
        allowed = "{ input = …, output = … } and, where there is one, cached_input"
        raise OptionError(f"the price file {path}, {where} is not a price", given=row, allowed=allowed)
    return Price(**{name: _number(value, path, f"{where} {name}") for name, value in row.items()})


def _number(value: Any, path: Path, where: str, above_zero: bool = False) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value < 0
        or (above_zero and value == 0)
    ):
        allowed = f"a number {'above' if above_zero else 'of at least'} 0"
        raise OptionError(f"the price file {path}, {where} is {value!r}", given=value, allowed=allowed)
    return float(value)
