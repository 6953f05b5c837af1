"""The shipped steerers: what a strength means in either unit, several features at once, and what cannot be steered."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.steerers.none import NoneOptions, Unsteered
from harness_plugins.steerers.prompt import Prompt, PromptOptions
from harness_plugins.steerers.random_direction import RandomDirection, RandomDirectionOptions
from harness_plugins.steerers.sae_add import Add, AddOptions
from harness_plugins.steerers.sae_clamp import AXBENCH_CLAMP_GRID, Clamp, ClampOptions

from harness.errors import OptionError
from harness.interventions import Intervention, Positions, Site
from harness.options import build
from harness.steering.scales import AXBENCH_GRID, NORM_GRID
from harness.types import Concept, FeatureRef, Labeling

MEAN_NORM = 12.0
POSITIONS = Positions(prompt=True, generated=True, first_token=False)


@pytest.fixture
def bench(make_bench: Callable[..., Any]) -> Any:
    """Five texts; ``maxima`` of features 0 and 1 are their counts: 8 and 4 at most. Feature 2 never fires."""
    counts = np.array([[1, 4, 0], [2, 0, 0], [8, 3, 0], [0, 0, 0], [4, 1, 0]])
    means = np.zeros((5, 64))
    means[:, 0] = [1, 0, 1, 0, 0]
    means[:, 1] = [0, 2, 0, 2, 2]
    tokens = np.array([10, 10, 30, 10, 10])
    labels = [["a"], [], ["a"], [], []]
    return make_bench(counts, tokens, labels, means=means, mean_norm=MEAN_NORM, positions=POSITIONS)


def labeling(*features: int, label: str | None = "a") -> Labeling:
    return Labeling(Concept("a", "about a", label), tuple(FeatureRef("sae", feature) for feature in features))


def prepared(steerer: Any, bench: Any, *labelings: Labeling) -> Any:
    steerer.prepare(bench, labelings)
    return steerer


# ------------------------------------------------------------------------------------------------------------------- what a strength is


@pytest.mark.parametrize(
    ("quantile", "expected"),
    [(1.0, 8.0), (0.5, 3.0), (1 / 3, 2.0)],  # of 1, 2, 4, 8: the texts in which feature 0 fires
)
def test_max_activation_is_the_largest_or_a_quantile_of_the_largest(bench: Any, quantile: float, expected: float) -> None:
    one = labeling(0)
    clamp = prepared(Clamp(ClampOptions(quantile=quantile)), bench, one)
    assert clamp.intervene(one, 0.5).edits[0].targets == pytest.approx((0.5 * expected,))
    add = prepared(Add(AddOptions(quantile=quantile)), bench, one)
    row = bench.dictionaries["sae"].decoder_row(0)
    torch.testing.assert_close(add.intervene(one, 0.5).edits[0].vector, 0.5 * expected * row)


@pytest.mark.parametrize("features", [(0,), (0, 1), (2,)])
def test_residual_norm_is_the_length_of_the_edit(bench: Any, features: tuple[int, ...]) -> None:
    found = labeling(*features)
    dictionary = bench.dictionaries["sae"]
    clamp = prepared(Clamp(ClampOptions(unit="residual-norm")), bench, found)
    targets = clamp.intervene(found, 0.25).edits[0].targets
    lengths = [target * float(dictionary.decoder_row(j).norm()) for target, j in zip(targets, features, strict=True)]
    assert lengths == pytest.approx([0.25 * MEAN_NORM / len(features)] * len(features))
    add = prepared(Add(AddOptions(unit="residual-norm")), bench, found)
    vector = add.intervene(found, 0.25).edits[0].vector
    torch.testing.assert_close(vector, sum(t * dictionary.decoder_row(j) for t, j in zip(targets, features, strict=True)))
    if len(features) == 1:
        assert float(vector.norm()) == pytest.approx(0.25 * MEAN_NORM, rel=1e-5)


@pytest.mark.parametrize("options", [{"unit": "residual-norm"}, {"unit": "max-activation", "quantile": 0.5}])
@pytest.mark.parametrize("features", [(0,), (0, 1)])
def test_a_random_direction_is_as_long_as_what_is_added_and_points_elsewhere(bench: Any, features: tuple[int, ...], options: dict[str, Any]) -> None:
    found = labeling(*features)
    added = prepared(Add(AddOptions(**options)), bench, found).intervene(found, 0.3).edits[0].vector
    steerer = prepared(RandomDirection(RandomDirectionOptions(**options)), bench, found)
    drawn, stronger = (steerer.intervene(found, strength).edits[0].vector for strength in (0.3, 0.6))
    assert float(drawn.norm()) == pytest.approx(float(added.norm()), rel=1e-5)
    torch.testing.assert_close(stronger, 2 * drawn)  # one direction at all strengths
    assert abs(float(torch.nn.functional.cosine_similarity(drawn, added, dim=0))) < 0.5
    other = Labeling(Concept("b", "about b", "b"), found.features)
    assert not torch.allclose(prepared(steerer, bench, other).intervene(other, 0.3).edits[0].vector, drawn)


def test_several_features_are_one_edit_of_one_dictionary(bench: Any) -> None:
    two = labeling(0, 1)
    edit = prepared(Clamp(ClampOptions()), bench, two).intervene(two, 2.0).edits[0]
    assert (edit.features, edit.targets) == ((0, 1), (16.0, 8.0))
    assert (edit.sites, edit.positions) == ((Site(2),), POSITIONS)
    added = prepared(Add(AddOptions()), bench, two).intervene(two, 2.0).edits
    assert len(added) == 1
    assert (added[0].sites, added[0].positions) == ((Site(2),), POSITIONS)


def test_units_and_grids_go_together() -> None:
    for steerer, options, grid in ((Clamp, ClampOptions, AXBENCH_CLAMP_GRID), (Add, AddOptions, AXBENCH_GRID)):
        assert (steerer(options()).traits.unit, steerer(options()).traits.grid) == ("max-activation", grid)
        by_norm = steerer(options(unit="residual-norm"))
        assert (by_norm.traits.unit, by_norm.traits.grid) == ("residual-norm", NORM_GRID)
    assert Clamp(ClampOptions()).traits.neutral is None  # a clamp to 0 ablates the feature
    assert Add(AddOptions()).traits.neutral == 0.0


@pytest.mark.parametrize("steerer", [Clamp(ClampOptions()), Add(AddOptions())], ids=["clamp", "add"])
def test_a_feature_that_never_fires_has_no_maximum_to_multiply(bench: Any, steerer: Any) -> None:
    dead = labeling(0, 2)
    with pytest.raises(OptionError) as error:
        prepared(steerer, bench, dead).intervene(dead, 1.0)
    assert error.value.given == FeatureRef("sae", 2)
    assert "-S unit=residual-norm" in error.value.hint


def test_a_decoder_row_without_length_moves_nothing(bench: Any) -> None:
    dictionary = copy.deepcopy(bench.dictionaries["sae"])
    dictionary.sae.W_dec.data[1] = 0
    bench.dictionaries = {"sae": dictionary}
    flat = labeling(1)
    with pytest.raises(OptionError) as error:
        prepared(Clamp(ClampOptions(unit="residual-norm")), bench, flat).intervene(flat, 1.0)
    assert error.value.given == FeatureRef("sae", 1)
    assert error.value.hint


@pytest.mark.parametrize("value", ["0", "1.5", "-1", "x"])
def test_a_quantile_is_a_share(value: str) -> None:
    with pytest.raises(OptionError) as error:
        build(ClampOptions, {"quantile": value}, "steerer sae-clamp")
    assert all(part in str(error.value) for part in ("steerer sae-clamp", "quantile", value, "> 0, ≤ 1"))


# -------------------------------------------------------------------------------------------------------------------------- the others


def test_prompt_puts_the_concept_into_its_template(bench: Any) -> None:
    steerer = prepared(Prompt(PromptOptions(template="Speak of {concept}. {braces}")), bench, labeling())
    assert steerer.intervene(labeling(), 1.0) == Intervention(prompt_prefix="Speak of about a. {braces}")
    with pytest.raises(OptionError) as error:
        build(PromptOptions, {"template": "Speak."}, "steerer prompt")
    assert all(part in str(error.value) for part in ("steerer prompt", "template", "{concept}"))


def test_none_does_nothing(bench: Any) -> None:
    assert prepared(Unsteered(NoneOptions()), bench, labeling()).intervene(labeling(), 0.0) == Intervention()
