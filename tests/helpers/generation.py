"""Generation by the torch engine in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.types import Decoding

if TYPE_CHECKING:
    from harness.engine.base import Generated, GenerationRequest


def generate(model: Any, requests: Sequence[GenerationRequest], decoding: Decoding, **options: Any) -> Iterator[Generated]:
    """``TorchEngine(model, **options).run(requests, decoding)``."""
    from harness.engine.torch_loop import TorchEngine

    return TorchEngine(model, **options).run(requests, decoding)
