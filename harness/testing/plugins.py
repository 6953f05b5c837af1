"""Is a plugin registered and documented as it should be, and does all that it registers keep its contract?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.options import describe
from harness.plugin.host import PluginHost
from harness.plugin.registry import KINDS, Kind, Registered
from harness.run.bench import TaskBench
from harness.testing.detectors import check_detector
from harness.testing.judges import check_judge
from harness.testing.labelers import check_labeler
from harness.testing.metrics import check_metric
from harness.testing.options import check_options
from harness.testing.require import ContractError, require
from harness.testing.steerers import check_steerer

_CHECKS: Mapping[Kind, Callable[[Callable[[], Any], TaskBench], object]] = {
    "labeler": check_labeler, "steerer": check_steerer, "detector": check_detector, "metric": check_metric, "judge": check_judge,
}  # fmt: skip


def check_plugin(
    plugin: object, bench: TaskBench | None = None, *, options: Mapping[str, Mapping[str, Any]] | None = None, name: str = "plugin"
) -> list[Registered]:
    """Check all that a plugin registers, by the check of its kind.

    Its hooks are spelt right; everything it registers has a summary and documented options, and can be made with the defaults. With a bench,
    each labeler passes :func:`check_labeler`, each steerer :func:`check_steerer`, and so on.

    Args:
        plugin: what the entry point names (a module or an object), or the path of a plugin file.
        bench: what they are tried on, e.g. :func:`harness.testing.toy_bench`; None tries nothing but the registration.
        options: by a plugin's name, options that it is made with in place of the defaults; those that have no default must be given.
        name: what the plugin is called in messages.

    Returns:
        What it registered, labelers first.

    Raises:
        ContractError: the first check that is not passed.
    """
    found, given = _registered(plugin, name), options or {}
    for registered in found:
        require("registration", registered.summary.strip(), f"{registered.kind} {registered.name!r} has no summary; registry.add(…, summary=…)")
        own = dict(given.get(registered.name, {}))
        check_options(registered.options, own)
        if not {row["name"] for row in describe(registered.options) if row["required"]} <= own.keys():
            require("options", bench is None, f"{registered.kind} {registered.name!r} needs options; give them to check_plugin(…, options=…)")
            continue
        try:
            registered.create(own)
        except HarnessError as error:
            raise ContractError("members", str(error)) from error
        if bench is not None:
            _CHECKS[registered.kind](_maker(registered, own), bench)
    return found


def _registered(plugin: object, name: str) -> list[Registered]:
    host = PluginHost()
    try:
        if isinstance(plugin, str | Path):
            host.add_file(plugin)
        else:
            host.add(plugin, name=name)
    except HarnessError as error:
        raise ContractError("registration", str(error)) from error
    if host.broken:
        raise ContractError("registration", f"the plugin cannot be registered: {host.broken[0].reason}") from host.broken[0].error
    return [registered for kind in KINDS for registered in host.all(kind).values()]


def _maker(registered: Registered, given: Mapping[str, Any]) -> Callable[[], Any]:
    return lambda: registered.factory(registered.build_options(given))
