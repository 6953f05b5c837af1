"""Which control of a group a method is compared with: its own (random features, through its own steerer), and those that are everybody's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.leaderboard.merging import configuration
from harness.leaderboard.older_controls import control_kind
from harness.leaderboard.places import Place
from harness.leaderboard.subject import DetectionSubject, DictionarySubjectRef, SteeringSubject
from harness.options import split_options
from harness.types import ControlKind, Json, digest

Relation = Literal["own", "everybody's"]


@dataclass(frozen=True)
class Pairing:
    """A method and a control of it, by their places in the group.

    Attributes:
        name: what the control is called in a sentence about the method: ``random`` rather than ``random × sae-clamp``.
        own: whether the control was made for this method, as random features are.
        kind: as which control it stands; None for one that needs no features, and for a dictionary's.
    """

    method: int
    control: int
    name: str
    own: bool
    kind: ControlKind | None = None


def pairings_of(places: Sequence[Place]) -> list[Pairing]:
    """Return which methods are compared with which controls, in the order of the places.

    A control with a labeler stands for the labelers that it names (:attr:`Row.controls`), or for all where it names none, and for methods with its
    own steerer or detector (random features) or with its own labeler (a random direction). A control without a labeler (a prompt, a difference of
    means, the unsteered model, a bag of words) stands for all. The control of a dictionary is that of the same name. Rows that are not eligible take
    no part, and a control that was read at a method's strengths is compared at its own.

    A control of another run counts where no run of the method has one of its sort, and it ran as the method did (:func:`ran_alike`).
    """
    controls = [number for number, place in enumerate(places) if _is_control(place)]
    found = []
    for method, place in enumerate(places):
        if place.standing in ("ranked", "unpaired"):
            pairs = [(control, relation) for control in controls if control != method and (relation := _relation(place, places[control]))]
            pairs = _of_the_same_runs(place, places, pairs)
            names = _short_names(place, [places[control] for control, _ in pairs])
            found += [
                Pairing(method, control, name, relation == "own", control_kind(places[control].row))
                for (control, relation), name in zip(pairs, names, strict=True)
            ]
    return found


def lacks_random(place: Place) -> bool:
    """Return whether a method that may be compared has no random control of its own, although it uses features or is a dictionary.

    One that goes by random features itself needs none.
    """
    if place.standing not in ("ranked", "unpaired") or control_kind(place.row) == "random features":
        return False
    if isinstance(place.row.subject, DictionarySubjectRef):
        return not any(found.own for found in place.against)
    return place.row.subject.labeler is not None and not any(found.own and found.kind == "random features" for found in place.against)


def _of_the_same_runs(method: Place, places: Sequence[Place], pairs: list[tuple[int, Relation]]) -> list[tuple[int, Relation]]:
    """Return the controls that ran beside the method, and those of other runs that take the place of one that did not."""
    entries = {run.entry.id for run in method.runs}
    beside = {control for control, _ in pairs if entries & {run.entry.id for run in places[control].runs}}
    sorts = {_sort(places[control]) for control in beside}
    return [
        (control, relation)
        for control, relation in pairs
        if control in beside or (_sort(places[control]) not in sorts and ran_alike(method, places[control]))
    ]


def _sort(control: Place) -> str:
    """Return what a control is one of: of its kind, else of its steerer or detector, or its arm."""
    subject = control.row.subject
    return control_kind(control.row) or (subject.arm if isinstance(subject, DictionarySubjectRef) else _plugin(subject))


def ran_alike(method: Place, control: Place) -> bool:
    """Whether a control of another run had what the method had: model, precision, decoding, instructions, and through one steerer its strengths."""
    ours, theirs = (configuration(place.entry, place.runs[-1].row) for place in (method, control))
    first, second = method.row.subject, control.row.subject
    same_plugin = isinstance(first, SteeringSubject) and isinstance(second, SteeringSubject) and first.steerer == second.steerer
    aspects = ours.keys() & theirs.keys() - {"subject", "eligible"} - (set() if same_plugin else {"strengths"})
    return all(ours[aspect] == theirs[aspect] for aspect in aspects)


def _is_control(place: Place) -> bool:
    """Whether any run has it as a control: a difference of means may be a method of one run and a control of another."""
    return place.standing != "ineligible" and any(run.row.role == "control" for run in place.runs)


def _relation(method: Place, control: Place) -> Relation | None:
    """Return what a control is to a method; None where it is another's."""
    first, second = method.row.subject, control.row.subject
    if isinstance(second, DictionarySubjectRef):
        assert isinstance(first, DictionarySubjectRef)
        return "own" if first.dictionary == second.dictionary else None
    assert not isinstance(first, DictionarySubjectRef)
    if _model(method) != _model(control):
        return None
    if second.labeler is None:
        return "everybody's"
    if first.labeler is None:  # it learnt something for each concept, and its control steers by what was learnt for others
        return "own" if control_kind(control.row) == "permuted fits" and _applied(first) == _applied(second) else None
    if _weights(method) != _weights(control):
        return None
    if control.row.controls and not _called(first) & set(control.row.controls):
        return None
    return "own" if _applied(first) == _applied(second) or _by_the_same_labels(first, second) else None


def _by_the_same_labels(method: SteeringSubject | DetectionSubject, control: SteeringSubject | DetectionSubject) -> bool:
    """Whether a control goes by the method's own labels, in another way (a random direction as long as the features' rows), with its options.

    Of joined steerers, all are as they are in the method, but that way stands in the place of those that steer by the labels.
    """
    if (method.labeler, method.labeler_options.identity) != (control.labeler, control.labeler_options.identity):
        return False
    ours, theirs = split_options(_plugin(method), _options(method)), split_options(_plugin(control), _options(control))
    if len(ours) != len(theirs):
        return False
    pairs = list(zip(ours, theirs, strict=True))
    changed = [(own.keys() & their.keys(), name) for (first, own), (name, their) in pairs if first != name]
    if len(pairs) > 1 and (len({name for _, name in changed}) > 1 or not all(shared for shared, _ in changed)):
        return False
    return all(own[option] == their[option] for (_, own), (_, their) in pairs for option in own.keys() & their.keys())


def _options(subject: SteeringSubject | DetectionSubject) -> dict[str, Json]:
    return subject.steerer_options.identity if isinstance(subject, SteeringSubject) else subject.detector_options.identity


def _model(place: Place) -> str:
    return place.entry.model.digest or place.entry.model.name


def _weights(place: Place) -> set[str]:
    """Return what identifies the dictionaries: random features of other ones are no control."""
    return {part.digest or part.source for part in place.entry.dictionaries}


def _applied(subject: SteeringSubject | DetectionSubject) -> str:
    """Identifies the steerer or detector with its options."""
    return digest([_plugin(subject), _options(subject)])


def _plugin(subject: SteeringSubject | DetectionSubject) -> str:
    return subject.steerer if isinstance(subject, SteeringSubject) else subject.detector


def _called(subject: SteeringSubject | DetectionSubject) -> set[str]:
    """Return what a control may call the labeler of a method: what people call it, or its name with the digest of its options."""
    assert subject.labeler is not None
    options: Json = subject.labeler_options.identity
    title = subject.label.partition(" × ")[0] if subject.label else subject.labeler
    return {title, f"{subject.labeler}-{digest([subject.labeler, options], 12)}"}


def _short_names(method: Place, controls: Sequence[Place]) -> list[str]:
    """Return what a method's controls are called beside it: by what they do otherwise than the method, where that tells them apart."""
    names = [_short(method, control) for control in controls]
    return [name if names.count(name) == 1 else control.name for name, control in zip(names, controls, strict=True)]


def _short(method: Place, control: Place) -> str:
    first, second = method.row.subject, control.row.subject
    if isinstance(second, DictionarySubjectRef):
        return second.arm
    assert not isinstance(first, DictionarySubjectRef)
    if second.labeler is None:
        return control.name
    return second.labeler if _plugin(first) == _plugin(second) else _plugin(second)
