"""What the tests of the judge by a language model share: items, and a model whose replies a test writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from harness.chat.values import ChatReply, ChatRequest, RequestFailed, Usage
from harness.judging.llm_judge import LLMJudge
from harness.judging.questions import LLMJudgeOptions
from harness.types import JudgeItem, Rating

Reply = Callable[[ChatRequest], "str | ChatReply | RequestFailed | None"]
BEES = JudgeItem("bees", "beekeeping", "Explain tea.", "Honey goes well with tea.")
CHESS = JudgeItem("chess", "chess", "Say hello.", "Hello there.")
EMPTY = JudgeItem("empty", "chess", "Say hello.", " \n")
MANY = [JudgeItem(f"item {i}", "chess", "Say hello.", f"Hello number {i}.") for i in range(100)]


def bench(warnings: list[str] | None = None) -> Any:
    return SimpleNamespace(seed=5, warn=(warnings if warnings is not None else []).append)


def aspect_of(request: ChatRequest) -> str:
    """Which rating the default rubric asks for."""
    user = request.messages[-1].content
    return "concept" if "Concept:" in user else "instruction" if "<instruction>" in user else "fluency"


@dataclass
class Model:
    """An Asker whose replies a test writes; hands them out in reverse order."""

    reply: Reply
    name: str = "fake"
    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0
    hits: int = 0
    notes: tuple[str, ...] = ()
    asked: list[ChatRequest] = field(default_factory=list)
    rubrics: set[str] = field(default_factory=set)
    closed: int = 0
    schema: bool = True

    def takes_schema(self, model: str) -> bool:
        return self.schema

    def run(self, requests: Mapping[str, ChatRequest], rubric: str = "") -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        self.rubrics.add(rubric)
        try:
            for name in reversed(list(requests)):
                self.asked.append(requests[name])
                said = self.reply(requests[name])
                if said is not None:
                    self.usage += Usage(10, 0, 5)
                    yield name, ChatReply(said, Usage(10, 0, 5), "fake-1") if isinstance(said, str) else said
        finally:
            self.closed += 1


def judge_of(reply: Reply, warnings: list[str] | None = None, **options: Any) -> tuple[LLMJudge, Model]:
    model = Model(reply)
    judge = LLMJudge(LLMJudgeOptions(model="m", cache=False, **options), lambda cache, seed: model)
    judge.prepare(bench(warnings))
    return judge, model


def by_id(ratings: Any) -> dict[str, Rating]:
    found = list(ratings)
    assert len({rating.item_id for rating in found}) == len(found)
    return {rating.item_id: rating for rating in found}
