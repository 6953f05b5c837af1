"""What the sparse-probing metric can be told, and what it takes where it is told nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.options import Options, input_field

Number = Literal["auroc", "accuracy"]


class SparseProbingOptions(Options):
    """Options of ``sparse-probing``."""

    protocol: Literal["sae-probes", "saebench"] = "sae-probes"
    """``sae-probes``: the last token of a text, latents scaled by their mean magnitude before they are compared, C by validation, AUROC.
    ``saebench``: activations averaged over a text's tokens, plain differences of means, C = 1, accuracy."""
    data: Literal["sae-probes", "saebench", "corpus"] = "sae-probes"
    """``sae-probes``: the data sets in that package's wheel, which pip fetches once; ``saebench``: SAEBench's by their names on the hub;
    ``corpus``: each label of a corpus against the rest."""
    source: str | None = input_field(None)
    """For ``sae-probes`` a wheel, or a folder of its form; for ``corpus`` a labelled file or dataset that `harness data stats` reads. Without it:
    the wheel is found or fetched, the corpus is the task's own."""
    sets: tuple[str, ...] = ()
    """Names or globs of data sets (or labels); none for all. The number in front of a name may be left out."""
    shortest: int | None = Field(None, ge=1)
    """Of these, so many with the shortest texts (``data=sae-probes``)."""
    k: int = Field(1, ge=1)
    """The number of latents behind the value; the other numbers stand beside it."""
    ks: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 5, 20)
    """Numbers of latents; ``k`` is among them."""
    setting: Literal["normal", "scarcity", "imbalance", "ood"] = "normal"
    """``scarcity``: few training rows, several numbers of them; ``imbalance``: several shares of positives; ``ood``: tried on texts of another
    distribution. A data set's number is the mean over them."""
    sizes: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Numbers of training rows under ``scarcity``; none for those of sae-probes, 2 to 1,024."""
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Shares of positives under ``imbalance``; none for those of sae-probes, .05 to .95."""
    train_rows: int | None = Field(None, ge=2)
    """Training rows, half of them positive; by default the protocol's, 1,024 or 4,000. A smaller data set is divided in the same proportion."""
    test_rows: int | None = Field(None, ge=2)
    """Rows that the probes are tried on; by default all that are left (``sae-probes``), or 1,000."""
    max_rows: int | None = Field(1500, ge=4)
    """Only the first so many rows of a data set of sae-probes are drawn from; it is ``None`` for all."""
    max_tokens: int | None = Field(None, ge=1)
    """Tokens of a text, at most; by default the protocol's: the last 1,024, or the first 128."""
    penalty: Literal["l1", "l2"] = "l2"
    """Of the regression."""
    number: Number | None = None
    """What the value is; by default what the protocol publishes: AUROC (``sae-probes``) or accuracy (``saebench``)."""

    @model_validator(mode="after")
    def _fit_together(self) -> SparseProbingOptions:
        if self.k not in self.ks:
            raise ValueError(f"k is {self.k}, which is not among ks ({', '.join(map(str, self.ks))})")
        if len(set(self.ks)) != len(self.ks):
            raise ValueError("a number occurs twice in ks")
        if self.source is not None and self.data == "saebench":
            raise ValueError("source goes with data=sae-probes or data=corpus")
        for name, only in (("shortest", self.shortest is not None), ("setting=ood", self.setting == "ood")):
            if only and self.data != "sae-probes":
                raise ValueError(f"{name} goes with data=sae-probes")
        return self

    @property
    def value(self) -> Number:
        """Return which number is the value."""
        return self.number or ("auroc" if self.protocol == "sae-probes" else "accuracy")

    @property
    def limit(self) -> int:
        """Return tokens of a text, at most."""
        return self.max_tokens or (1024 if self.protocol == "sae-probes" else 128)
