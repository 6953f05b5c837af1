"""The recipe file, the plan of prompts, and resumable generation with a real (tiny) model."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from helpers.forks import killed

from harness.data.written.generate import generate, read_rows, write_rows
from harness.data.written.recipe import Prompt, Recipe, load_recipe, plan
from harness.errors import DataError
from harness.types import Decoding

DEMO = Path(__file__).resolve().parents[3] / "tasks" / "demo"
GREEDY = Decoding(max_new_tokens=12, temperature=0.0)


def small_recipe(**corpus: object) -> dict[str, object]:
    concepts = {
        name: {"subtopics": [f"{name} {i}" for i in range(5)], "keywords": [f"{name}*", "x"]}
        for name in ("sea", "law", "tea", "war", "art")
    }
    decoding = {"max_new_tokens": 20}
    return {
        "corpus": {
            "seed": 1, "texts_per_concept": 7, "pair_rounds": 3, "unlabelled": 4, "templates": ["Say {s}.", "Sing {s}!"],
            "pair_templates": ["{a} and {b}", "{a} or {b}"], "neutral": ["one", "two", "three"],
            "concepts": concepts, "decoding": decoding, **corpus,
        },
        "sae": {
            "seed": 2, "prompts": 30, "decoding": decoding, "concept_subtopics": True, "templates": ["Say {s}.", "Ask {s}?"],
            "subjects": {"g": ["one", "four"]},
        },
        "filter": {
            "min_words": 5, "max_repeated_trigrams": 0.2, "max_shingle_jaccard": 0.5, "min_keyword_share": 0.1, "min_keyword_kinds": 1,
            "add_keyword_share": 0.2, "add_keyword_kinds": 1, "max_stray_share": 0.1, "refusals": ["as an ai"],
        },
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------------- plan


def test_the_plan_asks_for_what_the_recipe_says() -> None:
    prompts = plan(Recipe.model_validate(small_recipe()))
    by_size = Counter(len(prompt.labels) for prompt in prompts)
    assert by_size == {1: 35, 2: 6, 0: 4}
    assert Counter(label for prompt in prompts for label in prompt.labels if len(prompt.labels) == 1) == dict.fromkeys(
        ("sea", "law", "tea", "war", "art"), 7
    )
    assert len({prompt.text for prompt in prompts}) == len({prompt.id for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        assert all(label in prompt.text for label in prompt.labels)
        assert "{" not in prompt.text


def test_the_plan_is_the_same_every_time_and_another_with_another_seed() -> None:
    first, again, other = (plan(Recipe.model_validate(small_recipe(seed=seed))) for seed in (1, 1, 5))
    assert first == again
    assert first != other


def test_a_longer_plan_keeps_the_prompts_of_a_shorter_one() -> None:
    short = plan(Recipe.model_validate(small_recipe(texts_per_concept=3, unlabelled=2)))
    long = plan(Recipe.model_validate(small_recipe(texts_per_concept=9, unlabelled=5)))
    assert set(short) < set(long)


def test_pairs_use_every_concept_equally_often() -> None:
    prompts = plan(load_recipe(DEMO / "generation.toml"))
    support = Counter(label for prompt in prompts if len(prompt.labels) == 2 for label in prompt.labels)
    assert len(support) == 32
    assert len(set(support.values())) == 1


def test_the_sae_plan_is_distinct_and_apart_from_the_corpus() -> None:
    recipe = Recipe.model_validate(small_recipe())
    corpus, sae = plan(recipe), plan(recipe, "sae")
    assert len(sae) == len({prompt.text for prompt in sae}) == 30
    assert not {prompt.text for prompt in sae} & {prompt.text for prompt in corpus}
    assert all(prompt.labels == () for prompt in sae)


def test_too_few_subjects_for_the_sae_are_an_error_and_no_shorter_plan() -> None:
    recipe = small_recipe()
    recipe["sae"] = {**recipe["sae"], "prompts": 54}  # type: ignore[dict-item]
    with pytest.raises(DataError) as error:
        plan(Recipe.model_validate(recipe), "sae")
    assert error.value.given == 54
    least = re.fullmatch(r"at most (\d+)", str(error.value.allowed))
    assert least
    assert 30 <= int(least[1]) < 54
    assert error.value.hint


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"templates": ["no placeholder"]}, "corpus.templates.0"),
        ({"pair_templates": ["{b} only"]}, "corpus.pair_templates.0"),
        ({"texts_per_concept": 11}, "the file"),
        ({"unlabelled": 7}, "the file"),
        ({"sed": 1}, "corpus.sed"),
        ({"decoding": {"temprature": 1}}, "corpus.decoding.temprature"),
        ({"concepts": {}}, "corpus.concepts"),
    ],
)
def test_a_wrong_recipe_is_refused_where_it_is_wrong(tmp_path: Path, change: dict[str, object], where: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(_toml(small_recipe(**change)))
    with pytest.raises(DataError) as caught:
        load_recipe(path)
    assert where in caught.value.hint
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "names"), [({"texts_per_concept": 11}, ("concept", "10")), ({"unlabelled": 7}, ("unlabelled = 7", "6"))])
def test_a_recipe_that_asks_for_too_many_texts_names_how_many_there_are(
    tmp_path: Path, change: dict[str, object], names: tuple[str, ...]
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(_toml(small_recipe(**change)))
    with pytest.raises(DataError) as caught:
        load_recipe(path)
    assert all(name in str(caught.value) for name in names)


def test_a_recipe_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("a = [")
    for name in ("none.toml", "bad.toml"):
        with pytest.raises(DataError) as error:
            load_recipe(tmp_path / name)
        assert (error.value.given, bool(error.value.hint)) == (tmp_path / name, True)


def _toml(value: dict[str, object], prefix: str = "") -> str:
    """Enough of a TOML writer for these tests: JSON's scalars and lists are TOML, too."""
    plain = "".join(f"{key} = {json.dumps(item)}\n" for key, item in value.items() if not isinstance(item, dict))
    tables = "".join(f"[{prefix}{key}]\n{_toml(item, f'{prefix}{key}.')}" for key, item in value.items() if isinstance(item, dict))
    return plain + tables


# ------------------------------------------------------------------------------------------------------------------- generation

PROMPTS = [
    Prompt(f"p{i}", f"Once upon a time there was a {animal}.", ("animals",))
    for i, animal in enumerate(["dog", "cat", "bird", "fish", "frog", "cow"])
]


@pytest.fixture(scope="module")
def model(tiny_model_path: Path):  # type: ignore[no-untyped-def]
    from harness.model.loading import load_model

    return load_model(str(tiny_model_path), device="cpu", dtype="float32")


def test_each_prompt_gets_a_row(model, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    seen: list[tuple[int, int]] = []
    out = tmp_path / "rows" / "out.jsonl"
    assert generate(model, PROMPTS, GREEDY, out, batch=4, progress=lambda done, total: seen.append((done, total))) == 6
    rows = read_rows(out)
    assert [(row["id"], row["prompt"], row["labels"]) for row in rows] == [(p.id, p.text, list(p.labels)) for p in PROMPTS]
    assert all(row["text"].strip() for row in rows)
    assert seen == [(i, 6) for i in range(7)]


def test_a_resumed_file_equals_an_undisturbed_one(model, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sampled = Decoding(max_new_tokens=12, temperature=1.0)
    generate(model, PROMPTS, sampled, tmp_path / "whole.jsonl", seed=3, batch=6)
    whole = read_rows(tmp_path / "whole.jsonl")
    out = tmp_path / "broken.jsonl"
    generate(model, PROMPTS[:3], sampled, out, seed=3, batch=2)
    out.write_bytes(out.read_bytes()[:-9])  # killed while it wrote the third row
    assert generate(model, PROMPTS, sampled, out, seed=3, batch=2) == 4
    assert read_rows(out) == whole
    assert generate(model, PROMPTS, sampled, out, seed=3) == 0


def test_another_seed_gives_other_texts(model, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sampled = Decoding(max_new_tokens=12, temperature=1.0)
    for seed in (0, 1):
        generate(model, PROMPTS, sampled, tmp_path / f"{seed}.jsonl", seed=seed)
    assert read_rows(tmp_path / "0.jsonl") != read_rows(tmp_path / "1.jsonl")


def test_a_file_of_something_else_is_refused_and_left_as_it_is(model, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out.jsonl"
    generate(model, PROMPTS[:2], GREEDY, out)
    before = out.read_bytes()
    other = Decoding(max_new_tokens=13, temperature=0.0)
    for prompts, decoding, seed, given, hint in (
        (PROMPTS[:2], other, 0, dataclasses.asdict(other), "decoding"),
        (PROMPTS[:2], GREEDY, 1, 1, "seed"),
        (PROMPTS[1:3], GREEDY, 0, PROMPTS[0].id, "file"),
        ([*PROMPTS, PROMPTS[0]], GREEDY, 0, 1, "id"),
    ):
        with pytest.raises(DataError) as error:
            generate(model, prompts, decoding, out, seed=seed)
        assert error.value.given == given
        assert hint in error.value.hint
        assert out.read_bytes() == before
    out.write_text("no json\n")
    with pytest.raises(DataError) as error:
        generate(model, PROMPTS, GREEDY, out)
    assert (error.value.given, bool(error.value.hint)) == ("no json", True)
    assert "line 1" in str(error.value)


def test_a_second_process_does_not_write_into_the_same_file(model, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from filelock import FileLock

    with FileLock(f"{tmp_path / 'out.jsonl'}.lock"), pytest.raises(DataError) as error:
        generate(model, PROMPTS, GREEDY, tmp_path / "out.jsonl")
    assert (error.value.given, bool(error.value.hint)) == (tmp_path / "out.jsonl", True)


def test_a_killed_process_loses_nothing_that_was_written(model, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """SIGKILL in the middle of a real run; the same call goes on and ends with all rows."""
    out = tmp_path / "out.jsonl"
    prompts = [Prompt(f"k{i}", f"Tell me story number {i}.") for i in range(60)]
    decoding = Decoding(max_new_tokens=60, temperature=1.0, min_new_tokens=40)

    def kill_in_the_middle() -> None:  # by itself: this process may see it late
        while not out.exists() or out.read_bytes().count(b"\n") < 6:
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGKILL)

    def run() -> None:
        threading.Thread(target=kill_in_the_middle, daemon=True).start()
        generate(model, prompts, decoding, out, batch=2)

    assert killed(run)
    written = out.read_bytes().count(b"\n")
    assert 6 <= written < 60
    assert generate(model, prompts, decoding, out, batch=16) == 60 - written
    assert {row["id"] for row in read_rows(out)} == {prompt.id for prompt in prompts}


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "rows.jsonl"
    rows = [{"id": "a", "prompt": "p", "text": "ü\nline", "labels": ["x"]}]
    write_rows(out, rows)
    assert read_rows(out) == rows
    with pytest.raises(TypeError):
        write_rows(out, [{"id": "b", "text": object()}])  # type: ignore[dict-item]
    assert read_rows(out) == rows
    assert [path.name for path in out.parent.iterdir()] == ["rows.jsonl"]
