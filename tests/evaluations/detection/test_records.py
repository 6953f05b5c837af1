"""What is packed comes back, and what is damaged is said to be."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.data.split import TextSplit
from harness.errors import StoreError
from harness.evaluations.detection.records import Truth, pack, pack_mask, texts_record, unpack, unpack_mask

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
MASKS = arrays.arrays(bool, st.integers(0, 40))


@given(arrays.arrays(np.float32, st.integers(0, 50), elements=FINITE))
def test_float32_comes_back_to_the_bit(values: np.ndarray) -> None:
    packed = pack(values)
    assert json.loads(json.dumps(packed)) == packed
    again = unpack(packed)
    assert again.dtype == np.float32
    assert again.tobytes() == values.tobytes()


@given(arrays.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e30, 1e30)))
def test_the_order_of_float64_scores_is_kept(values: np.ndarray) -> None:
    again = unpack(pack(values))
    order = np.argsort(values, kind="stable")
    assert (np.diff(again[order]) >= 0).all()


@pytest.mark.parametrize("values", [[float("nan")], [float("inf")], [1e300], [[1.0]]])
def test_what_is_not_a_list_of_finite_numbers_is_refused(values: list) -> None:
    with pytest.raises(ValueError, match="finite"):
        pack(values)


@given(MASKS)
def test_masks_come_back(mask: np.ndarray) -> None:
    assert (unpack_mask(json.loads(json.dumps(pack_mask(mask)))) == mask).all()
    assert len(unpack_mask(pack_mask(mask))) == len(mask)


@pytest.mark.parametrize("packed", ["", "?", "AAAA", 7, None, pack([1.0])[:-4]])
def test_damaged_scores_are_an_error(packed: object) -> None:
    with pytest.raises(StoreError) as error:
        unpack(packed)  # type: ignore[arg-type]
    assert error.value.given in (packed, 0)
    assert error.value.hint
    with pytest.raises(StoreError) as error:
        unpack_mask([3, packed])
    assert error.value.given in (packed, [3, packed])
    assert error.value.hint


def test_scores_cut_off_within_a_number_are_an_error() -> None:
    import base64
    import zlib

    with pytest.raises(StoreError) as error:
        unpack(base64.b64encode(zlib.compress(b"123456")).decode())
    assert error.value.given == 6
    assert "4" in str(error.value.allowed)
    with pytest.raises(StoreError) as error:
        unpack_mask(5)
    assert error.value.given == 5


@given(st.data(), st.integers(0, 30), st.integers(0, 30), st.booleans())
def test_a_truth_comes_back(data: st.DataObject, n: int, m: int, keywords: bool) -> None:
    threshold, threshold_hard = (data.draw(arrays.arrays(bool, n)) for _ in range(2))
    report, report_hard, changed, emptied = (data.draw(arrays.arrays(bool, m)) for _ in range(4))
    truth = Truth(threshold, report, threshold_hard, report_hard, changed if keywords else None, emptied)
    again = Truth.from_json(json.loads(json.dumps(truth.as_json())))
    assert (again.changed is None) == (not keywords)
    for name in ("threshold", "report", "threshold_hard", "report_hard", "emptied", *(["changed"] if keywords else [])):
        assert getattr(again, name).tolist() == getattr(truth, name).tolist()


def test_which_negatives_come_back_where_there_are_any() -> None:
    four = np.array([True, False, False, True])
    truth = Truth(four, four, ~four, ~four, None, ~four, threshold_plain=~four, plain=None, others=~four)
    again = Truth.from_json(json.loads(json.dumps(truth.as_json())))
    assert again.plain is None
    assert [again.threshold_plain.tolist(), again.others.tolist()] == [(~four).tolist()] * 2  # type: ignore[union-attr]
    before = {name: mask for name, mask in truth.as_json().items() if name not in ("threshold_plain", "plain", "others")}
    old = Truth.from_json(before)
    assert (old.threshold_plain, old.plain, old.others) == (None, None, None), "a run of an older harness"


def test_a_truth_that_is_damaged_is_an_error() -> None:
    with pytest.raises(StoreError) as error:
        Truth.from_json({})
    assert error.value.given is None  # the part that is missing
    assert error.value.hint


def test_the_runs_texts_come_back() -> None:
    split = TextSplit(np.array([0, 3]), np.array([1, 2**40]), np.array([4]), 2)
    record = json.loads(json.dumps(texts_record(split, split.threshold, split.report)))
    places = {part: np.frombuffer(zlib.decompress(base64.b64decode(str(record[part]))), dtype="<i8") for part in ("threshold", "report")}
    assert {part: where.tolist() for part, where in places.items()} == {"threshold": [1, 2**40], "report": [4]}
    assert record["split"] == {"digest": split.digest, "train": 2, "threshold": 2, "report": 1, "copies": 2}
