"""What belongs to the subject model on its way to a worker: it is named, not sent, and what the worker's model has by that name stands in its place.

So what a plugin has made of the driver's model (a module that it will hook, weights that it begins with) is of the worker's model there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

Name = tuple[str, str]
"""The kind of a part, and its name among those of that kind."""

MODEL, MODULE, PARAMETER, TOKENIZER, FORMAT = "model", "module", "parameter", "tokenizer", "format"


class ModelParts:
    """The parts of a model by what they are.

    Args:
        model: of the driver; None: there is none.
    """

    def __init__(self, model: SubjectModel | None) -> None:
        self._names: dict[int, tuple[Name, object]] = {}  # with the parts themselves, so that nothing else comes to lie at their addresses
        if model is None:
            return
        parts: list[tuple[Name, object]] = [((MODEL, ""), model), ((TOKENIZER, ""), model.tokenizer), ((FORMAT, ""), model.format)]
        parts += [((MODULE, name), module) for name, module in model.hf.named_modules()]
        parts += [((PARAMETER, name), parameter) for name, parameter in model.hf.named_parameters()]
        for name, part in parts:
            self._names.setdefault(id(part), (name, part))

    def name_of(self, value: object) -> Name | None:
        """Return how a part is called; None for what is none."""
        found = self._names.get(id(value))
        return None if found is None else found[0]


def part_of(model: SubjectModel, name: Name) -> Any:
    """Return the part of a model that has a name of :meth:`ModelParts.name_of`."""
    kind, path = name
    if kind == MODULE:
        return model.hf.get_submodule(path)
    if kind == PARAMETER:
        return model.hf.get_parameter(path)
    return {MODEL: model, TOKENIZER: model.tokenizer, FORMAT: model.format}[kind]
