"""SAELens' registry: names of dictionaries, where they lie on the hub, and loading one through our own door to the hub."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from harness.errors import DictionaryError
from harness.files.progress import Progress
from harness.hub.download import raw_file
from harness.hub.errors import explained
from harness.hub.session import replaced
from harness.hub.source import Source, commit_in
from harness.sae.checks import NOT_A_DICTIONARY
from harness.sae.formats.contents import line

_LOADERS = {"transcoder": NOT_A_DICTIONARY["transcoder"], "temporal": NOT_A_DICTIONARY["temporal"], "hook_z": "it reads attention heads"}
_OURS = ("gemma_2", "gemma_3")
INSTEAD = "give a folder on this machine"


def from_registry(name: str, device: str, dtype: torch.dtype, revision: str | None, progress: Progress | None) -> tuple[Any, str]:
    """Return SAELens' SAE of a registered name, and the commit of the hub's repository that it came from, loaded by SAELens' own loader.

    Raises:
        DictionaryError: no such name, the hub cannot give it, or SAELens cannot load it.
    """
    from sae_lens import SAE

    release, sae_id = registry_key(name, registry())
    source, _ = source_of(name, revision)
    downloads = _Downloads(source, progress)
    try:
        with warnings.catch_warnings(), downloads.in_place():
            warnings.simplefilter("ignore")
            sae = SAE.from_pretrained_with_cfg_and_sparsity(release, sae_id, device=device, dtype=str(dtype).removeprefix("torch."))[0]
    except Exception as error:  # the hub's client and the loaders of a dozen formats each raise their own
        if downloads.failed is not None and _led_to(error, downloads.failed):
            raise explained(downloads.failed, source, downloads.file) from error
        message = f"cannot load {name} from SAELens' registry: {type(error).__name__}: {line(error)}"
        raise DictionaryError(message, given=name, hint=f"fetch it again, or {INSTEAD}") from error
    return sae, downloads.commit


def source_of(name: str, revision: str | None = None) -> tuple[Source, str]:
    """Return the repository of a registered name, and the folder or file in it. Raises DictionaryError as :func:`check_registered` does."""
    release, sae_id = registry_key(name, registry())
    return Source(_releases()[release]["repo_id"], "dictionary", name, revision, error=DictionaryError, instead=INSTEAD), registry()[release][sae_id]


def as_published(name: str) -> bool:
    """Return whether a registered dictionary lies on the hub in a format that we read ourselves, by the shapes of its own tensors."""
    entry = _releases()[registry_key(name, registry())[0]]
    return entry.get("conversion_func") in _OURS and not entry.get("config_overrides")


def neuronpedia_name(name: str) -> str | None:
    """Return what Neuronpedia calls a registered dictionary (``gemma-2-2b/20-gemmascope-res-16k``); None where the registry does not say."""
    release, sae_id = registry_key(name, registry())
    return next((sae.get("neuronpedia") for sae in _releases()[release]["saes"] if sae["id"] == sae_id), None)


def registry() -> Mapping[str, Mapping[str, str]]:
    """Return SAELens' registry: of each release, its SAEs and where they lie in its repository."""
    return {release: {sae["id"]: str(sae["path"]) for sae in entry["saes"]} for release, entry in _releases().items()}


@cache
def _releases() -> dict[str, dict[str, Any]]:
    """Return the registry as SAELens ships it. Its file is read without the package, whose import takes many seconds."""
    import yaml

    package = importlib.util.find_spec("sae_lens")
    folder = Path(next(iter(package.submodule_search_locations or ()))) if package is not None else Path()
    with (folder / "pretrained_saes.yaml").open(encoding="utf-8") as file:
        found = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {release: entry for release, entry in found.items() if isinstance(entry, dict) and "saes" in entry}


def check_registered(name: str) -> None:
    """Check that SAELens' registry has a dictionary of this name (``release/sae_id`` or ``release:id``); nothing is downloaded.

    Raises:
        DictionaryError: no such release, or no such SAE in it (names the nearest); a release of transcoders, temporal SAEs or heads.
    """
    from harness.sae.on_the_hub import is_repository

    if is_repository(name):
        return
    release, _ = registry_key(name, registry())
    loader = _releases()[release].get("conversion_func") or ""
    why = next((reason for part, reason in _LOADERS.items() if part in loader), "")
    if why:
        raise DictionaryError(f"release {release} cannot be used: {why}", given=release, hint="give a release of residual-stream SAEs")


def registry_key(name: str, registry: Mapping[str, Mapping[str, str]]) -> tuple[str, str]:
    """Return (release, sae_id) of a name. Raises DictionaryError where the registry does not have it."""
    release, colon, sae_id = name.partition(":")
    if not colon:
        release, _, sae_id = name.partition("/")
    if release in registry:
        ids = registry[release]
        if sae_id in ids:
            return release, sae_id
        near = difflib.get_close_matches(sae_id, ids, n=3, cutoff=0.3) or list(ids)[:3]
        message = f"release {release} has no SAE {sae_id!r}" if sae_id else f"no SAE of release {release} was named"
        hint = f"near: {', '.join(f'{release}/{key}' for key in near)}"
        raise DictionaryError(message, given=name, allowed=f"release/sae_id with one of its {len(ids)} SAEs", hint=hint)
    near = difflib.get_close_matches(release, registry, n=3, cutoff=0.4)
    message = f"no dictionary {name!r}: it is neither a folder nor a release of SAELens' registry"
    hint = f"near releases: {', '.join(near)}" if near else ""
    allowed = f"a folder, release/sae_id of one of {len(registry)} releases, or owner/repo:folder"
    raise DictionaryError(message, given=name, allowed=allowed, hint=hint)


# ------------------------------------------------------------------------------------------------------------------------------- inside


class _Downloads:
    """Stands in for the functions by which SAELens' loaders ask the hub, so that a revision, progress and errors are ours.

    Attributes:
        commit: of the repository, once something came from it.
        failed: what the last request that failed raised; a loader may go on after it.
        file: what was asked for then.
    """

    def __init__(self, source: Source, progress: Progress | None) -> None:
        self._source, self._progress = source, progress
        self.commit, self.file = "", ""
        self.failed: Exception | None = None

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the context SAELens' loaders fetch through us."""
        loaders = importlib.import_module("sae_lens.loading.pretrained_sae_loaders")
        with replaced(loaders, hf_hub_download=self.download, get_safetensors_tensor_shapes=self.shapes):
            yield

    def download(self, repo_id: str, filename: str, *_: Any, subfolder: str | None = None, revision: str | None = None, **__: Any) -> str:
        """Return where a file lies. Raises as ``huggingface_hub.hf_hub_download``, since loaders try names that may not be there."""
        own = repo_id == self._source.repo
        source = self._source if own else Source(repo_id, self._source.what, self._source.given, error=DictionaryError, instead=INSTEAD)
        if source.revision is None and revision is not None:
            source = source.at(revision)
        self.file = f"{subfolder}/{filename}" if subfolder else filename
        try:
            path = raw_file(source, self.file, self._progress)
        except Exception as error:
            self.failed = error
            raise
        if own:
            self.commit = commit_in(path) or self.commit
        return str(path)

    def shapes(self, repo_id: str, filename: str) -> dict[str, list[int]]:
        """Return shapes of the tensors of a file; it is needed as a whole anyway."""
        from safetensors import safe_open

        with safe_open(self.download(repo_id, filename), framework="pt") as file:
            return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _led_to(error: BaseException | None, cause: BaseException) -> bool:
    while error is not None:
        if error is cause:
            return True
        error = error.__cause__ or error.__context__
    return False
