"""Under which record a judge's ratings of a run are kept, and whether the judge passes the self-test.

A run's texts do not depend on its judge. So what the judge is made of (its code, the files that it reads) belongs to the judge's record: a judge that
has changed rates the stored texts again, and nothing else is done anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.contracts import Priced, RunsModel
from harness.run.bench import TaskBench
from harness.run.manifest import code_of
from harness.run.planned import PlannedPlugin
from harness.run.run import Run, StoredBench
from harness.store import JudgeRecord, RunStore
from harness.store.values import of_judge
from harness.types import digest

if TYPE_CHECKING:
    from harness.judging.selftest import Examined
    from harness.store.manifest import ModelRef


_MODEL = "the model"
"""Under which name the identity of a judge's own model stands among what it reads."""


def record_of(judge: PlannedPlugin) -> JudgeRecord:
    """Returns the record of a judge as it is installed now."""
    traits = judge.instance.traits
    files = {_MODEL: judge.instance.model_identity} if isinstance(judge.instance, RunsModel) else {}
    content = {name: value for name, value in judge.content.items() if name in judge.shown}
    return JudgeRecord(judge.registered.name, traits.rubric, judge.shown, traits.offline, _code(judge), files, content)


def _code(judge: PlannedPlugin) -> str:
    """Return the digest of a judge's source: a new version of the same source rates nothing again. Without source, that of its version."""
    version, source = code_of(judge)
    return source or (digest([version]) if version else "")


def judge_record(run: Run, judge: PlannedPlugin) -> JudgeRecord:
    """The record under which a judge's ratings of a run are kept: the same one for as long as the run is open.

    That of the judge as it is now. An earlier one of the same judge goes on where its ratings come from elsewhere, later (people, batches): they do
    not depend on its code, and some may be due. So does one of an older harness, which does not say by which code it was made.
    """
    if judge.same not in run.judge_records:
        run.judge_records[judge.same], why = choose_record(run.store, judge)
        if why:
            run.progress.step(why)
    return run.judge_records[judge.same]


def choose_record(store: RunStore, judge: PlannedPlugin) -> tuple[JudgeRecord, str]:
    """Return the record under which a judge's ratings are kept, see :func:`judge_record`, and what is to be said of that; nothing is stored."""
    now = record_of(judge)
    alike = of_judge(now, store.judges())
    if not alike or now.key in [record.key for record in alike]:
        return next((record for record in alike if record.key == now.key), now), ""  # with the paths that it was first given
    last = alike[-1]
    same_files = last.identity == now.identity and last.models == now.models
    if same_files and last.code in (now.code, digest(code_of(judge))):
        return last, ""  # an older harness put the version into the digest of the code, and paths of files into the key
    if not (last.code or last.files or last.content):
        return last, f"an older harness did not keep by which code judge {judge.label} rated; its ratings are kept"
    if judge.instance.traits.answers_later or store.pending(last.key):
        return last, ""
    before, after = {**last.identity, **last.models}, {**now.identity, **now.models}
    changed = sorted(name for name in {**before, **after} if before.get(name) != after.get(name))
    what = f"the code of judge {judge.label}" if last.code != now.code or not changed else f"{changed[0]} of judge {judge.label}"
    paid = isinstance(judge.instance, Priced) and not isinstance(judge.instance, RunsModel)
    price = "; what that may cost is estimated and approved before anything is sent" if paid else ""
    return now, f"{what} has changed since; its texts are rated again{price}"


# ----------------------------------------------------------------------------------------------------------------------- self-test


def examine_first(judge: PlannedPlugin, bench: StoredBench | TaskBench) -> None:
    """Run the self-test of a judge that asks for it (``selftest_first``), once. Not of one that costs money: nobody has approved that."""
    from harness.judging.selftest import keep_result, known, selftest

    if not judge.instance.traits.selftest_first or isinstance(judge.instance, Priced):
        return
    examined = examined_as(judge, bench.model_ref if judge.instance.traits.needs_model else None)
    if not known(examined):
        bench.progress.step(f"testing judge {judge.registered.name} on texts with obvious ratings, once")
        keep_result(examined, selftest(judge.instance, bench, judge.registered.who))


def warn_untrusted(judge: PlannedPlugin, bench: StoredBench | TaskBench, model: ModelRef | None = None) -> None:
    """Warn of a judge that has failed the self-test; ``model`` is the subject model where it is not to be opened for this."""
    from harness.judging.selftest import stored_warning

    needed = (model or bench.model_ref) if judge.instance.traits.needs_model else None
    if warning := stored_warning(examined_as(judge, needed)):
        bench.warn(warning)


def examined_as(judge: PlannedPlugin, model: ModelRef | None) -> Examined:
    """All that a judge's result of the self-test depends on; ``model`` for one that needs the subject model."""
    from harness.judging.selftest import Examined

    record = record_of(judge)
    facts = None if model is None else (model.digest or model.name, model.dtype, model.device.partition(":")[0])
    return Examined(record.name, record.rubric, record.options, record.code, record.files, facts, record.content)
