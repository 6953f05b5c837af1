"""``harness steer``: what a model says to prompts of one's own, with and without a feature or concept; texts side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import (
    assignments,
    console,
    echo,
    engine_option,
    json_option,
    load_host,
    plugin_files_option,
    plugin_option,
    print_json,
    quiet_option,
    spending_options,
)
from harness.files.allocator import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.evaluations.face import OpenTask
    from harness.plugin.grammar import PluginRequest
    from harness.run.plan import PlannedPlugin
    from harness.tasks.schema import Task
    from harness.types import Json, Labeling


@click.command("steer")
@click.argument("prompts", metavar="PROMPT", nargs=-1, required=True)
@click.option("--feature", help="The feature to steer with: N of the task's first dictionary, or DICTIONARY/N.")
@click.option("--concept", help="What to steer to: one of the task's concepts, or (without a labeler) any text.")
@click.option("--labeler", help="In place of --feature: the labeler that finds the concept's, NAME[:option=value,…].")
@click.option("--steerer", help="A steerer, NAME[:option=value,…], or several joined by + (default: the task's first that goes through features).")
@click.option("--strength", "strengths", multiple=True, metavar="0.1,0.2", help="Strengths in the steerer's unit; repeatable (default: the task's).")
@plugin_option("-L", "labeler")
@plugin_option("-S", "steerer")
@plugin_files_option
@click.option("--task", "task_name", default="demo", show_default=True, help="A task's name, or a folder with a task.toml.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random draw.")
@click.option("--device", help="cpu, cuda, cuda:1, mps (default: the best there is).")
@click.option("--dtype", help="float32, bfloat16, float16 (default: what the device is fast with).")
@engine_option
@spending_options
@json_option
@quiet_option
def command(
    prompts: tuple[str, ...],
    feature: str | None,
    concept: str | None,
    labeler: str | None,
    steerer: str | None,
    strengths: tuple[str, ...],
    labeler_options: tuple[str, ...],
    steerer_options: tuple[str, ...],
    plugin_files: tuple[Path, ...],
    task_name: str,
    seed: int,
    device: str | None,
    dtype: str | None,
    engine: str | None,
    max_cost: float,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show what the model answers to each PROMPT, unsteered and steered at each strength, side by side.

    Nothing is rated and nothing is stored. Example: harness steer "Tell me a story." --feature 7 --strength 0.5,1,2
    """
    from harness.cli.spending import Purse
    from harness.contracts import Priced, Work
    from harness.errors import OptionError
    from harness.evaluations.face import OpenTask
    from harness.evaluations.prompts import check_labeling, check_strengths, steered
    from harness.run.bench import Choices
    from harness.run.plan import grid_of, plan_one
    from harness.run.strengths import parse_numbers
    from harness.tasks.find import find_task

    _check_choice(feature, concept, labeler)
    if not all(prompt.strip() for prompt in prompts):
        raise OptionError("a prompt is empty", given=prompts, hint="put each prompt in quotes")
    host = load_host(plugin_files)
    task = find_task(host, task_name)
    planned = plan_one(host, task, "steerer", steerer or _usual(task), assignments(steerer_options, "-S"))
    wanted = [number for text in strengths for number in parse_numbers(text, "--strength")]
    chosen = check_strengths(planned, wanted if strengths else grid_of(task, planned))
    named = (concept,) if concept is not None and labeler is not None else ()
    keep_freed_memory()
    opened = OpenTask(task, Choices(seed=seed, device=device, dtype=dtype, concepts=named, engine=engine), host, quiet=quiet or as_json)
    labeling = _labeling(opened, feature, concept, labeler, assignments(labeler_options, "-L"))
    check_labeling(planned, labeling)
    purse = Purse(max_cost, yes, quiet or as_json)
    for part in planned.parts:
        if isinstance(part.instance, Priced):
            purse.approve(part.instance.estimate(Work(concepts=[labeling.concept])), f"steerer {part.registered.name}")
    own = opened.unsteered(prompts)
    texts = steered(opened.bench, planned, labeling, chosen, prompts)
    beside = [{text.strength: text.text for text in texts[place :: len(prompts)]} for place in range(len(prompts))]
    _show(opened, planned, labeling, list(zip(prompts, own, beside, strict=True)), as_json)


def _usual(task: Task) -> PluginRequest:
    """Return the first steerer that a task lists with a labeler, among its methods or else its controls. Raises OptionError where there is none."""
    from harness.errors import OptionError
    from harness.plugin.grammar import parse_steerer

    methods = [table.request for table in task.file.methods if table.labeler is not None]
    for request in [*methods, *(parse_steerer(control.steerer) for control in task.file.controls if control.labeler is not None)]:
        return request
    message = f"nothing says how to steer: task {task.name!r} lists no steerer that goes through features"
    raise OptionError(message, given=task.name, hint="name a --steerer (see `harness plugins`)")


def _check_choice(feature: str | None, concept: str | None, labeler: str | None) -> None:
    """Raise OptionError where it is not said, or said twice, what to steer to."""
    from harness.errors import OptionError

    if feature is None and concept is None:
        raise OptionError("nothing says what to steer to", allowed="--feature N, or --concept TEXT with --labeler NAME")
    if labeler is not None and (feature is not None or concept is None):
        message = f"labeler {labeler!r} finds the feature of a --concept"
        raise OptionError(message, given=labeler, hint="give --concept TEXT, and no --feature, beside it")


def _labeling(opened: OpenTask, feature: str | None, concept: str | None, labeler: str | None, options: Mapping[str, str]) -> Labeling:
    """What to steer to. Raises OptionError where the labeler abstains, or an option of a labeler is given and no labeler."""
    from harness.errors import OptionError
    from harness.evaluations.prompts import concept_called, concept_or_text
    from harness.types import Labeling

    if labeler is None:
        if options:
            raise OptionError("-L sets options of a labeler, and none is named", given=tuple(options), hint="name one with --labeler")
        stands_for = None if concept is None else concept_or_text(opened.bench, concept)
        return opened.feature(feature, stands_for) if feature is not None else Labeling(stands_for)  # type: ignore[arg-type]
    wanted = concept_called(opened.bench, str(concept))
    answers = opened.label(labeler, options)
    found = [answer for answer in answers if isinstance(answer, Labeling)]
    if not found:
        reasons = "; ".join(dict.fromkeys(answer.reason for answer in answers if not isinstance(answer, Labeling)))
        message = f"labeler {labeler!r} has no feature for concept {wanted.id!r}: {reasons or 'it gave no reason'}"
        raise OptionError(message, given=concept, hint="name a --feature, or take another labeler")
    return max(found, key=lambda answer: float("-inf") if answer.score is None else answer.score)


def _show(opened: OpenTask, steerer: PlannedPlugin, labeling: Labeling, rows: list[tuple[str, str, dict[float, str]]], as_json: bool) -> None:
    from harness.cli.side_by_side import SideBySide
    from harness.files.visible import in_cell

    unit = steerer.instance.traits.unit
    if as_json:
        texts: list[Json] = []
        for prompt, own, steered in rows:
            texts.append({"prompt": prompt, "strength": None, "text": own})
            texts += [{"prompt": prompt, "strength": strength, "text": text} for strength, text in steered.items()]
        about = {"steerer": steerer.label, "options": dict(steerer.options), "strength_unit": unit}
        what = {"concept": labeling.concept.text, "features": [str(feature) for feature in labeling.features], "score": labeling.score}
        where = {"task": opened.task.name, "model": opened.bench.model.name, "seed": opened.bench.seed}
        where |= {"engine": opened.bench.engine.name}
        print_json({**where, **about, **what, "texts": texts, "warnings": list(opened.bench.warnings.messages)})
        return
    features = ", ".join(str(feature) for feature in labeling.features)
    to = f"{features} ({labeling.concept.text})" if features and labeling.concept.id != features else features or labeling.concept.text
    console().print(in_cell(f"{opened.bench.model.name} · {steerer.label} · {to}{'' if unit == 'none' else f' · strengths in {unit}'}"))
    for prompt, own, steered in rows:
        titled = [(f"strength {strength:g}" if unit != "none" else "steered", text) for strength, text in steered.items()]
        console().print(SideBySide(prompt, [("unsteered", own), *titled]))
    for warning in opened.bench.warnings.messages:
        echo(f"warning: {warning}", err=True)
