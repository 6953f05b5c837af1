"""The feature that each concept of the task was worded for, as its list of concepts says: AxBench's SAE rows.

Neuronpedia's name of the feature tells of which SAE it is; on another one it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness import hookimpl
from harness.contracts import LabelerTraits
from harness.data.neuronpedia.explanations import SourceId
from harness.data.neuronpedia.open import check_belongs, neuronpedia_id
from harness.errors import DataError, DictionaryError, OptionError
from harness.options import Options, filter_field
from harness.types import Abstention, Concept, FeatureRef, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench


class StatedOptions(Options):
    """Options of ``stated``."""

    dictionary: str | None = filter_field(None)
    """The task's dictionary that the features belong to; none takes its first."""


class Stated:
    """Takes the features that the task states; implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: StatedOptions) -> None:
        self.options = options
        self.traits = LabelerTraits(selects_on="nothing", needs_corpus=False)

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        """Label the concepts of a task.

        Raises:
            OptionError: the labeler chooses its concepts on this task.
            DataError: a feature is not named as Neuronpedia names it.
            DictionaryError: a feature is of another SAE.
        """
        if bench.concept_mode == "chosen":
            message = "labeler stated takes the features that a task's list of concepts names, and this task has no list (concepts.mode = 'chosen')"
            raise OptionError(message, given="chosen", allowed="a task in fixed mode", hint="use another labeler")
        name = bench.dictionary_name(self.options.dictionary)
        sources: dict[SourceId, int] = {}
        answers: list[Labeling | Abstention] = []
        for concept in concepts:
            if concept.feature is None:
                answers.append(Abstention(concept, "the task's list of concepts names no feature for it"))
                continue
            source, index = _parsed(concept)
            sources[source] = max(index, sources.get(source, -1))
            answers.append(Labeling(concept, (FeatureRef(name, index),), None, {"feature": concept.feature}))
        for source, largest in sources.items():
            _check(bench, name, source, largest)
        return answers


def _check(bench: Bench, name: str, source: SourceId, largest: int) -> None:
    dictionary = bench.dictionaries[name]
    note = check_belongs(source, dictionary, largest, "features")
    own = neuronpedia_id(dictionary)
    if own is not None and own != source:
        message = f"the task's concepts name features of {source}, and dictionary {name} is {own}: an index means another feature there"
        raise DictionaryError(message, given=str(source), allowed=str(own), hint="use the dictionary that the concepts were made for")
    if note:
        bench.warn(f"stated: {note}")


def _parsed(concept: Concept) -> tuple[SourceId, int]:
    source, _, index = str(concept.feature).rpartition("/")
    if not (index.isascii() and index.isdigit()):
        message = f"the feature of concept {concept.id!r} is {concept.feature!r}"
        raise DataError(message, given=concept.feature, allowed="model/source/index", hint="write it as gemma-2-2b/20-gemmascope-res-16k/353")
    return SourceId.parse(source), int(index)


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add("stated", Stated, options=StatedOptions, summary="the features that the task's list of concepts names (AxBench's SAE rows)")
