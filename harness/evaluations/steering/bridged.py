"""The two judges of a bridge: found among those that have rated a run, or asked for what they have not rated yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.chat.cost import load_prices
from harness.chat.retirement import load_retirements
from harness.errors import JudgeError, OptionError, StoreError, UnknownNameError
from harness.evaluations.steering.judge_record import record_of
from harness.evaluations.steering.rate import rate
from harness.files.cache_dir import cache_root
from harness.plugin.grammar import PluginRequest
from harness.plugin.host import PluginHost
from harness.run.plan import PlannedPlugin, judges_asked, plan_stored_judge
from harness.run.run import Run
from harness.store import JudgeRecord
from harness.store.values import of_judge


def bridged_judges(
    run: Run, names: tuple[str, str], options: Mapping[str, Any]
) -> tuple[tuple[JudgeRecord, JudgeRecord], list[JudgeRecord]]:
    """Return both judges' records, and those of them that were asked for ratings just now.

    Args:
        run: open to be written.
        names: each a judge (``NAME[:option=value,…]``), a model's name, or the key of a judge that has rated the run.
        options: given to every judge that is asked and has them.

    Raises:
        OptionError: both names are one judge, which is found before anything is asked.
        UnknownNameError: neither a judge nor a model that is known.
        JudgeError: ratings are missing, and the judge is gone; or ratings are still to come.
    """
    found = [_find(run, name, options) for name in names]
    keys = [judge.ranking_key if isinstance(judge, JudgeRecord) else record_of(judge).ranking_key for judge in found]
    if keys[0] == keys[1]:
        message = f"--from {names[0]} and --to {names[1]} are one judge ({keys[0]})"
        raise OptionError(message, given=names[1], hint="name another one, or other options, as in gpt-4o:examples=true")
    asked: list[JudgeRecord] = []
    records: list[JudgeRecord] = []
    for judge in found:
        if isinstance(judge, JudgeRecord):
            records.append(judge)
            continue
        records.append(rate(run, judge))
        asked.append(records[-1])
    for name, record in zip(names, records, strict=True):
        if pending := len(run.store.pending(record.key)):
            reason = next((rating.reason for rating in run.store.pending(record.key) if rating.reason), "they come later")
            message = f"{pending} ratings by {name} are pending: {reason}"
            raise JudgeError(message, given=pending, hint="the same command collects what is there by then")
    return (records[0], records[1]), asked


def _find(run: Run, name: str, options: Mapping[str, Any]) -> JudgeRecord | PlannedPlugin:
    """Return the judge that is meant: as it has rated all of the run, or else as it is to be asked."""
    stored = run.store.judges()
    if exact := [record for record in stored if name in (record.key, record.ranking_key)]:
        return _complete(run, exact) or _asked_again(run, exact[-1], options)
    text = _spelled_out(run.host, name, stored)
    plugin, _, given = text.partition(":")
    if plugin in run.host.all("judge"):
        planned = plan_stored_judge(run.host, run.manifest, judges_asked(run.host, [text], options)[text], {})
        if family := of_judge(record_of(planned), stored):
            return _complete(run, family) or planned
        own = (
            _alike(stored, plugin) if not given and not options else _alike(stored, plugin, name) if text != name and not options else []
        )
        if own:
            return _complete(run, own) or _asked_again(run, own[-1], options)
        return planned
    if own := _alike(stored, plugin):
        return _complete(run, own) or _asked_again(run, own[-1], options)
    raise UnknownNameError("judge or model", name, [*run.host.all("judge"), *(record.key for record in stored)])


def _spelled_out(host: PluginHost, name: str, stored: Sequence[JudgeRecord]) -> str:
    """Return a model's name as the judge that asks it; anything else as it is."""
    model, colon, options = name.partition(":")
    if model in host.all("judge"):
        return name
    known = {known: api for (api, known) in load_prices(cache_root()).models}
    known |= {known: api for (api, known) in load_retirements(cache_root()).table}
    known |= {str(record.options["model"]): record.name for record in stored if "model" in record.options}
    judge = known.get(model)
    if judge is None or judge not in host.all("judge"):
        return name
    return f"{judge}:model={model}" + (f",{options}" if colon else "")


def _alike(stored: Sequence[JudgeRecord], name: str, model: str | None = None) -> list[JudgeRecord]:
    """Return a judge of the run that goes by a name (and asks a model), with its earlier code. Raises StoreError where several do."""
    found = [record for record in stored if record.name == name and (model is None or record.options.get("model") == model)]
    keys = list(dict.fromkeys(record.ranking_key for record in found))
    if len(keys) > 1:
        raise StoreError(
            f"several judges called {model or name} have rated the run",
            given=model or name,
            allowed=tuple(keys),
            hint="name one by its key",
        )
    return found


def _complete(run: Run, records: Sequence[JudgeRecord]) -> JudgeRecord | None:
    """Return the last of a judge's records whose ratings lack nothing; None where all do."""
    lacking_nothing = [record for record in records if not run.store.missing_ratings(record.key) and not run.store.pending(record.key)]
    return lacking_nothing[-1] if lacking_nothing else None


def _asked_again(run: Run, record: JudgeRecord, options: Mapping[str, Any]) -> PlannedPlugin:
    """Return a judge that has rated a part of the run, to be asked for the rest with its own options."""
    extra = judges_asked(run.host, [record.name], options)[record.name].options
    return plan_stored_judge(run.host, run.manifest, PluginRequest(record.name, {**record.options, **extra}), {})
