"""The task file's tables of dictionaries: those of files, those that are trained on the task's own corpus, and what is measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from harness.errors import OptionError
from harness.files.json_text import JsonError, check_depth
from harness.files.names import Name, PathText
from harness.plugin.grammar import PluginRequest, parse_request, parse_steerer
from harness.types import canonical_json


def _json_options(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse what TOML can hold and JSON cannot, since options are part of a run's identity: dates, infinite numbers."""
    try:
        check_depth(options)
        canonical_json(options)
    except JsonError:
        raise
    except (TypeError, ValueError) as error:
        raise ValueError(f"options are texts, finite numbers, true, false, lists and tables of these ({error})") from None
    return options


Options = Annotated[dict[str, Any], AfterValidator(_json_options)]
"""Options of a plugin as a task file gives them."""


class Table(BaseModel):
    """Base of the task file's tables: frozen, no unknown keys, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def request_in(text: str, options: Mapping[str, Any], key: str) -> PluginRequest:
    """A plugin that a table names, with the options behind its name and those of a key of the table; under ``steerer`` several may be joined.

    Raises ValueError for text that does not follow the grammar, for an option that stands in both places, and for options of joined steerers that
    stand behind no name.
    """
    try:
        found = parse_steerer(text, key) if key == "steerer" else parse_request(text, key)
    except OptionError as error:
        raise ValueError(str(error)) from None
    if found.parts:
        if options:
            raise ValueError(f"the options of {found.name} stand behind its steerers' names, e.g. {found.parts[0].name}:option=value")
        return found
    if twice := sorted(found.options.keys() & options.keys()):
        raise ValueError(f"option {twice[0]} of {found.name} stands behind its name and in the table's options; leave one out")
    return PluginRequest(found.name, {**found.options, **options})


class DictionaryTable(Table):
    """``[[dictionaries]]``: a sparse autoencoder of the model."""

    name: Name = "sae"
    """Its name within the task; features are called name/index."""
    source: PathText
    """A SAELens, Gemma Scope or sparsify folder (relative to the task's), a SAELens registry name (release/id), or `hub:owner/repo/folder`."""
    revision: str | None = None
    """Branch, tag or commit of a dictionary on the hub; left out, the hub's default."""
    layer: int = Field(ge=0)
    """The decoder layer (zero-based) whose output it reads and writes; checked against the SAE's own configuration."""
    width: int | None = Field(None, gt=0)
    """Number of features, for estimates; checked when it is loaded."""
    trained_on: str | None = None
    """The other model that it was made for, where that is intended (a base model's SAE on its instruct model). The entry records it."""


class TrainTable(Table):
    """``[[train]]``: a dictionary that is trained on the task's own corpus when it is first used, and kept in the cache; one for each seed."""

    name: Name = Field(pattern=r"^[^/@]+$")
    """Its name within the task, without `/` and `@`: the first seed's dictionary has this name, another's name@seed."""
    layer: int = Field(ge=0)
    """The decoder layer (zero-based) whose output it reads and writes."""
    texts: Literal["train", "all"] = "train"
    """Texts that it is trained on: the split's train part, so that report texts are new to it, or all of the corpus."""
    max_tokens: int | None = Field(None, ge=1)
    """Train on whole texts of so many tokens at most, drawn at random; left out, on all."""
    tokens: PathText | None = None
    """A file of token ids that it is trained on in place of the corpus' texts (`harness data tokens` writes one), relative to the task's folder."""
    snapshots: tuple[int, ...] = ()
    """After so many tokens, ascending, the training is also kept as it is: each a dictionary of its own, name~tokens (and name~tokens@seed)."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of initial weights, order and held-out tokens; one dictionary is trained for each, on one pass of the model."""
    architecture: Literal["batchtopk", "topk", "jumprelu", "standard", "matryoshka"] = "batchtopk"
    """What is trained; batchtopk, matryoshka (five nested levels) and jumprelu are kept as jumprelu."""
    width: int = Field(4096, gt=0)
    """Number of features."""
    k: int = Field(32, gt=0)
    """Active features per token (batchtopk: on average); for jumprelu the L0 that its penalty aims at; unused by standard."""
    sparsity: float = Field(1.0, ge=0)
    """Coefficient of jumprelu's L0 or standard's L1 penalty."""
    epochs: float = Field(3.6, gt=0)
    """Passes over the tokens."""
    batch_size: int = Field(2048, gt=0)
    """Tokens per step."""
    lr: float = Field(1e-3, gt=0)
    """Adam's learning rate."""
    warm_up: float = Field(0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises from 0."""
    decay: float = Field(0.25, ge=0, le=1)
    """Share of the steps over which it falls to 0 at the end."""
    input_norm: Literal["unit", "sqrt_d"] | None = None
    """What the mean norm of inputs is scaled to; left out, unit for the TopK family and sqrt_d otherwise."""
    aux_coefficient: float = Field(1.0, ge=0)
    """Weight of the TopK family's loss that revives dead features."""
    dead_tokens: int = Field(200_000, gt=0)
    """A feature that was not active on so many tokens in a row is dead."""
    decoder_init_norm: float = Field(0.1, gt=0)
    """Norm of the decoder's rows at the start; at 1 fewer features of the TopK family die than at .1, SAELens' value."""
    fast: bool = True
    """bfloat16 products where the hardware has them; false for float32 throughout."""
    controls: tuple[Literal["frozen-decoder", "soft-frozen-decoder", "frozen-encoder"], ...] = ()
    """Controls that are trained beside it, on the same activations, one for each seed: dictionaries of which one random part does not learn."""
    random_rows: Literal["isotropic", "covariance"] = "isotropic"
    """How a control's random part is drawn: `isotropic`, or with the `covariance` of the training tokens, then normalised."""
    cosine: float = Field(0.8, ge=0, le=1)
    """Of soft-frozen-decoder: the least cosine of a decoder row with its start."""

    @property
    def control_names(self) -> dict[str, dict[str, int]]:
        """By control: name within the task and seed of each dictionary, ``name@control``, of another seed than the first ``name@control@seed``."""
        return {
            control: {f"{self.name}@{control}{f'@{seed}' if place else ''}": seed for place, seed in enumerate(self.seeds)}
            for control in self.controls
        }

    @property
    def all_names(self) -> dict[str, tuple[int, str, int | None]]:
        """Name within the task of every dictionary that is trained, with its seed, its control and its snapshot; controls come last.

        Of a dictionary that is no control it is ``none``; of a whole training the snapshot is None.
        """
        wholes = zip((*self.snapshots, None), self.members.values(), strict=True)
        found: dict[str, tuple[int, str, int | None]] = {name: (seed, "none", tokens) for tokens, names in wholes for name, seed in names.items()}
        return found | {name: (seed, control, None) for control, names in self.control_names.items() for name, seed in names.items()}

    @property
    def seed_names(self) -> dict[str, int]:
        """Name within the task and seed of each dictionary: the first is called as the table, another ``name@seed``."""
        return self.members[self.name]

    @property
    def members(self) -> dict[str, dict[str, int]]:
        """By name within the task of each snapshot and, last, of the whole training: its dictionaries by name, with their seeds."""
        names = [*(f"{self.name}~{tokens}" for tokens in self.snapshots), self.name]
        return {name: {name if place == 0 else f"{name}@{seed}": seed for place, seed in enumerate(self.seeds)} for name in names}

    @property
    def settings(self) -> dict[str, Any]:
        """Return the keys that :class:`harness.sae.training.config.TrainConfig` has, with their values; the seed is not among them."""
        return self.model_dump(exclude={"name", "layer", "texts", "max_tokens", "tokens", "snapshots", "seeds", "controls"})

    @model_validator(mode="after")
    def _fits_together(self) -> TrainTable:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds of {self.name!r} must be one or more whole numbers from 0 up, none twice, got {list(self.seeds)}")
        if list(self.snapshots) != sorted(set(self.snapshots)) or (self.snapshots and self.snapshots[0] < 1):
            raise ValueError(f"snapshots of {self.name!r} must be numbers of tokens, ascending, got {list(self.snapshots)}")
        if self.k >= self.width:
            raise ValueError(f"k of {self.name!r} must be below its width {self.width}, got {self.k}")
        if self.warm_up + self.decay > 1:
            raise ValueError(f"warm_up and decay of {self.name!r} may not exceed 1 together, got {self.warm_up:g} and {self.decay:g}")
        if len(set(self.controls)) != len(self.controls):
            raise ValueError(f"controls of {self.name!r} names one twice: {', '.join(self.controls)}")
        if self.tokens is not None and self.texts != "train":
            raise ValueError(f"{self.name!r} is trained on {self.tokens}, so texts = {self.texts!r} means nothing; leave it out")
        return self


class EnsembleTable(Table):
    """``[[ensembles]]``: several dictionaries as one, with all their features: the mean of them, or each trained on what those before left over."""

    name: Name = Field(pattern=r"^[^/@]+$")
    """Its name within the task, without `/` and `@`."""
    kind: Literal["bagging", "boosting"]
    """`bagging`: the mean of the members' reconstructions. `boosting`: their sum, each trained on what those before it left over."""
    members: tuple[str, ...] = ()
    """Of bagging: names of the task's dictionaries."""
    of: str | None = None
    """A `[[train]]` table. Bagging: its seeds are the members. Boosting: the recipe of each member, the table's dictionary being the first."""
    n: int | None = Field(None, ge=2)
    """Of boosting: how many members; their seeds count up from the table's first."""

    @model_validator(mode="after")
    def _fits_together(self) -> EnsembleTable:
        if (self.of is None) == (not self.members):
            raise ValueError(f"ensemble {self.name!r} has either members or `of`, a [[train]] table")
        if self.kind == "boosting" and (self.of is None or self.n is None):
            raise ValueError(f"boosting {self.name!r} needs `of`, a [[train]] table, and `n`, how many members are trained")
        if self.kind == "bagging" and self.n is not None:
            raise ValueError(f"n of {self.name!r} is of boosting; bagging has the members that are listed, or all seeds of its table")
        if self.members and (len(self.members) < 2 or len(set(self.members)) < len(self.members)):
            raise ValueError(f"members of {self.name!r} must be two or more, none twice, got {', '.join(self.members)}")
        return self


class MetricTable(Table):
    """``[[metrics]]``: a metric of dictionaries that `harness eval --task` runs when no plugin is named."""

    metric: str
    """A metric: NAME, or NAME:option=value,…"""
    options: Options = Field(default_factory=dict)
    """Its options; the command line overrides them. A metric that is named on the command line has those of its first row."""
    dictionaries: tuple[str, ...] = ()
    """Names of the dictionaries that are measured, each with all its seeds; empty: all of the task."""
    controls: tuple[str, ...] | None = None
    """Controls that are measured beside them; left out, `random` and all that the dictionary's `[[train]]` table trains; empty: none."""
    control_seeds: int = Field(3, ge=1)
    """Draws of each control that is not trained, from seed 0 up; one that is trained has the seeds of its table."""
    seeds: int = Field(1, ge=1)
    """Measurements of each dictionary, by the metric's own seeds from the run's seed up."""

    @property
    def request(self) -> PluginRequest:
        """The metric with its options."""
        return request_in(self.metric, self.options, "metric")

    @model_validator(mode="after")
    def _names_a_metric(self) -> MetricTable:
        _ = self.request  # raises for text that names none
        return self
