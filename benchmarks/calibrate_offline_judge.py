"""Fits the offline judge's forests, writes them as numbers, and says how the fit does on other concepts and instructions.

    python benchmarks/calibrate_offline_judge.py [--data ../shared/data] [--write]

Reads what ``offline_judge_data.py`` names. The figures are cross-validated: no concept, no instruction and no text of the rows that are
predicted is in the fit. ``--write`` puts the forests of all rows into the plugin; the self-test and the fresh texts are never read here
(``report_offline_judge.py`` measures the shipped judge with them).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import harness_plugins.judges.offline as plugin
import numpy as np
from harness_plugins.judges.offline import OfflineJudge, OfflineOptions
from harness_plugins.judges.offline.forest import LEAF, Forest
from numpy.typing import NDArray
from offline_judge_data import NAMES, Example, fitted, held_out
from safetensors.numpy import save_file
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import cohen_kappa_score, recall_score

from harness.model.loading import load_model
from harness.types import digest

SOURCE_WEIGHTS = {"rated": 1.0, "written": 3.0, "derived": 0.5, "axbench": 0.6, "real": 0.8}
"""What a text of each source counts in a fit, and (AxBench's left out) in the choice of cut points."""
FOLDS = 4
"""Parts of the concepts, and of the instructions: each of the 16 pairs of parts is predicted by a fit that has seen neither."""
TREES, TREES_IN_FOLDS = 120, 40
LEAVES = 150
"""Leaves of a tree at most: so the forests stay below a megabyte."""
_TEXT = ("text:", "echo:", "likelihood: topic")
USED: dict[str, tuple[str, ...]] = {
    "concept": ("concept", *_TEXT),
    "instruction": ("instruction", "likelihood", "concept in instruction", *_TEXT),
    "fluency": ("likelihood", "text:", "echo:"),
}
"""Beginnings of the names of the features that each forest may use."""
STEP = 0.05
"""Step of the cut points."""
Values = NDArray[np.float64]
Known = NDArray[np.bool_]


def vectors(judge: OfflineJudge, examples: Sequence[Example], names: Sequence[str] | None = None) -> tuple[Values, list[str]]:
    """Return the features ``[n, features]`` of ``examples``, and their names."""
    found = judge.instruments().measure([(e.concept, e.instruction, e.text) for e in examples])
    names = list(names or found[0])
    return np.array([[values[name] for name in names] for values in found]), names


def truth(examples: Sequence[Example], aspect: int) -> tuple[Values, Known]:
    """Return the ratings ``[n]`` of one aspect, and which of them are known."""
    given = np.array([np.nan if e.ratings[aspect] is None else e.ratings[aspect] for e in examples], dtype=float)
    return np.nan_to_num(given), np.isfinite(given)


def weights(examples: Sequence[Example], grades: Values) -> Values:
    """Return what each row counts in a fit: by its source, and more for grades that are rare."""
    source = np.array([SOURCE_WEIGHTS[e.source] for e in examples])
    share = np.array([source[grades == grade].sum() / source.sum() for grade in (0, 1, 2)])
    return source / np.sqrt(share[grades.astype(int)])


def used(aspect: int, names: Sequence[str]) -> list[int]:
    """Return the columns that the forest of an aspect may use."""
    unused = "likelihood: topic" if NAMES[aspect] == "fluency" else None
    return [i for i, name in enumerate(names) if name.startswith(USED[NAMES[aspect]]) and name != unused]


def grow(rows: Values, grades: Values, weight: Values, trees: int) -> ExtraTreesRegressor:
    forest = ExtraTreesRegressor(trees, min_samples_leaf=2, max_features=0.5, max_leaf_nodes=LEAVES, random_state=0)
    return forest.fit(rows.astype(np.float32), grades, sample_weight=weight)


def splits(examples: Sequence[Example]) -> Iterator[tuple[Known, Known]]:
    """Yield (fit, predicted) for each pair of parts of concepts and instructions."""

    def parts(names: Sequence[str]) -> NDArray[np.int64]:
        return np.array([int(digest(name.strip().casefold(), 8), 16) % FOLDS for name in names])

    concept, instruction = parts([e.concept for e in examples]), parts([e.instruction for e in examples])
    origins = np.array([e.origin for e in examples])
    for i in range(FOLDS):
        for j in range(FOLDS):
            test = (concept == i) & (instruction == j)
            own = set(origins[test]) - {""}
            fit = (concept != i) & (instruction != j) & ~np.isin(origins, list(own))
            yield fit, test


def cross_validated(examples: Sequence[Example], rows: Values, aspect: int) -> Values:
    """Return the expected ratings ``[n]`` where a rating is known, else NaN, each by a fit of other concepts and instructions."""
    grades, known = truth(examples, aspect)
    found = np.full(len(examples), np.nan)
    for fit, test in splits(examples):
        fit, test = fit & known, test & known
        if test.any():
            chosen = [e for e, yes in zip(examples, fit, strict=True) if yes]
            forest = grow(rows[fit], grades[fit], weights(chosen, grades[fit]), TREES_IN_FOLDS)
            found[test] = forest.predict(rows[test].astype(np.float32))
    return found


def graded(values: Values, cuts: tuple[float, float]) -> NDArray[np.int64]:
    return (values >= cuts[0]).astype(np.int64) + (values >= cuts[1])


def kappa(grades: Values, given: Values | NDArray[np.int64], weight: Values | None = None) -> float:
    return float(cohen_kappa_score(grades.astype(int), given.astype(int), labels=[0, 1, 2], weights="quadratic", sample_weight=weight))


def best_cuts(values: Values, grades: Values, weight: Values) -> tuple[float, float]:
    """Return the middle of all pairs of cut points whose (kappa + mean recall of the grades) is within .01 of the best."""
    grid = np.arange(0.2, 1.9, STEP)
    pairs = np.array([(low, high) for low in grid for high in grid if high > low + STEP / 2])
    scores = np.array([_worth(grades, graded(values, (low, high)), weight) for low, high in pairs])
    low, high = pairs[scores >= scores.max() - 0.01].mean(axis=0).round(2).tolist()
    return low, high


def _worth(grades: Values, given: NDArray[np.int64], weight: Values) -> float:
    recall = recall_score(grades.astype(int), given, labels=[0, 1, 2], average="macro", zero_division=0, sample_weight=weight)
    return kappa(grades, given, weight) + float(recall)


def table(examples: Sequence[Example], values: Values, aspect: int, cuts: tuple[float, float]) -> None:
    """Print accuracy, kappa and confusion, by source."""
    grades, known = truth(examples, aspect)
    sources = np.array([e.source for e in examples])
    for source in (*SOURCE_WEIGHTS, "real held out"):
        chosen = known & (sources == source) & np.isfinite(values)
        if not chosen.any():
            continue
        given = graded(values[chosen], cuts)
        confusion = [[int(np.sum((grades[chosen] == t) & (given == g))) for g in range(3)] for t in range(3)]
        same = np.mean(grades[chosen] == given)
        print(f"  {NAMES[aspect]:<12} {source:<14} same {same:.2f}  kappa {kappa(grades[chosen], given):.2f}  {confusion}")


def at_most(value: float) -> np.float32:
    """Return the largest float32 up to ``value``: features are float32, so it parts them as ``value`` does."""
    near = np.float32(value)
    return near if near <= value else np.nextafter(near, np.float32(-np.inf))


def as_numbers(forest: ExtraTreesRegressor, columns: Sequence[int] | None = None) -> Forest:
    """Return a fitted forest as the plugin reads it: depth first, so that a node's left child follows at once.

    Args:
        forest: fitted to float32.
        columns: the places of its features among all features; None if it was fitted to all.
    """
    feature: list[int] = []
    threshold: list[float] = []
    right: list[int] = []
    roots = []
    for tree in forest.estimators_:
        nodes = tree.tree_
        roots.append(len(feature))
        place: dict[int, int] = {}
        stack, order = [0], []
        while stack:
            node = stack.pop()
            place[node] = len(order)
            order.append(node)
            if nodes.children_left[node] != -1:
                stack += [nodes.children_right[node], nodes.children_left[node]]
        for node in order:
            leaf = nodes.children_left[node] == -1
            column = int(nodes.feature[node])
            feature.append(LEAF if leaf else column if columns is None else columns[column])
            threshold.append(float(nodes.value[node][0][0] if leaf else at_most(nodes.threshold[node])))
            right.append(0 if leaf else place[nodes.children_right[node]] - place[node])
    return Forest(np.array(feature, np.int16), np.array(threshold, np.float32), np.array(right, np.uint16), np.array(roots, np.int32))


def fit_all(examples: Sequence[Example], rows: Values, names: Sequence[str]) -> dict[str, Forest]:
    """Return a forest of each aspect, fitted to all rows."""
    forests = {}
    for aspect, name in enumerate(NAMES):
        grades, known = truth(examples, aspect)
        chosen = [e for e, yes in zip(examples, known, strict=True) if yes]
        columns = used(aspect, names)
        forests[name] = as_numbers(grow(rows[known][:, columns], grades[known], weights(chosen, grades[known]), TREES), columns)
    return forests


def write(forests: dict[str, Forest], names: Sequence[str]) -> Path:
    """Write the forests into the plugin's folder."""
    path = Path(plugin.__file__).with_name("forests.safetensors")
    arrays = {key: value for name, forest in forests.items() for key, value in forest.arrays(name).items()}
    save_file(arrays, str(path), metadata={"features": "\n".join(names)})
    return path


GROUPS: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "without likelihoods": lambda name: not name.startswith("likelihood"),
    "without words": lambda name: not name.startswith(("text", "concept words", "instruction words", "echo")),
    "without embeddings": lambda name: not name.startswith(("concept:", "instruction:", "concept in instruction")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder that holds axbench and judge_completions")
    parser.add_argument("--write", action="store_true", help="put the forests into the plugin")
    parser.add_argument("--compare", action="store_true", help="leave groups of features out")
    arguments = parser.parse_args()
    judge = OfflineJudge(OfflineOptions())
    judge.prepare(SimpleNamespace(model=load_model("smollm2-135m-instruct")))  # type: ignore[arg-type]
    examples, others = fitted(arguments.data), held_out(arguments.data)
    rows, names = vectors(judge, examples)
    study(examples, rows, names, compare=arguments.compare)
    forests = fit_all(examples, rows, names)
    if arguments.write:
        path = write(forests, names)
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {sum(len(forest.feature) for forest in forests.values())} nodes")
    elsewhere, _ = vectors(judge, others, names)
    print("real ratings of features and instructions that no fit has seen, with the judge's own cut points")
    for aspect, name in enumerate(NAMES[1:], 1):
        options = judge.options
        cuts = getattr(options, f"{name}_partial"), getattr(options, f"{name}_full")
        table(others, forests[name].predict(elsewhere), aspect, cuts)


def study(examples: Sequence[Example], rows: Values, names: Sequence[str], *, compare: bool) -> None:
    """Print the cross-validated figures, and the cut points that they give."""
    for title, chosen in GROUPS.items() if compare else list(GROUPS.items())[:1]:
        print(f"features: {title}; cross-validated; the rows of a table are the ratings 0, 1, 2")
        for aspect, name in enumerate(NAMES):
            columns = [i for i in used(aspect, names) if chosen(names[i])]
            values = cross_validated(examples, rows[:, columns], aspect)
            grades, known = truth(examples, aspect)
            sure = known & np.array([e.source != "axbench" for e in examples])
            weight = np.array([SOURCE_WEIGHTS[e.source] for e in examples])
            cuts = best_cuts(values[sure], grades[sure], weight[sure])
            print(f"  {name}: cut points {cuts[0]:.2f}, {cuts[1]:.2f}")
            table(examples, values, aspect, cuts)


if __name__ == "__main__":
    main()
