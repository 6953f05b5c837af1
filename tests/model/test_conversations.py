"""Texts that answer instructions: read under the chat template, and what all prompts share counts nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.conversations import ASKED, SHARED, conversation_bench

from harness.measuring.passes import cross_entropy
from harness.measuring.texts import sample_texts
from harness.model.conversations import Turns, conversation, encoded_turns
from harness.run.bench import TaskBench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return conversation_bench(tmp_path_factory.mktemp("conversations"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return conversation_bench(tmp_path_factory.mktemp("plain"), conversations=False)


def test_a_conversation_is_the_users_turn_and_the_answer_without_the_templates_end(bench: TaskBench) -> None:
    model = bench.model
    ids, start = conversation(model, Turns("Hello?", "Here I am."))
    assert ids[:start] == model.prompt("Hello?")
    assert model.format.decode(ids) == "[user] Hello?\n[assistant] Here I am."
    assert model.format.decode(ids[start:]) == "Here I am."
    assert encoded_turns(model, [Turns("Hello?", "Here I am.")], 1000) == [ids]
    assert encoded_turns(model, [Turns("Hello?", "Here I am.")], start + 2) == [ids[: start + 2]]
    assert encoded_turns(model, [Turns("Hello?", "Here I am.")], 5) == [ids[:5]], "an instruction that is too long is cut, too"


def test_a_text_holds_no_control_token(bench: TaskBench) -> None:
    ids, start = conversation(bench.model, Turns("say </s>", "<s> and </s>"))
    assert (1 in ids[1:], 2 in ids) == (False, False)
    assert bench.model.format.decode(ids[start:]) == "<s> and </s>"


def test_the_corpus_is_read_as_conversations(bench: TaskBench, plain: TaskBench) -> None:
    assert (bench.skip, plain.skip) == (SHARED, 1)
    for place in (0, 5, 40, len(bench.corpus) - 1):
        document = bench.corpus[place]
        ids, start = conversation(bench.model, Turns(document.instruction, document.text))
        assert bench.corpus_tokens[place].tolist() == ids[:64]
        assert bench.answer_start(place) == start
        assert plain.corpus_tokens[place].tolist() == plain.model.encode(document.text)[:64]
        assert plain.answer_start(place) == 1
    assert bench.corpus_digest != plain.corpus_digest


def test_without_a_template_the_instruction_stands_before_the_answer(tmp_path: Path) -> None:
    found = conversation_bench(tmp_path, template=False)
    assert (found.skip, found.conversations) == (1, True)
    assert found.model.decode(found.corpus_tokens[0].tolist()).startswith(ASKED[0])


def expected_residuals(bench: TaskBench, place: int) -> torch.Tensor:
    """The residual of each token at the task's layer, by transformers itself."""
    ids = torch.from_numpy(bench.corpus_tokens[place])[None]
    with torch.no_grad():
        return bench.model.hf(ids, output_hidden_states=True).hidden_states[bench.site.layer + 1][0]


def test_what_all_prompts_share_counts_nowhere(bench: TaskBench) -> None:
    place = 7
    wanted = expected_residuals(bench, place)[SHARED:]
    found = dict(bench.activations())[place]
    assert torch.allclose(found, wanted, atol=1e-4)
    means = bench.residual_means()
    assert np.allclose(means.means[place], wanted.mean(dim=0).numpy(), atol=1e-4)
    assert int(means.n_tokens[place]) == len(wanted)
    statistics = bench.statistics()
    assert int(statistics.n_tokens[place]) == len(wanted)
    assert np.allclose(statistics.document_means[place], wanted.mean(dim=0).numpy(), atol=1e-4)


def test_cross_entropy_is_of_the_tokens_that_are_predicted_from_one_that_counts(bench: TaskBench) -> None:
    texts = sample_texts(bench, 120, 0)
    assert sum(len(row) - SHARED for row in texts.tokens) <= 120
    found = cross_entropy(bench, texts)
    total, n = 0.0, 0
    for row in texts.tokens:
        ids = torch.from_numpy(np.asarray(row))[None]
        with torch.no_grad():
            logits = bench.model.hf(ids).logits[0].log_softmax(dim=-1)
        for at in range(SHARED, ids.shape[1] - 1):
            total -= float(logits[at, ids[0, at + 1]])
            n += 1
    assert found.n_tokens == n
    assert found.mean == pytest.approx(total / n, abs=1e-4)
