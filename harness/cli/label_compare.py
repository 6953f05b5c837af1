"""``harness label compare``: which features and labels two label files agree on."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import echo, json_option, print_json, print_table

SHOWN = 20
"""Rows of a table of labels."""


@click.command("compare")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--show", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="Rows of each table.")
@json_option
def compare_command(a: Path, b: Path, show: int, as_json: bool) -> None:
    """Which features and labels two label files of one SAE agree on."""
    from harness.labelling.compare import compare
    from harness.labelling.files import read_labels

    files = read_labels(a), read_labels(b)
    found = compare(*files)
    if as_json:
        print_json(found.as_json())
        return
    counts = found.counts()
    echo(f"concepts in both: {len(found.concepts)}; in {a} alone: {len(found.only_a)}, in {b} alone: {len(found.only_b)}")
    for path, file in ((a, files[0]), (b, files[1])):
        if not file.identity:
            echo(f"warning: {path} does not say which SAE its features belong to", err=True)
    echo(
        f"of those in both, same features: {counts['same']}, some in common: {counts['overlap']}, none: {counts['different']}, "
        f"abstained from in one: {counts['abstained']}, in both: {counts['neither']}"
    )
    jaccard = "—" if found.jaccard is None else f"{found.jaccard:.3f}"
    echo(
        f"features labelled: {found.features_a} and {found.features_b}, in both {found.features_both}; (concept, feature) pairs: Jaccard {jaccard}"
    )
    if found.concepts and show:
        rows = [(p.concept, p.agreement, *(" ".join(map(str, part)) for part in (p.both, p.only_a, p.only_b))) for p in found.concepts[:show]]
        print_table("", ("concept", "agreement", "both", "first alone", "second alone"), rows)
    if found.relabelled and show:
        echo("")
        relabelled = [(str(feature), ", ".join(ours), ", ".join(theirs)) for feature, ours, theirs in found.relabelled[:show]]
        print_table("Features that carry other concepts in each file", ("feature", "first", "second"), relabelled)
