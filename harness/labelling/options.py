"""Options that labelers share: a labeler that inherits them takes the same flags as ours, and its random control the same filters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.contracts import LabelerTraits, SelectsOn
from harness.data.split import TRAIN_SHARE
from harness.options import Options, filter_field, filter_names, input_field
from harness.types import ControlKind

PROMPT = "From my experience,"
"""The neutral prompt of both causal scores (Arad et al. 2025, public code; Wang et al. 2025)."""


class FilterOptions(Options):
    """Which features may be chosen; a random control is given the same values."""

    dictionary: str | None = filter_field(None)
    """The task's dictionary whose features are labelled; none takes its first."""
    held_out: float = filter_field(0.5, ge=0, lt=1)
    """Share of the corpus that chooses nothing: scores on it are reported beside those that chose. 0 chooses on all texts, as the paper does."""
    min_cosine: float | None = filter_field(None, ge=-1, le=1)
    """Keep features whose decoder row has at least this cosine with the label's difference of means (borrowed from DiffMean, in no paper)."""
    min_output_score: float | None = filter_field(None, ge=0, le=1)
    """Keep features with at least this output score (Arad et al. 2025), computed as candidates come up; none does not filter."""
    min_confidence_change: float | None = filter_field(None, ge=0)
    """Keep features with at least this |Δ token confidence| in nats (Wang et al. 2025: k = 1, α = 10, other features zero); none does not filter."""
    filter_prompt: str = filter_field(PROMPT)
    """The neutral prompt on which output score and Δ token confidence are computed."""


class ExplanationOptions(Options):
    """Where Neuronpedia's explanations of features come from, for labelers that call features by them."""

    labels: Literal["corpus", "neuronpedia"] = "corpus"
    """Chosen mode: what chosen features are called, and judged by: labels of the corpus, or their own explanations on Neuronpedia."""
    explanations: str = input_field("bulk", words=("bulk", "api"))
    """Where explanations come from: `bulk` (the public bucket), `api` (feature by feature), or a local export (a file or folder)."""
    model_id: str | None = None
    """Neuronpedia's name of the model; none takes it from the dictionary's metadata, or from a local export of one source."""
    source_id: str | None = None
    """Neuronpedia's name of the SAE; none as for model_id."""
    base_url: str | None = None
    """Another server in place of Neuronpedia's API or bucket."""


class PairOptions(FilterOptions, ExplanationOptions):
    """Filters, how many (feature, label) pairs are kept, and what they are called."""

    min_support: int | None = Field(None, ge=1)
    """Labels with fewer positive texts are abstained from, or not chosen; none takes the task's `concepts.min_support`."""
    top_k: int = Field(100, ge=1)
    """Chosen mode: the number of (feature, label) pairs kept, best first (ours; no paper gives it)."""
    features_per_label: int = filter_field(1, ge=1)
    """Features that one label gets at most: together in fixed mode, as pairs of their own in chosen mode."""
    labels_per_feature: int = Field(1, ge=1)
    """Chosen mode: labels that one feature gets at most."""


def traits_of(options: FilterOptions, selects_on: SelectsOn | None = None, control: ControlKind | None = None) -> LabelerTraits:
    """Return the traits of a labeler with these options.

    Args:
        options: its options.
        selects_on: what it chooses by; None: the texts that ``held_out`` leaves it, which lie within the split's train part if it is large enough.
        control: as which control it may be run; None: as none.
    """
    held: SelectsOn = "train" if options.held_out >= 1 - TRAIN_SHARE else "all"
    return LabelerTraits(selects_on=selects_on or held, filters=filter_names(type(options)), control=control)
