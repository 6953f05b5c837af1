"""Why concepts cannot be labelled or detected, as far as the corpus tells before anything is computed: labels that it lacks, and too few texts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.data.corpora.columns import columns_of, label_column
from harness.run.bench import TaskBench
from harness.types import Abstention, Concept, Labeling


@dataclass(frozen=True)
class ConceptProblem:
    """What is wrong with a concept.

    Attributes:
        concept: its id.
        text: what is wrong, for people.
        support: texts that have its label.
        mistake: it looks like one: there is a label that is nearly the same.
    """

    concept: str
    text: str
    support: int
    mistake: bool = False

    @property
    def absent(self) -> bool:
        """Whether the corpus lacks the label altogether."""
        return self.support == 0


def concept_problems(bench: TaskBench, concepts: Iterable[Concept]) -> dict[str, ConceptProblem]:
    """What is wrong with concepts that the task lists, by id; nothing for those that name no label, and without a corpus."""
    found: dict[str, ConceptProblem] = {}
    if not bench.has_corpus:
        return found
    support = dict(zip(bench.labels.names, bench.labels.support.tolist(), strict=True))
    folded = {name.casefold(): name for name in support}
    for concept in concepts:
        label = concept.label
        if label is None:
            continue
        if label not in support:
            near = folded.get(label.casefold()) or next(iter(difflib.get_close_matches(label, support, n=1, cutoff=0.6)), None)
            meant = f"; did you mean {near!r}?" if near is not None else ""
            found[concept.id] = ConceptProblem(concept.id, f"the corpus has no label {label!r}{meant}", 0, near is not None)
        elif support[label] < bench.min_support:
            few = f"label {label!r} has {support[label]} of the {bench.min_support} texts that concepts.min_support asks for"
            found[concept.id] = ConceptProblem(concept.id, few, support[label])
    return found


def wrong_column(bench: TaskBench, concepts: Sequence[Concept]) -> str:
    """Where the labels of a corpus are read from, if none of those that concepts name is among them; else empty."""
    labels = {concept.label for concept in concepts if concept.label is not None}
    if not bench.has_corpus or not labels or labels & set(bench.labels.names):
        return ""
    own = bench.task.file.corpus.label_field if bench.choices.corpus is None else None
    columns = columns_of(bench.corpus_path, bench.corpus.format)
    column = label_column(columns, bench.choices.label_field or own)
    message = f"none of the {len(labels)} labels that the task's concepts name is in the corpus {bench.corpus_path}"
    if not columns:
        return message
    read = f"its labels are read from column {column!r}" if column is not None else "no column of it is read as labels"
    return f"{message}: {read}, and it has the columns {', '.join(columns)}; name the right one with --label-field (corpus.label_field)"


def note_problems(bench: TaskBench) -> None:
    """Say before anything is computed what will leave concepts without an answer; kept with the run."""
    if bench.concept_mode != "fixed" or not bench.has_corpus:
        return
    concepts = bench.list_concepts()
    if why := wrong_column(bench, concepts):
        bench.progress.step(why)
        bench.warn(why)
        return
    for problem in concept_problems(bench, concepts).values():
        bench.progress.step(f"concept {problem.concept}: {problem.text}")


def explained(answers: Sequence[Labeling | Abstention], bench: TaskBench) -> list[Labeling | Abstention]:
    """Answers in which abstentions say what is wrong with their concept, whatever the labeler knows of it."""
    problems = concept_problems(bench, [answer.concept for answer in answers if isinstance(answer, Abstention)])

    def with_reason(answer: Labeling | Abstention) -> Labeling | Abstention:
        problem = problems.get(answer.concept.id)
        if not isinstance(answer, Abstention) or problem is None:
            return answer
        same = problem.absent or (repr(answer.concept.label) in answer.reason and f" {problem.support} " in answer.reason)
        return replace(answer, reason=problem.text if same or not answer.reason else f"{answer.reason} ({problem.text})")

    return [with_reason(answer) for answer in answers]
