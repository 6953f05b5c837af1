"""What reaches standard error of what libraries say: a plugin that says it, and what there is beside."""

from __future__ import annotations

NOISY = '''
"""A plugin whose libraries warn in each of the ways there are, as it is imported."""
import logging
import warnings
from harness import hookimpl

warnings.simplefilter("always")  # as some libraries do
warnings.warn("an argument goes away", FutureWarning)
warnings.warn("a module goes away", DeprecationWarning)
logging.getLogger("library.part").warning("a setting has no effect")
logging.getLogger("library.part").error("the library failed")
logging.getLogger("harness.files").warning("the cache was damaged, key %s", "sk-proj-" + "a1B2" * 12)

@hookimpl
def harness_register_judges(registry):
    pass
'''


def beside_its_errors(errors: str) -> list[str]:
    """Return what else is on standard error; asserts that the two errors come first, the key in one of them hidden."""
    first, second, *rest = errors.splitlines()
    assert first == "the library failed"
    assert second.startswith("the cache was damaged, key ")
    assert "a1B2a1B2" not in second
    return rest
