"""One measurement: a metric on a dictionary, checked against the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import PluginError
from harness.evaluations.dictionary.subjects import unmet
from harness.types import Measurement, canonical_json

if TYPE_CHECKING:
    from harness.contracts import Metric
    from harness.plugin.calls import PluginName
    from harness.run.bench import TaskBench
    from harness.sae.subject import DictionarySubject


def measured(metric: Metric, who: PluginName, bench: TaskBench, subject: DictionarySubject, seed: int) -> Measurement:
    """Return a measurement; a metric whose needs are not met gives none, with the reason.

    Args:
        metric: the plugin, as the core calls it.
        who: it, for messages.
        bench: the task's bench.
        subject: the dictionary.
        seed: the metric's own.

    Raises PluginError for what is no measurement of this metric, or cannot be stored.
    """
    traits = metric.traits
    if why := unmet(traits, subject, bench):
        return Measurement(None, reason=why, parts=dict.fromkeys(traits.parts), part_reasons=dict.fromkeys(traits.parts, why))
    found = metric.measure(bench, subject, seed)
    if not isinstance(found, Measurement):
        raise PluginError(f"{who}: measure returned a value of class {type(found).__name__}", given=found, allowed="Measurement")
    if set(found.parts) != set(traits.parts):
        message = f"{who} gave the parts {', '.join(map(str, found.parts)) or 'none'}"
        raise PluginError(message, given=tuple(found.parts), allowed=tuple(traits.parts) or "none", hint="correct parts or traits")
    try:
        canonical_json(found.as_json())
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{who} gave a measurement that cannot be stored ({error})"
        raise PluginError(message, given=found, allowed="numbers of Python's own (float(…) makes one), and JSON without NaN") from None
    return found
