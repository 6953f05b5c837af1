"""``harness doctor``: what is installed and at hand, for a person to read or to send along with a question."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys

import click

from harness.cli.common import echo, json_option, load_host, print_json

PACKAGES = ("torch", "transformers", "sae-lens", "nnsight", "numpy", "scipy", "openai", "anthropic", "rich", "pluggy", "pydantic")
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "NEURONPEDIA_API_KEY", "NDIF_API_KEY", "HF_TOKEN")


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Show versions, device, caches, plugins, and which keys are set (never their values)."""
    from harness.files.cache_dir import cache_root
    from harness.files.version import own_version
    from harness.model.devices import choose_device, choose_dtype
    from harness.model.embedded import describe
    from harness.run.retiring import described_retirement

    host = load_host()
    device = choose_device(None)
    root = cache_root()
    free = next((shutil.disk_usage(path).free for path in (root, *root.parents) if path.exists()), 0)
    found = ((judge.name, described_retirement(judge)) for judge in host.all("judge").values())
    retiring = [f"{name}: {line}" for name, line in found if line]
    report = {
        "harness": own_version(),
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": str(device),
        "dtype": str(choose_dtype(None, device)).removeprefix("torch."),
        "cache": {"folder": str(root), "writable": _writable(root), "free_gb": round(free / 1e9, 1)},
        "models": {row.name: "cached" if row.cached else "not fetched yet" for row in describe()},
        "plugins": sum(len(host.all(kind)) for kind in ("labeler", "steerer", "judge")),
        "broken plugins": [f"{broken.entry_point}: {broken.reason}" for broken in host.broken],
        "judges that are shut down": retiring or ["none known"],
        "keys": {key: "set" if os.environ.get(key) else "not set" for key in KEYS},
    }
    if as_json:
        print_json(report)
        return
    for name, value in report.items():
        if isinstance(value, dict):
            echo(f"{name}:")
            for key, item in value.items():
                echo(f"  {key}: {item}")
        elif isinstance(value, list):
            echo(f"{name}: {'; '.join(value) or 'none'}")
        else:
            echo(f"{name}: {value}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _writable(folder: os.PathLike[str]) -> bool:
    """Return whether the folder, or the nearest parent that exists, can be written to."""
    path = os.path.abspath(folder)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return os.access(path, os.W_OK)
