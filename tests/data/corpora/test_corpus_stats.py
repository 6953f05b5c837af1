"""Statistics of a corpus against plain counting."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import corpus_stats, open_corpus
from harness.data.corpora.stats import SupportClass, support_classes, support_svg, token_counter
from harness.errors import ModelError
from harness.model.embedded import embedded_names


def test_lengths_and_labels_are_those_of_a_plain_loop(shared_data: Path, tiny_model_path: Path) -> None:
    from transformers import AutoTokenizer

    corpus = open_corpus(shared_data / "stackexchange" / "coffee").head(50)
    found = corpus_stats(corpus, token_counter(str(tiny_model_path)))
    documents = list(corpus)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
    tokens = [len(tokenizer(document.text)["input_ids"]) for document in documents]
    assert (found.documents, found.tokens, found.skipped) == (50, sum(tokens), 0)
    assert found.tokens_each is not None
    assert (found.tokens_each.largest, found.tokens_each.median) == (max(tokens), float(np.median(tokens)))
    words = [len(document.text.split()) for document in documents]
    assert (found.words, found.words_each.largest, found.words_each.mean) == (sum(words), max(words), pytest.approx(np.mean(words)))
    assert found.characters.largest == max(len(document.text) for document in documents)
    assert found.labels_each.mean == pytest.approx(np.mean([len(document.labels) for document in documents]))
    assert corpus_stats(corpus).tokens_each is None


@given(st.lists(st.integers(1, 10**6), max_size=60))
def test_every_label_is_in_one_class(supports: list[int]) -> None:
    classes = support_classes(supports)
    assert sum(one.labels for one in classes) == len(supports)
    for one, following in itertools.pairwise(classes):
        assert one.most + 1 == following.least
    assert all(sum(one.least <= support <= one.most for support in supports) == one.labels for one in classes)
    assert not classes or classes[-1].labels > 0


def test_names_of_the_classes() -> None:
    names = [one.name for one in support_classes([1, 700])]
    assert names == ["1", "2–4", "5–9", "10–19", "20–49", "50–99", "100–199", "200–499", "500–999"]
    assert support_classes([]) == []


def test_the_picture_is_well_formed_and_its_bars_are_to_scale() -> None:
    svg = support_svg([SupportClass(1, 1, 20), SupportClass(2, 4, 5)], "a < b & c")
    root = ElementTree.fromstring(svg)
    bars = [float(item.get("width", "0")) for item in root if item.tag.endswith("rect")][1:]
    assert bars[0] == pytest.approx(4 * bars[1])
    assert "a < b & c" in [item.text for item in root]
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", ""), "nothing is fetched by who looks at it"


def test_a_model_without_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        token_counter(str(tmp_path))
    assert caught.value.given == str(tmp_path)
    assert set(embedded_names()) < set(cast("tuple[str, ...]", caught.value.allowed))
    assert "\n" not in str(caught.value)
