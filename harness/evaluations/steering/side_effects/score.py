"""From stored outcomes to the side effects of a row: each concept at its chosen strength against the unsteered model, on the same texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.evaluations.steering.concepts import Scored
from harness.evaluations.steering.side_effects import SIDE_EFFECTS
from harness.evaluations.steering.side_effects.texts import chance, source
from harness.evaluations.steering.side_effects.work import UNSTEERED
from harness.leaderboard.side_effects import ACCURACY, KL, NOT_MEASURABLE, PERPLEXITY, SideEffectItem, SideEffects, mean_of, over_concepts
from harness.leaderboard.values import MetricValue, metric_value
from harness.scoring import clusters_of
from harness.store import Record, RunStore
from harness.store.values import Outcome

_LARGEST = 300.0


class StoredSideEffects:
    """What a run holds of side effects: on today's texts, or else on those of an older harness."""

    def __init__(self, store: RunStore, seed: int) -> None:
        self.seed = seed
        known = store.sources(SIDE_EFFECTS)
        self.source = source() if source() in known else next(iter(known), "")
        self.outcomes: dict[str, Outcome] = {}
        self.unsteered: dict[str, object] = {}
        if self.source:
            self.outcomes = {outcome.item_id: outcome for outcome in store.outcomes(SIDE_EFFECTS, self.source)}
            found = store.record(f"{UNSTEERED} {self.source}")
            self.unsteered = dict(found) if isinstance(found, Mapping) else {}
        self._accuracy: MetricValue | None = None

    @property
    def accuracy(self) -> MetricValue:
        """Return the unsteered accuracy, its interval over questions."""
        if self._accuracy is None:
            right = [float(one) for one in str(self.unsteered["right"])]
            self._accuracy = metric_value(right, item="question", seed=self.seed, bounds=(0.0, 1.0), higher_is_better=True, trivial=chance())
        return self._accuracy

    def of(self, scored: Sequence[Scored], records: Mapping[str, Sequence[Record]]) -> SideEffects | None:
        """Return a method's side effects; None where none of its concepts was measured.

        Args:
            scored: its concepts, with the strengths that were chosen.
            records: its trials by labeling id.
        """
        if not self.unsteered:
            return None
        items, any_measured = [], False
        for one in scored:
            parts = [self._item(part, records.get(part.labeling.id, ())) for part in one.parts]
            any_measured = any_measured or any(part.strength is not None for part in parts)
            items.append(parts[0] if len(parts) == 1 else mean_of(one.labeling.concept.id, parts))
        if not any_measured:
            return None
        clusters = clusters_of((one.labeling.concept.id, one.labeling.features) for one in scored)
        tokens, nll = _numbers(self.unsteered, "tokens"), _numbers(self.unsteered, "nll")
        return SideEffects(
            texts=self.source,
            n_passages=len(tokens),
            n_tokens=int(sum(tokens)),
            n_questions=len(str(self.unsteered["right"])),
            perplexity=math.exp(min(sum(nll) / sum(tokens), _LARGEST)),
            accuracy=self.accuracy,
            metrics=over_concepts(items, clusters, self.seed, self._why_not()),
            items=tuple(items),
        )

    def _why_not(self) -> str:
        """Return why accuracy cannot be measured: guessing explains the unsteered model's. Empty where it can."""
        own, guessing = self.accuracy, self.accuracy.trivial or 0.0
        if own.low is not None and own.low > guessing:
            return ""
        ends = "" if own.low is None else f" [{own.low:.2f}, {own.high:.2f}]"
        return f"{NOT_MEASURABLE}: the unsteered accuracy {own.value:.2f}{ends} does not stand above chance, {guessing:.2f}"

    def _item(self, part: Scored, records: Sequence[Record]) -> SideEffectItem:
        concept, strength = part.labeling.concept.id, part.result.strength
        at = [record.trial.id for record in records if record.trial.strength == strength]
        outcome = self.outcomes.get(at[0]) if strength is not None and at else None
        if outcome is None or outcome.status != "done":
            if strength is None:
                why = "no strength was chosen"
            else:
                why = "not measured at the strength that these ratings choose" if outcome is None else outcome.reason
            return SideEffectItem(id=concept, reason=why)
        found = outcome.value
        assert isinstance(found, Mapping)
        tokens = sum(_numbers(found, "tokens"))
        longer = sum(_numbers(found, "nll")) - sum(_numbers(found, "unsteered_nll"))
        steered, plain = str(found["right"]), str(self.unsteered["right"])
        why = self._why_not()
        values = {
            KL: sum(_numbers(found, "kl")) / tokens,
            PERPLEXITY: math.exp(min(longer / tokens, _LARGEST)),
            ACCURACY: None if why else (steered.count("1") - plain.count("1")) / len(plain),
        }
        return SideEffectItem(id=concept, strength=strength, values=values, reason=why)


def _numbers(found: Mapping[str, object], name: str) -> list[float]:
    values = found[name]
    assert isinstance(values, list)
    return [float(value) for value in values]
