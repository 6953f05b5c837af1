"""What a plugin does with its own values after it has returned them changes no answer."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.interventions import Intervention, Positions, Site
from harness.plugin.calls import PluginName
from harness.plugin.guarded import guarded
from harness.plugin.snapshot import Snapshots
from harness.steering.add_vector import AddVector
from harness.types import Concept, Labeling, Measurement, Rating


class OwnEdit:
    """An edit that reads its owner's state when it is applied."""

    sites, positions, batch_key = (Site(0),), Positions(), "own"

    def __init__(self, owner: Any) -> None:
        self.owner = owner


@dataclass
class Owner:
    vector: Any
    deep: Any


def plugin(kind: str, **methods: Any) -> Any:
    return guarded(PluginName(kind, "mine", "their-dist", module=__name__), types.SimpleNamespace(**methods))


def test_a_vector_that_is_written_over_stays_what_it_was() -> None:
    buffer = torch.zeros(3)
    steerer = plugin("steerer", intervene=lambda x, strength: Intervention(edits=(AddVector(Site(0), buffer.mul_(0).add_(strength)),)))
    found = [steerer.intervene(None, strength).edits[0].vector.tolist() for strength in (1.0, 2.0)]
    kept = [steerer.intervene(None, strength) for strength in (1.0, 2.0)]
    assert found == [one.edits[0].vector.tolist() for one in kept] == [[1.0] * 3, [2.0] * 3]


def test_state_of_the_plugins_own_classes_is_copied_however_deep() -> None:
    owner = Owner(np.zeros(2), {"list": [torch.zeros(2)], "tuple": (np.zeros(2), "text")})

    def intervene(labeling: Any, strength: float) -> Intervention:
        owner.vector[:] = strength
        owner.deep["list"][0].fill_(strength)
        owner.deep["tuple"][0][:] = strength
        return Intervention(edits=(OwnEdit(owner),))

    steerer = plugin("steerer", intervene=intervene)
    for strength, one in [(s, steerer.intervene(None, s)) for s in (1.0, 2.0)]:
        held = one.edits[0].owner
        numbers = [held.vector.tolist(), held.deep["list"][0].tolist(), held.deep["tuple"][0].tolist()]
        assert numbers == [[strength] * 2] * 3
        assert held is not owner


def test_one_content_is_copied_once_and_others_objects_are_shared() -> None:
    vector, model = torch.ones(4), torch.nn.Linear(2, 2)
    snapshots = Snapshots(__name__)
    one, other = (snapshots.of(Owner(vector, model)) for _ in range(2))
    assert one.vector is other.vector is not vector
    assert one.deep is model


def test_a_view_of_a_buffer_that_is_used_again() -> None:
    buffer = np.zeros((2, 9))

    def scores(labelings: Any, texts: Any) -> Any:
        buffer[:] = len(texts)
        return buffer[:, : len(texts)]

    detector = plugin("detector", scores=scores)
    first, second = detector.scores([], range(3)), detector.scores([], range(5))
    assert (first == 3).all()
    assert (second == 5).all()


def test_labelings_measurements_and_ratings_are_as_they_were_returned() -> None:
    evidence: dict[str, Any] = {"seen": []}
    concept = Concept("c", "c")
    found = plugin("labeler", label=lambda bench, concepts: [Labeling(concept, evidence=evidence)]).label(None, [])
    measured = plugin("metric", measure=lambda *a: Measurement(1.0, details=evidence)).measure(None, None, 0)
    evidence["seen"].append(1)
    assert found[0].evidence == measured.details == {"seen": []}
    assert found[0].concept is concept

    def submit(items: Any) -> Any:
        rating = Rating("", "rated", 0.0, 1.0, 1.0)
        for item in items:
            object.__setattr__(rating, "item_id", item)
            yield rating

    assert [one.item_id for one in list(plugin("judge", submit=submit).submit("abc"))] == ["a", "b", "c"]


def test_a_value_that_holds_itself() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    made = Snapshots().of(ring)
    assert made is not ring
    assert made[1] is made
