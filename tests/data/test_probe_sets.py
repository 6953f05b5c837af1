"""The data sets of sae-probes: from a wheel, a folder or the package; the real wheel is read where it is at hand."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from helpers.probe_data import packed_csv

from harness.data.probe_sets import WHEEL, ProbeFolder, open_probe_folder
from harness.errors import DataError, HarnessError, UnknownNameError
from harness.model.wheels import WHEELS_ENV

SETS = {
    "1_colour": [("red, or\nblue", "1"), ("no", "0"), ("a", "0"), ("green", "1")],
    "20_true": [("It rains today, they say.", "True"), ("It does not rain at all.", "False")],
    "3_years": [("x", "1900"), ("y", "1910"), ("z", "1911")],
}
LIST = [("cleaned_data/1_colour.csv", "Binary Classification"), ("cleaned_data/3_years.csv", "Continuous Data"),
        ("cleaned_data/20_true.csv", "Binary Classification")]  # fmt: skip


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "sae_probes-0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, rows in SETS.items():
            archive.writestr(f"sae_probes/data/cleaned_data/{name}.csv.zst", packed_csv(rows))
        archive.writestr("sae_probes/data/OOD data/20_true_OOD.csv.zst", packed_csv([("Es regnet.", "1"), ("Nein.", "0")]))
        archive.writestr("sae_probes/data/probing_datasets_MASTER.csv.zst", packed_csv(LIST, ("Dataset save name", "Data type")))
        archive.writestr("sae_probes/run.py", "raise ImportError")
    return path


def test_a_wheel_is_unpacked_once(wheel: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folder = open_probe_folder(str(wheel), said.append, tmp_path / "cache")
    assert folder.names() == ["1_colour", "20_true"]
    assert folder.index() == {"1_colour": (4, pytest.approx(5.0)), "20_true": (2, pytest.approx(24.5))}
    found = folder.read("1_colour")
    assert (list(found.texts), found.target.tolist(), found.values) == (["red, or\nblue", "no", "a", "green"], [True, False, False, True], ("0", "1"))
    assert folder.read("20_true").target.tolist() == [True, False]
    assert folder.others() == ["20_true"]
    other = folder.read_other("20_true")
    assert other is not None
    assert other.target.tolist() == [True, False]
    assert folder.read_other("1_colour") is None
    open_probe_folder(str(wheel), said.append, tmp_path / "cache")
    assert len(said) == 1
    assert not list(folder.path.rglob("*.py"))


def test_a_damaged_cache_is_made_again(wheel: Path, tmp_path: Path) -> None:
    folder = open_probe_folder(str(wheel), cache_dir=tmp_path / "cache")
    (folder.path / "cleaned_data" / "1_colour.csv.zst").write_bytes(b"")
    assert len(open_probe_folder(str(wheel), cache_dir=tmp_path / "cache").read("1_colour").texts) == 4


def test_sets_are_chosen_by_name_glob_and_length(wheel: Path, tmp_path: Path) -> None:
    folder = open_probe_folder(str(wheel), cache_dir=tmp_path / "cache")
    assert folder.choose(["20_*"]) == folder.choose(["true"]) == ["20_true"]
    assert folder.choose() == ["1_colour", "20_true"]
    assert folder.choose(shortest=1) == ["1_colour"]
    with pytest.raises(UnknownNameError) as error:
        folder.choose(["20_ture"])
    assert error.value.near == "20_true"


def test_a_folder_serves_as_it_is(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    for where in ("unpacked", "unpacked/sae_probes", "unpacked/sae_probes/data"):
        assert open_probe_folder(str(tmp_path / where)).choose(shortest=1) == ["1_colour"]
    bare = tmp_path / "bare"
    (bare / "cleaned_data").mkdir(parents=True)
    (bare / "cleaned_data" / "mine.csv.zst").write_bytes(packed_csv([("a", "no"), ("b", "yes")]))
    assert ProbeFolder(bare).names() == ["mine"]


def test_what_cannot_be_used_is_said(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_probe_folder(str(wheel), cache_dir=tmp_path / "cache")
    with pytest.raises(DataError) as error:
        folder.read("3_years")
    assert error.value.allowed == "2"
    with pytest.raises(DataError):
        open_probe_folder(str(tmp_path / "nowhere"))
    (tmp_path / "broken.whl").write_bytes(b"PK")
    with pytest.raises(HarnessError):
        open_probe_folder(str(tmp_path / "broken.whl"), cache_dir=tmp_path / "cache")
    monkeypatch.setenv(WHEELS_ENV, str(tmp_path))
    (tmp_path / WHEEL.filename).write_bytes(wheel.read_bytes())  # not the file that it should be
    with pytest.raises(HarnessError) as other:
        open_probe_folder(cache_dir=tmp_path / "another cache")
    assert WHEEL.sha256[:16] in str(other.value)


def test_the_real_wheel(tmp_path: Path) -> None:
    place = Path(os.environ.get(WHEELS_ENV, "")) / WHEEL.filename
    if WHEELS_ENV not in os.environ or not place.is_file():
        pytest.skip(f"{WHEEL} is not in the folder of {WHEELS_ENV}")
    with zipfile.ZipFile(place) as archive:
        names = [name for name in archive.namelist() if "MASTER" in name or "glue_cola" in name]
        archive.extractall(tmp_path, names)
    folder = ProbeFolder(tmp_path / "sae_probes" / "data")
    assert folder.names() == folder.others() == ["87_glue_cola"]
    found = folder.read("87_glue_cola")
    assert (len(found.texts), int(found.target.sum())) == (5000, 2500)
