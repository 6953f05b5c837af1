"""Which judge is proposed where an offline one rated: the one whose traits say that published results were rated by it, or its successor."""

from __future__ import annotations

from harness.plugin.host import PluginHost
from harness.run.requested import plan_plugin
from harness.run.retiring import retirement_of


def reference_judge(host: PluginHost) -> str | None:
    """Return how ``--judge`` asks for the first such judge that answers, by name, or for the named successor of its model; None where there is none.

    Asks nobody: the days on which models are shut down are those that are known here.
    """
    for name, registered in host.all("judge").items():
        try:
            planned = plan_plugin(registered, {})
            gone = retirement_of(planned.instance) if planned.instance.traits.reference else None
        except Exception:  # nobody asked for it
            continue
        if not planned.instance.traits.reference:
            continue
        if gone is None or not gone.gone:
            return name
        if gone.successor and gone.api in host.all("judge"):  # the judge that takes any model of an API goes by the API's name
            return f"{gone.api}:model={gone.successor}"
    return None
