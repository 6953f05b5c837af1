"""Signals: a gentle handler that has done its work is not armed again by whoever puts handlers back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from harness.cli import signals
from harness.cli.signals import Terminated, end_gently
from harness.plugin.calls import PluginName, calling


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(signals, "_received", [])
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.GENTLE}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_within_a_plugins_call_leaves_the_systems_own_handlers() -> None:
    end_gently()
    gentle = signal.getsignal(signal.SIGTERM)
    assert gentle is not signal.SIG_DFL
    with pytest.raises(Terminated), calling(PluginName("judge", "mine", "their-dist"), "prepare"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in signals.GENTLE] == [signal.SIG_DFL] * len(signals.GENTLE)


def test_a_handler_that_a_plugin_leaves_is_replaced() -> None:
    end_gently()
    gentle = signal.getsignal(signal.SIGTERM)
    with calling(PluginName("judge", "mine", "their-dist"), "prepare"):
        signal.signal(signal.SIGTERM, lambda *_: None)
    assert signal.getsignal(signal.SIGTERM) is gentle
