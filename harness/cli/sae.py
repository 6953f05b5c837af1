"""``harness sae``: train a dictionary, and describe one."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import assignments, echo, json_option, print_json, print_table, quiet_option
from harness.cli.signals import Kept

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.model.loading import SubjectModel
    from harness.sae.training.config import TrainConfig

MODEL = "smollm2-135m-instruct"


@click.group("sae")
def command() -> None:
    """Train sparse autoencoders, and look at them."""


def _model_options(function: Any) -> Any:
    for option in (
        click.option("--max-tokens", type=click.IntRange(min=2), default=256, show_default=True, help="Cut texts to so many tokens."),
        click.option("--limit", type=click.IntRange(min=1), help="Use the first so many texts."),
        click.option("--device", help="cpu, cuda, … (default: the best there is)."),
        click.option("--dtype", help="float32, bfloat16, … (default: what the device is fast with)."),
    ):
        function = option(function)
    return function


@command.command("train")
@click.argument("texts", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to make (SAELens format); of several, theirs.")
@click.option("--model", "model_name", default=MODEL, show_default=True, help="Subject model.")
@click.option("--layer", type=click.IntRange(min=0), required=True, help="Zero-based decoder layer whose output is reconstructed.")
@click.option("-T", "settings", multiple=True, metavar="name=value", help="Training setting, e.g. -T width=4096 -T k=32; repeatable.")
@click.option("--chat/--plain", default=True, help="Texts with a `prompt` column as conversations in the chat template, or the text alone.")
@click.option("--seeds", default="", metavar="0,1,2", help="Train one dictionary for each of these seeds (default: seed 0, or -T seed=).")
@click.option(
    "--control",
    "controls",
    multiple=True,
    metavar="NAME,…",
    help="Train controls: frozen-decoder, soft-frozen-decoder, frozen-encoder; none is the dictionary itself (default). Repeatable.",
)
@click.option("--random-rows", help="How a control's random part is drawn: isotropic (default), or with the covariance of the tokens.")
@click.option("--cosine", type=click.FloatRange(0, 1), help="Of soft-frozen-decoder: least cosine of a decoder row with its start (default .8).")
@click.option("--cache", type=click.Path(path_type=Path), help="Keep collected activations here for other runs on the same texts.")
@click.option("--dataset", default="", help="What the texts are and their licence, for the dictionary's metadata.")
@_model_options
@json_option
@quiet_option
def train_command(
    texts: tuple[Path, ...],
    output: Path,
    model_name: str,
    layer: int,
    settings: tuple[str, ...],
    chat: bool,
    seeds: str,
    controls: tuple[str, ...],
    random_rows: str | None,
    cosine: float | None,
    cache: Path | None,
    dataset: str,
    max_tokens: int,
    limit: int | None,
    device: str | None,
    dtype: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train dictionaries on TEXTS (any corpus that `harness data stats` reads; rows of `harness data generate` keep their prompts).

    Several seeds and controls share one pass of the model, and each gets a folder in OUTPUT: trained-0, frozen-decoder-0, … What is there is not
    trained again, and a command that was stopped goes on where it was.
    """
    given = assignments(settings, "-T")
    given |= {name: str(value) for name, value in (("random_rows", random_rows), ("cosine", cosine)) if value is not None}
    configs = planned_trainings(given, seeds, controls)
    from harness.files.progress import Progress
    from harness.interventions import Site
    from harness.model.loading import load_model
    from harness.sae.training.config import TrainProgress
    from harness.sae.training.train import train, train_all

    progress = Progress(quiet or as_json)
    model = load_model(model_name, device=device, dtype=dtype, progress=progress.step, downloads=progress)
    model.check_layer(layer)
    rows, prefix = token_rows(model, texts, chat, max_tokens, limit)
    configs = {name: replace(config, skip=max(config.skip, prefix)) for name, config in configs.items()}
    with progress.gauge("collecting activations (tokens)") as collecting, progress.gauge("training (tokens)") as training:

        def report(now: TrainProgress) -> None:
            if now.stage == "collect":
                collecting(now.done, now.total)
            elif now.stage == "train":
                training(now.done, now.total)

        try:
            if len(configs) == 1:
                [(name, config)] = configs.items()
                folders = {name: train(model, rows, Site(layer), config, output, report, cache=cache, dataset=dataset)}
            else:
                folders = train_all(model, rows, Site(layer), configs, output, report, cache=cache, dataset=dataset)
        except KeyboardInterrupt as stop:
            raise Kept("what was done is kept; the same command goes on from there") from stop
    _show_trained({folders[name]: config for name, config in configs.items()}, model.name, layer, as_json)


def planned_trainings(given: Mapping[str, str], seeds: str = "", controls: Sequence[str] = ()) -> dict[str, TrainConfig]:
    """Return the settings of each dictionary that is to be trained, by the name of its folder: the trained ones first, then control by control.

    Args:
        given: training settings as text.
        seeds: whole numbers with commas between; empty for the settings' seed.
        controls: names, or several with commas between; none for ``none``.

    Raises:
        UnknownNameError, OptionError: what is not a setting, or not allowed.
    """
    from harness.errors import OptionError

    arms = list(dict.fromkeys(name.strip() for text in controls for name in text.split(","))) or [given.get("control", "none")]
    numbers = [text.strip() for text in seeds.split(",")] if seeds else [given.get("seed", "0")]
    for option, setting in (("--seeds", "seed" if seeds else ""), ("--control", "control" if controls else "")):
        if setting in given:
            raise OptionError(f"-T {setting}= and {option} are both given", given=given[setting], hint="leave one of the two out")
    if bad := next((text for text in numbers if not text.isdecimal()), None):
        raise OptionError(f"--seeds holds {bad!r}", given=seeds, allowed="whole numbers from 0 up, with commas between, e.g. 0,1,2")
    found = {}
    for arm in arms:
        for number in dict.fromkeys(numbers):
            config = train_config({**given, "control": arm, "seed": number})
            found[f"{'trained' if arm == 'none' else arm}-{config.seed}"] = config
    return found


def _show_trained(trained: Mapping[Path, TrainConfig], model_name: str, layer: int, as_json: bool) -> None:
    """Print what the trained dictionaries do on held-out tokens, and whether their L0 can be compared."""
    import json

    from harness.sae.formats.saelens import CFG_FILE
    from harness.sae.training.train import L0_TOLERANCE

    rows = []
    for folder, config in trained.items():
        metadata = json.loads((folder / CFG_FILE).read_text(encoding="utf-8"))["metadata"]
        rows.append({
            "folder": str(folder), "control": config.control, "seed": config.seed, "architecture": config.architecture, "width": config.width,
            "explained_variance": metadata["explained_variance"], "l0": metadata["l0"], "dead": metadata["dead_on_held_out"] / config.width,
            "held_out_tokens": metadata["held_out_tokens"],
        })  # fmt: skip
    if as_json:
        print_json(rows)
        return
    cells = [(Path(row["folder"]).name, f"{row['explained_variance']:.3f}", f"{row['l0']:.2f}", f"{row['dead']:.3f}") for row in rows]
    config, n = next(iter(trained.values())), rows[0]["held_out_tokens"]
    print_table(f"on {n:,} held-out tokens", ["dictionary", "explained variance", "L0", "dead share"], cells)
    if config.matches_l0:
        echo(f"L0 is matched: {config.k} active features a token on held-out tokens, within {L0_TOLERANCE:.0%} and two standard errors")
    elif config.architecture == "topk":
        echo(f"L0 is matched: each has at most {config.k} active features at every token")
    else:
        echo("L0 is not matched: the penalty of standard aims at none; compare such dictionaries at several values of sparsity")
    for folder in trained:
        echo(f"{folder}: {config.width} features of layer {layer} of {model_name}; see `harness sae info {folder}`")


def train_config(given: dict[str, str]) -> TrainConfig:
    """Return training settings from text. Raises UnknownNameError or OptionError for what is not a setting or not allowed."""
    from harness.errors import OptionError, UnknownNameError
    from harness.sae.training.config import TrainConfig

    types: dict[str, Any] = {field.name: type(field.default) for field in fields(TrainConfig)}
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in types:
            raise UnknownNameError("training setting", name, types)
        try:
            if types[name] is bool:
                values[name] = {"true": True, "false": False}[text.lower()]
            else:
                values[name] = text if types[name] in (str, type(None)) else types[name](text)
        except (ValueError, KeyError):
            raise OptionError(f"training setting {name} is {text!r}", given=text, allowed=f"a value of type {types[name].__name__}") from None
    return TrainConfig(**values)


def token_rows(
    model: SubjectModel, texts: Sequence[Path], chat: bool, max_tokens: int, limit: int | None
) -> tuple[list[list[int]], int]:
    """Return texts as token ids, and how many leading tokens are the same in all of them (the chat template's constant prefix, or the first token).

    A row with a prompt becomes the conversation as the model saw it while it wrote the text.
    """
    from harness.data.written.generate import read_conversations

    rows: list[list[int]] = []
    conversations = 0
    for path in texts:
        for prompt, text in read_conversations(path):
            if chat and prompt:
                conversations += 1
                # The reply's own tokens follow the prompt's, as they did when it was generated.
                rows.append((model.prompt(prompt) + model.encode(text, add_bos=False))[:max_tokens])
            else:
                rows.append(model.encode(text)[:max_tokens])
            if limit is not None and len(rows) >= limit:
                break
    return rows, model.chat_prefix_length if rows and conversations == len(rows) else 1


@command.command("ensemble")
@click.argument("dictionaries", nargs=-1, required=True, metavar="DICTIONARY…")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to make (SAELens format).")
@quiet_option
def ensemble_command(dictionaries: tuple[str, ...], output: Path, quiet: bool) -> None:
    """Make one dictionary of several of one layer (bagging): all their features, and the mean of their reconstructions.

    A boosted ensemble, whose members learn one after the other, is trained by a task: [[ensembles]] in its file.
    """
    import harness.sae
    from harness.files.progress import Progress
    from harness.sae.ensembles import bagged, save_dictionary

    progress = Progress(quiet)
    made = bagged([harness.sae.load(name, progress=progress) for name in dictionaries])
    save_dictionary(made, output)
    echo(f"{output}: {made.d_sae} features of layer {made.layer}, the mean of {len(dictionaries)} dictionaries; see `harness sae info {output}`")


@command.command("info")
@click.argument("dictionary")
@click.option("--model", "model_name", help="Subject model to measure with (default: none, and nothing is measured).")
@click.option("--corpus", type=click.Path(exists=True, path_type=Path), multiple=True, help="Texts to measure on; repeatable.")
@click.option("--chat/--plain", default=True, help="As in `harness sae train`.")
@_model_options
@json_option
@quiet_option
def info_command(
    dictionary: str,
    model_name: str | None,
    corpus: tuple[Path, ...],
    chat: bool,
    max_tokens: int,
    limit: int | None,
    device: str | None,
    dtype: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Describe DICTIONARY: width, hook, model.

    It is a SAELens folder, Gemma Scope's params.npz or params.safetensors, a sparsify folder (layers.10), or a registry name release/id.

    With --model and --corpus also what it does on their texts: L0, explained variance, dead features.
    """
    import harness.sae
    from harness.errors import OptionError
    from harness.files.progress import Progress

    if corpus and not model_name:
        hint = "name the model on whose activations the dictionary is measured"
        raise OptionError("--corpus needs --model", given=corpus, hint=hint)
    progress = Progress(quiet or as_json)
    loaded = harness.sae.load(dictionary, progress=progress)
    if model_name and corpus:
        from harness.model.loading import load_model

        model = load_model(model_name, device=device, dtype=dtype, progress=progress.step, downloads=progress)
        harness.sae.check_fits(loaded, model, allow_other_model=True)
        rows, prefix = token_rows(model, corpus, chat, max_tokens, limit)
        found = harness.sae.describe(loaded, model, rows, skip=prefix)
    else:
        found = harness.sae.describe(loaded)
    if as_json:
        print_json(asdict(found))
        return
    for name, value in asdict(found).items():
        if value is not None and name != "notes":
            echo(f"{name.replace('_', ' ')}: {f'{value:.4g}' if isinstance(value, float) else value}")
    for note in found.notes:
        echo(f"note: {note}")
