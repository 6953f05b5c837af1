"""Hostile texts, and details of runs that are made of them, for the tests of pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.leaderboard.entry import Entry
from harness.leaderboard.site.details import (
    BINS,
    ConceptScores,
    ConceptTexts,
    Curve,
    Detected,
    Label,
    LabelFeature,
    Labels,
    LossCurve,
    RunDetails,
    Snippet,
    Text,
    Training,
)

SCRIPT = "<script>window.hacked = 1</script>"
HOSTILE = (
    SCRIPT,
    f"</script>{SCRIPT}",
    '"><img src="x" onerror="window.hacked = 2">',
    "' onmouseover='window.hacked = 3",
    "\u202edrow\u2066",
    "w" * 10_000,
    "<!--<script> {{ 7 * 7 }} {% raw %} & \u2028 \x00 \x1b[2J",
)
"""Texts that would run, hide or break something on a page that took them for markup."""
GRID = (0.2, 0.4)


def hostile(number: int) -> str:
    """One of the texts, with a number that tells it from others."""
    return f"{number}: {HOSTILE[number % len(HOSTILE)]}"


def details_for(entry: Entry, n_texts: int = 6) -> RunDetails:
    """Details of a run whose names, texts and labels are all hostile."""
    steering = [row for row in entry.rows if row.kind == "steering"]
    detection = [row for row in entry.rows if row.kind == "detection"]
    concepts = [item.id for item in steering[0].items] if steering else []
    curves = [
        Curve(
            method=row.subject.id,
            strengths=GRID,
            unit="residual-norm",
            mean=((0.5, 0.6, 1.5, 1.9), (0.8, 1.1, 1.2, 1.5)),
            concepts=dict.fromkeys(concepts, ((0.4, 0.5, 1.5, 1.9), (0.9, 1.2, 1.2, 1.4))),
            counts={name: (3, *(0,) * (len(BINS) - 2), 5) for name in ("overall", "concept", "instruction", "fluency")},
            n_unrated=1,
        )
        for row in steering
    ]
    texts = [
        ConceptTexts(
            concept,
            hostile(place),
            hostile(place + 1),
            Text(0.0, hostile(place + 2)),
            {
                row.subject.id: tuple(Text(strength, hostile(place + 3), 1.0, (1.0, 1.0, 1.0), hostile(place + 4)) for strength in GRID)
                for row in steering
            },
        )
        for place, concept in enumerate(concepts[:n_texts])
    ]
    feature = LabelFeature(
        "sae/7",
        measure="calibrated_f1",
        chosen_on={"score": 0.9},
        held_out={"score": 0.7, "precision": 0.5, "recall": 0.25, "auroc_frequency": 0.8, "support": 12},
        other_half="sae/7",
        density=0.01,
        maximum=4.0,
        promotes=(hostile(2),),
        snippets=(Snippet("t1", (hostile(0),), 4.0, ((hostile(1), 0.0), (hostile(2), 4.0), (" after", 1.0))),),
    )
    labels = Labels(hostile(0), (Label("c0", hostile(1), 0.9, (feature,)), Label("c1", hostile(2), reason=hostile(3))), 0.75, 4)
    roc = ((0.0, 0.0), *((step / 40, (step / 40) ** 0.5) for step in range(41)))
    scores = ConceptScores(roc, (0.0, 0.5, 1.0), (1, 5), (8, 2))
    detected = [Detected(row.subject.id, roc, {item.id: scores for item in row.items if item.answered}) for row in detection]
    losses = LossCurve((None, 2.5, 1.25), (None, 2.0, 1.0), (None, 3.0, 1.5)), LossCurve((2.75, 2.625, 1.5), (2.0, 2.0, 1.25), (3.5, 3.0, 2.0))
    nothing = LossCurve(*[(None, None)] * 3)
    trainings = [Training(hostile(1), 12, tuple(map(hostile, range(12))), (0, 10, 20), *losses), Training("bare", 1, (), (0, 5), nothing, nothing)]
    return RunDetails(
        run=hostile(0),
        started="2026-01-31T12:00:00+00:00",
        status="finished",
        command=f"harness eval --task '{SCRIPT}'",
        hardware={"cores": "2"},
        curves=tuple(curves),
        texts=tuple(texts),
        labels=(labels,),
        detected=tuple(detected),
        trainings=tuple(trainings),
        n_texts=100,
        n_concepts_with_texts=len(concepts),
    )


def entry_of(make_entry: Callable[..., Entry], rows: list[Any], number: int, **changes: Any) -> Entry:
    """An entry of another run, with hostile names and texts."""
    dictionaries = [{"name": "sae", "source": hostile(1), "digest": f"d{number % 3}", "layer": number % 4, "d_sae": 512 * (1 + number % 3)}]
    model = {"name": hostile(number) if number < 3 else f"model-{number % 3}", "digest": f"m{number}", "dtype": "float32", "device": "cpu"}
    fields = {"dictionaries": dictionaries, "model": model, "seed": number, "run_digest": f"r{number}", "warnings": (hostile(0), hostile(2))}
    return make_entry(*rows, **{**fields, **changes})


def sample(number: int) -> dict[str, Any]:
    """A sample of a row, as JSON."""
    return {"concept_text": hostile(number), "instruction": hostile(number + 1), "strength": 0.4, "text": hostile(number + 2), "overall": 1.0}
