"""The contract kit: what authors of plugins run against their plugin, in their own tests.

    from harness.testing import check_labeler, check_plugin, toy_bench

    def test_my_plugin(tmp_path):
        check_plugin(my_package.plugin, toy_bench(tmp_path))

    def test_my_labeler_with_other_options(tmp_path):
        check_labeler(lambda: MyLabeler(MyOptions(pool=3)), toy_bench(tmp_path))

Each check raises :class:`ContractError`, an AssertionError, with the name of what is broken and one sentence that says how, and otherwise
gives back what it found, for tests of your own. :func:`toy_bench` needs no download: a tiny model with random weights, a dictionary of it, and
a labelled corpus, all made on the spot.
"""

from __future__ import annotations

from harness.testing.detectors import check_detector
from harness.testing.engines import check_engine
from harness.testing.judges import check_judge
from harness.testing.labelers import check_labeler
from harness.testing.metrics import check_metric
from harness.testing.options import check_options
from harness.testing.plugins import check_plugin
from harness.testing.require import CHECKS, ContractError
from harness.testing.steerers import check_steerer
from harness.testing.toy import toy_bench, toy_task

__all__ = [
    "CHECKS", "ContractError", "check_detector", "check_engine", "check_judge", "check_labeler", "check_metric", "check_options", "check_plugin",
    "check_steerer", "toy_bench", "toy_task",
]  # fmt: skip
