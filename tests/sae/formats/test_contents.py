"""Files that are not the weights they are named after: each is named, with what to do; nothing is ever unpickled."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.dictionaries import (
    refused,
    write_npz,
)


class Bomb:
    """Would write a file if it were ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    fired = tmp_path / "fired"
    folder = write_npz(tmp_path)
    with zipfile.ZipFile(folder / "params.npz", "a") as archive:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.array([Bomb(fired)], dtype=object), allow_pickle=True)
        archive.writestr("b_extra.npy", buffer.getvalue())
    refused(folder, folder / "params.npz", "b_extra", "pickle")
    (folder / "params.npz").write_bytes(pickle.dumps(Bomb(fired)))
    refused(folder, folder / "params.npz", "pickle")
    torch.save({"a": 1}, folder / "params.npz")
    refused(folder, folder / "params.npz", "pickle")
    for name in ("ae.pt", "sae.pth", "pytorch_model.bin", "sae.pkl"):
        own = tmp_path / name.replace(".", "_")
        own.mkdir()
        (own / name).write_bytes(pickle.dumps(Bomb(fired)))
        (own / "config.json").write_text(json.dumps({"trainer": {"dict_class": "BatchTopKSAE"}}))
        refused(own, own, name, "pickle")
        refused(own / name, own / name, "pickle")
    assert not fired.exists()
    pickle.loads(pickle.dumps(Bomb(fired)))
    assert fired.exists(), "the bomb works"
