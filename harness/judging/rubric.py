"""Rubrics: what a judge is asked, in files that one can read.

A rubric is a folder with ``rubric.toml`` (``schema = 1``, ``name``, ``version``), one prompt a rating (``concept.md``, ``instruction.md``,
``fluency.md``), and, if few-shot prompts are wanted, ``examples.jsonl``. A prompt holds the places ``{concept}``, ``{instruction}`` and
``{text}``. What stands above its first line ``---`` goes into the system message, the same for every item, the rest into the user's; without
such a line all of it is the user's.

A rubric's identity is its name and version and a digest of the texts that are sent, so a changed word is another rubric, whatever its version says.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.chat.values import Message
from harness.errors import JudgeError, UnknownNameError
from harness.files.inputs import Input, read_text
from harness.files.json_text import json_lines
from harness.files.toml import read_toml
from harness.types import ASPECTS, Aspect, Json, JudgeItem, digest

Structured = Literal["auto"] | bool
"""Whether replies are asked for by a schema; ``auto``: where the server offers it, else in words."""

SCHEMA = 1
NEEDED: Mapping[Aspect, tuple[str, ...]] = {"concept": ("concept", "text"), "instruction": ("instruction", "text"), "fluency": ("text",)}
"""The places that each prompt must have."""
REPLY_SCHEMA: Mapping[str, Json] = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, "rating": {"type": "integer", "enum": [0, 1, 2]}},
    "required": ["reasoning", "rating"],
    "additionalProperties": False,
}
"""What a reply looks like where the API has structured output."""
STRUCTURED = "Answer in the two fields of the required schema, `reasoning` and then `rating` (the grade); leave the last line out."
REMINDER = "Remember to end with a line of exactly this form, in which n is 0, 1 or 2: Rating: [[n]]"
REMINDER_STRUCTURED = "Remember to fill in both fields; `rating` is 0, 1 or 2."

_FILES = "a rubric has rubric.toml, concept.md, instruction.md and fluency.md"
_FILE = Input("rubric file", JudgeError, _FILES)
_EXAMPLES = Input("rubric file", JudgeError, "give aspect, concept, instruction, text, reasoning and rating as JSON")
_AXBENCH_TEMPLATES = "evaluators/prompt_templates.py"
_AXBENCH_NAMES: Mapping[Aspect, str] = {
    "concept": "UNIDIRECTIONAL_PAIRWISE_EVALUATION_CONCEPT_RELEVANCE_TEMPLATE",
    "instruction": "UNIDIRECTIONAL_PAIRWISE_EVALUATION_INSTRUCTION_RELEVANCE_TEMPLATE",
    "fluency": "UNIDIRECTIONAL_PAIRWISE_EVALUATION_FLUENCY_TEMPLATE",
}
_GRADE = re.compile(r"(?<![\w.,])[012](?!\w|[.,]\d)")
_NUMBERED = re.compile(r"^\s*\d[.)]\s", re.MULTILINE)
_PLACE = re.compile(r"(?<!\{)\{([a-z_]+)\}(?!\})")
_RULE = re.compile(r"^---[ \t]*\n", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A rated text for few-shot prompts: what was asked of the judge, and the reply that it should have given."""

    aspect: Aspect
    item: JudgeItem
    reasoning: str
    rating: int


@dataclass(frozen=True)
class Rubric:
    """A rubric; see the module.

    Attributes:
        name, version: its name, and which state of it this is.
        prompts: a prompt for each of :data:`ASPECTS`.
        examples: rated texts for few-shot prompts.
        in_words: the prompts are kept as somebody published them, replies in words included: ``auto`` asks by no schema.
    """

    name: str
    version: str
    prompts: Mapping[Aspect, str]
    examples: tuple[Example, ...] = field(default=(), repr=False)
    in_words: bool = False

    def identity(self, examples: bool = False, structured: Structured = False) -> str:
        """Return ``name/version+digest`` of all texts that go to the judge: part of the cache's key, the entry, and the ranking.

        Structured replies, replies in words, and structured ones where the server offers them are three identities.
        """
        form = {True: STRUCTURED, False: "", "auto": f"auto: {STRUCTURED}"}[structured]
        texts: list[Json] = [self.prompts[aspect] for aspect in ASPECTS] + [form, REMINDER]
        return f"{self.name}/{self.version}+{digest([texts, self.examples if examples else ()], 8)}"

    def messages(
        self, aspect: Aspect, item: JudgeItem, *, examples: bool = False, structured: bool = False, again: bool = False
    ) -> tuple[Message, ...]:
        """Return what a judge is sent for one rating of one item.

        Args:
            aspect: which rating.
            item: what is rated; its id is not shown.
            examples: put the rubric's examples before it, each as a question and its answer.
            structured: ask for the fields of :data:`REPLY_SCHEMA` instead of a last line.
            again: an earlier reply could not be read; end with a reminder of the form.
        """
        system, user = _parts(self.prompts[aspect])
        head = f"{system}\n\n{STRUCTURED}" if structured and system else system or (STRUCTURED if structured else "")
        chat = [Message("system", head)] if head else []
        for example in self.examples if examples else ():
            if example.aspect == aspect:
                answer = {"reasoning": example.reasoning, "rating": example.rating}
                text = json.dumps(answer, ensure_ascii=False) if structured else f"{example.reasoning}\n\nRating: [[{example.rating}]]"
                chat += [Message("user", fill(user, example.item)), Message("assistant", text)]
        reminder = f"\n\n{REMINDER_STRUCTURED if structured else REMINDER}" if again else ""
        return (*chat, Message("user", fill(user, item) + reminder))


@functools.lru_cache(maxsize=32)
def _parts(prompt: str) -> tuple[str, str]:
    """Return a prompt's system part (empty without a line ``---``) and its user part; kept, so that thousands of requests share one text."""
    head, *rest = _RULE.split(prompt, maxsplit=1)
    return (head.strip(), rest[0].strip()) if rest else ("", head.strip())


def fill(prompt: str, item: JudgeItem) -> str:
    """Return ``prompt`` with the item's texts in their places, in one pass: a place that stands in the item's own text stays as it is."""
    values = {"concept": item.concept, "instruction": item.instruction, "text": item.text}
    return _PLACE.sub(lambda match: values.get(match[1], match[0]), prompt)


def shipped_rubrics() -> tuple[str, ...]:
    """Return names of the rubrics that come with harness; ``axbench`` besides, where that package is installed."""
    return tuple(sorted(path.parent.name for path in _shipped().glob("*/rubric.toml")))


def load_rubric(name_or_folder: str | Path) -> Rubric:
    """Return a rubric: ``default``, ``axbench`` (the prompts of the installed axbench package, read from its files), or a folder of one's own.

    Raises:
        UnknownNameError: neither a shipped rubric nor a folder that exists.
        JudgeError: a file is missing, unreadable or malformed; a prompt lacks a place or has one that nothing fills; axbench is not installed.
    """
    name = str(name_or_folder)
    if name in shipped_rubrics():
        return _from_folder(_shipped() / name)
    if name == "axbench":
        return _from_axbench()
    folder = Path(name_or_folder).expanduser()
    if not folder.is_dir():
        if isinstance(name_or_folder, Path) or "/" in name or name.startswith((".", "~")):
            hint = "give a folder with rubric.toml, concept.md, instruction.md and fluency.md"
            raise JudgeError(f"rubric folder {folder} does not exist", given=folder, hint=hint)
        raise UnknownNameError("rubric", name, (*shipped_rubrics(), "axbench"), "Or give a folder with a rubric.toml.")
    return _from_folder(folder)


def _shipped() -> Path:
    return Path(__file__).parent / "rubrics"


def _from_folder(folder: Path) -> Rubric:
    table = read_toml(folder / "rubric.toml", "rubric file", JudgeError, _FILES)
    unknown = set(table) - {"schema", "name", "version", "summary"}
    if unknown:
        name = sorted(unknown)[0]
        raise JudgeError(f"{folder / 'rubric.toml'} has the field {name!r}", given=name, allowed=("schema", "name", "version", "summary"))
    if table.get("schema") != SCHEMA:
        message = f"{folder / 'rubric.toml'} has schema {table.get('schema')!r}"
        raise JudgeError(message, given=table.get("schema"), hint=f"this version of harness reads schema = {SCHEMA}")
    for key in ("name", "version"):
        if not isinstance(table.get(key), str) or not re.fullmatch(r"[\w.-]+", table[key]):
            message = f"{folder / 'rubric.toml'}: {key} is {table.get(key)!r}"
            raise JudgeError(message, given=table.get(key), allowed='a text of letters, digits, ".", "_" and "-"')
    prompts = {aspect: _prompt(folder / f"{aspect}.md", aspect) for aspect in ASPECTS}
    return Rubric(table["name"], table["version"], prompts, _read_examples(folder / "examples.jsonl"))


def _read(path: Path) -> str:
    return read_text(path, _FILE)


def _prompt(path: Path, aspect: Aspect) -> str:
    text = _read(path).replace("\r\n", "\n")
    check_prompt(text, aspect, str(path))
    return text


def check_prompt(text: str, aspect: Aspect, where: str) -> None:
    """Raise JudgeError unless a prompt has the places of :data:`NEEDED` below its line ``---``, and no place that nothing fills."""
    allowed = ("concept", "instruction", "text")
    found = _PLACE.findall(text)
    for name in found:
        if name not in allowed:
            message = f"{where} has the place {{{name}}}, which nothing fills"
            raise JudgeError(message, given=f"{{{name}}}", allowed=[f"{{{one}}}" for one in allowed])
    head, *rest = _RULE.split(text, maxsplit=1)
    if rest and (above := _PLACE.search(head)):
        message = f"{where} has a place above its line ---, which is sent the same for every item"
        raise JudgeError(message, given=above[0], hint="move it below the line")
    for name in NEEDED[aspect]:
        if name not in found:
            message = f"{where} has no place {{{name}}}, so the judge would not see the {name}"
            raise JudgeError(message, given=where, hint=f"put it where the {name} belongs")


def _read_examples(path: Path) -> tuple[Example, ...]:
    if not path.exists():
        return ()
    examples = []
    for number, row in json_lines(path, _EXAMPLES):
        try:
            aspect, rating = row["aspect"], row["rating"]
            texts = {name: row.get(name, "") for name in ("concept", "instruction", "text", "reasoning")}
        except KeyError as error:
            raise JudgeError(f"{path}, line {number}: no {error}", given=row, hint=_EXAMPLES.hint) from None
        if (
            aspect not in ASPECTS
            or rating not in (0, 1, 2)
            or isinstance(rating, bool)
            or not all(isinstance(t, str) for t in texts.values())
        ):
            message = f"{path}, line {number}: aspect is {aspect!r} and rating {rating!r}"
            raise JudgeError(message, given=(aspect, rating), allowed=f"{', '.join(ASPECTS)} with 0, 1 or 2")
        missing = [name for name in (*NEEDED[aspect], "reasoning") if not texts[name].strip()]
        if missing:
            raise JudgeError(f"{path}, line {number}: an example of {aspect} needs a {missing[0]}", given=texts[missing[0]], hint="add it")
        item = JudgeItem("example", texts["concept"], texts["instruction"], texts["text"])
        examples.append(Example(aspect, item, texts["reasoning"], int(rating)))
    return tuple(examples)


def _from_axbench() -> Rubric:
    """Return the three prompts of an installed axbench package, read from its source without running it (importing it loads torch and more)."""
    found = importlib.util.find_spec("axbench")
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        raise JudgeError(
            "rubric axbench is read from the axbench package, which is not installed here",
            given="axbench",
            hint="install it, or use the rubric default",
        )
    path = Path(folders[0]) / _AXBENCH_TEMPLATES
    try:
        version = importlib.metadata.version("axbench")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    try:
        tree = ast.parse(_read(path))
    except SyntaxError as error:
        raise JudgeError(f"{path} cannot be parsed: {error}", given=path, hint="install another version of axbench") from None
    texts = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    prompts: dict[Aspect, str] = {}
    for aspect, name in _AXBENCH_NAMES.items():
        if name not in texts:
            hint = "install a version of axbench that has it, or use the rubric default"
            raise JudgeError(f"{path} has no text {name}", given=path, hint=hint)
        prompt = texts[name].replace("{sentence}", "{text}").strip()
        check_prompt(prompt, aspect, f"{name} of {path}")
        if set(_GRADE.findall(_NUMBERED.sub("", prompt))) != {"0", "1", "2"}:
            # Some revisions ask for 0 or 1. Read as 0, 1 or 2, their best would be a half.
            raise JudgeError(
                f"{name} of axbench {version} ({path}) does not state the grades 0, 1 and 2, so its ratings are on another scale",
                given=version,
                hint="install a version of axbench whose prompts do, or use the rubric default",
            )
        prompts[aspect] = prompt.replace("{{", "{").replace("}}", "}")  # axbench fills them by str.format
    return Rubric("axbench", version, prompts, in_words=True)
