"""The task file's tables of what is run: methods, detectors, and what is run beside them."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field, model_validator

from harness.plugin.grammar import PluginRequest
from harness.tasks.dictionaries import Options, Table, request_in


class ControlTable(Table):
    """``[[controls]]``: a method that is run beside what was asked for."""

    steerer: str
    """A steerer: NAME, or NAME:option=value,…; or several joined by +, e.g. prompt+sae-clamp"""
    labeler: str | None = None
    """A labeler, in the same way; left out for a steerer that uses no feature."""
    draws: int = Field(1, ge=1)
    """Draws of a random labeler for each concept, each with texts of its own; a concept's score is the mean over them."""

    @model_validator(mode="after")
    def _names_plugins(self) -> ControlTable:
        for key, text in (("steerer", self.steerer), ("labeler", self.labeler)):
            if text is not None:
                request_in(text, {}, key)
        return self


class RunTable(Table):
    """Base of the tables that say what is run: a plugin, and the labeler through whose features it works."""

    labeler: str | None = None
    """A labeler: NAME, or NAME:option=value,… Left out for a plugin that uses no feature, or to take every labeler that the run has anyway."""
    labeler_options: Options = Field(default_factory=dict)
    """Options of this row's labeler, before those of `[labelers]`; the command line overrides them."""
    options: Options = Field(default_factory=dict)
    """Options of this row's steerer or detector; the command line overrides them. Those of joined steerers stand behind their names."""

    @property
    @abstractmethod
    def request(self) -> PluginRequest:
        """The steerer or detector with its options."""

    @property
    def labeler_request(self) -> PluginRequest | None:
        """The labeler with its options."""
        return None if self.labeler is None else request_in(self.labeler, self.labeler_options, "labeler")

    @model_validator(mode="after")
    def _names_plugins(self) -> RunTable:
        if self.labeler is None and self.labeler_options:
            raise ValueError("labeler_options are options of the row's labeler, and it names none")
        _ = self.request, self.labeler_request  # both raise for text that names no plugin
        return self


class MethodTable(RunTable):
    """``[[methods]]``: a method of steering that `harness eval --task` runs when no plugin is named: a row's steerer with the row's labeler."""

    steerer: str
    """A steerer: NAME, or NAME:option=value,…; or several joined by +, e.g. prompt+sae-clamp"""

    @property
    def request(self) -> PluginRequest:
        return request_in(self.steerer, self.options, "steerer")


class DetectorTable(RunTable):
    """``[[detectors]]``: a method of detection that `harness eval --task` runs when no plugin is named: a row's detector with the row's labeler."""

    detector: str
    """A detector: NAME, or NAME:option=value,… One that is named on the command line has the options of its first row."""

    @property
    def request(self) -> PluginRequest:
        return request_in(self.detector, self.options, "detector")
