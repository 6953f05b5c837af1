"""The concepts of a run. Example texts, which many concepts share as negatives, are stored once each and referred to by number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from harness.store.database import Database
from harness.store.values import encode
from harness.types import Concept, Json


class Concepts:
    """Stores concepts, and reads them back; what was read is kept in memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._decoded: dict[str, Concept] = {}
        self._texts: dict[int, str] = {}

    def store(self, concepts: Sequence[Concept]) -> list[str]:
        """Store ``concepts`` within a transaction; the digests that refer to them, in order."""
        numbers: dict[str, int] = {}
        known: dict[int, str] = {}  # by identity: comparing thousands of example texts for each labeling is slow
        digests = []
        for concept in concepts:
            if id(concept) not in known:
                value: dict[str, Json] = {"id": concept.id, "text": concept.text, "label": concept.label}
                value |= {name: self._numbers(getattr(concept, name), numbers) for name in ("positives", "negatives")}
                text = encode(value, f"concept {concept.id!r}")
                known[id(concept)] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
                self._database.execute("INSERT OR IGNORE INTO concept_values VALUES (?, ?)", (known[id(concept)], text))
            digests.append(known[id(concept)])
        return digests

    def get(self, concept_digest: str) -> Concept:
        """Return the concept of a digest; equal digests give the same object."""
        if concept_digest not in self._decoded:
            value = json.loads(self._database.value("SELECT value FROM concept_values WHERE digest = ?", (concept_digest,)))
            texts = {name: tuple(self._text(number) for number in value[name]) for name in ("positives", "negatives")}
            self._decoded[concept_digest] = Concept(**{**value, **texts})
        return self._decoded[concept_digest]

    def _numbers(self, texts: Sequence[str], numbers: dict[str, int]) -> list[int]:
        """Return the number of each text, storing those that are new. ``numbers`` remembers what this call has seen."""
        for text in texts:
            if text not in numbers:
                key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
                self._database.execute("INSERT OR IGNORE INTO texts (digest, text) VALUES (?, ?)", (key, text))
                numbers[text] = self._database.value("SELECT id FROM texts WHERE digest = ?", (key,))
        return [numbers[text] for text in texts]

    def _text(self, number: int) -> str:
        if number not in self._texts:
            self._texts.update(self._database.rows("SELECT id, text FROM texts"))
        return self._texts[number]
