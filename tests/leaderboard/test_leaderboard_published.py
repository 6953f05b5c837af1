"""The published numbers: complete, with their source and protocol, and faulty files named."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.leaderboard.published import PublishedTable, load_published

FOLDER = Path(__file__).resolve().parents[2] / "leaderboard" / "published"


@pytest.fixture(scope="module")
def tables() -> dict[str, PublishedTable]:
    return {table.id: table for table in load_published(FOLDER)}


def test_the_installed_package_holds_the_same_tables(tables: dict[str, PublishedTable]) -> None:
    if importlib.util.find_spec("harness_published") is None:
        pytest.skip("harness is not installed here, so the package harness_published is not there")
    assert load_published() == list(tables.values())


def test_every_table_names_source_protocol_and_judge(tables: dict[str, PublishedTable]) -> None:
    assert list(tables)[:2] == ["axbench-steering", "axbench-steering-issue-149"]  # a reproduction follows what it reproduces
    assert set(tables) >= {"axbench-detection", "output-score-steering", "random-controls", "random-controls-synthetic"}
    for table in tables.values():
        assert table.source.arxiv or table.source.url
        assert len(table.protocol) > 40
        assert table.judge or "steering" not in table.id


@pytest.mark.parametrize(
    ("table", "method", "values"),
    [
        ("axbench-steering", "Prompt", [0.698, 0.731, 1.075, 1.072]),
        ("axbench-steering", "SFT", [0.637, 0.714, None, None]),
        ("axbench-steering", "SAE", [0.177, 0.151, 0.191, 0.140]),
        ("axbench-steering", "SSV", [0.072, 0.001, 0.024, 0.008]),
        ("axbench-steering-issue-149", "SAE", [0.3291, 0.2963]),
        ("axbench-detection", "DiffMean", [0.948, 0.946, 0.955, 0.921]),
        ("axbench-detection", "PCA", [0.714, 0.712, 0.559, 0.622]),
        ("output-score-steering", "SAE, S_out ≥ 1e-3", [0.373, 0.415]),
        ("random-controls", "Frozen encoder", [0.475, 0.609, 0.638, 0.635, 0.731, 0.747, 0.641, 0.623]),
    ],
)
def test_numbers_are_those_of_the_papers(tables: dict[str, PublishedTable], table: str, method: str, values: list[float | None]) -> None:
    (row,) = (row for row in tables[table].rows if row.method == method)
    assert list(row.values.values()) == values


def test_tables_are_complete(tables: dict[str, PublishedTable]) -> None:
    assert len(tables["axbench-steering"].rows) == 12
    assert len(tables["axbench-detection"].rows) == 10
    means = {row.method: row.values["2b_l10"] for row in tables["axbench-steering"].rows}
    assert list(means) == ["Prompt", "LoReFT", "SFT", "LoRA", "ReFT-r1", "DiffMean", "SAE", "SAE-A", "LAT", "PCA", "Probe", "SSV"]


def test_a_faulty_file_is_named_with_its_field(tmp_path: Path) -> None:
    content = json.loads((FOLDER / "axbench.json").read_text("utf-8"))
    del content["tables"][0]["rows"][0]["values"]["9b_l31"]
    (tmp_path / "mine.json").write_text(json.dumps(content))
    with pytest.raises(StoreError) as error:
        load_published(tmp_path)
    for name in (str(tmp_path / "mine.json"), "tables.0: ", "row 'Prompt'"):
        assert name in error.value.message
    assert error.value.given == content["tables"][0]
    assert error.value.hint


def test_table_ids_are_unique_and_reproductions_have_an_original(tmp_path: Path) -> None:
    content = json.loads((FOLDER / "axbench.json").read_text("utf-8"))
    (tmp_path / "a.json").write_text(json.dumps({**content, "tables": content["tables"][:1]}))
    (tmp_path / "b.json").write_text(json.dumps({**content, "tables": content["tables"][:1]}))
    with pytest.raises(StoreError) as error:
        load_published(tmp_path)
    assert error.value.given == "axbench-steering"
    assert str(tmp_path / "b.json") in error.value.message
    assert error.value.hint
    (tmp_path / "a.json").unlink()
    (tmp_path / "b.json").write_text(json.dumps({**content, "tables": content["tables"][1:2]}))
    with pytest.raises(StoreError) as error:
        load_published(tmp_path)
    assert (error.value.given, error.value.allowed) == ("axbench-steering", (content["tables"][1]["id"],))
