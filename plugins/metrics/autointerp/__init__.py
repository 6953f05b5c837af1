"""Automatic interpretation (as SAEBench has it): can what a latent fires on be said in a few words, and recognised by them in other texts?

Snippets in which a latent fires are explained. Then, by the explanation alone, the active ones are named among others (*detection*), or those
that are marked rightly (*fuzzing*). Who explains and names is a language model, or the *lexical* explainer: words, and no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits, Work
from harness.types import Json, Measurement, rng

from .options import LEXICAL, MODELS, AutointerpOptions
from .reading import Counts, Reading, Shown, read_latents, show
from .scored import Scored, example, truth_of, unfit, with_anothers

if TYPE_CHECKING:
    from harness.chat.cost import Estimate
    from harness.chat.values import APIModel, Usage
    from harness.contracts import Bench
    from harness.sae.subject import DictionarySubject

    from .asking import Interpreter

BETWEEN = " | "
"""Between the words of a lexical explanation."""


class Autointerp:
    """See the module. Implements :class:`harness.contracts.Metric`, and as one that may cost money.

    The value is the balanced accuracy: naming nothing gets .5, whatever the share of active snippets is. By the plain accuracy it gets that share's
    complement, which is high, and another one for each dictionary.
    """

    def __init__(self, options: AutointerpOptions) -> None:
        self.options = options
        share = (0.0, 1.0)
        self.traits = MetricTraits(
            title=f"{options.explainer} auto-interp{', fuzzing' if options.scoring == 'fuzzing' else ''}, balanced accuracy",
            unit="share",
            bounds=share,
            higher_is_better=True,
            trivial=0.5,
            needs=("model", "corpus"),
            parts={
                "accuracy": NumberTraits("accuracy", "share of snippets", share, True, None),
                "shuffled": NumberTraits("by another's explanation", "share", share, None, 0.5),
                "passed": NumberTraits("latents that fire enough", "share of latents", share, None, 0.0),
                "scored": NumberTraits("latents scored", "share of those drawn", share, True, None),
            },
            item="latent",
            items_shared=False,
        )
        self._opened: Interpreter | None = None

    # ------------------------------------------------------------------------------------------------------------ what it costs

    @property
    def api_model(self) -> APIModel | None:
        """Return the model behind an API; None for explainers on this machine."""
        from harness.chat.providers.servers import retiring_name
        from harness.chat.values import APIModel

        options = self.options
        if options.explainer not in MODELS or options.model is None:
            return None
        return APIModel(retiring_name(options.explainer, options.base_url), options.model)

    @property
    def usage(self) -> Usage:
        """Return tokens that were paid for so far; replies from the cache are not among them."""
        from harness.chat.values import Usage

        return Usage() if self._opened is None else self._opened.asker.usage

    @property
    def cost(self) -> float | None:
        """Return dollars so far; None where a price is not known."""
        return 0.0 if self._opened is None else self._opened.asker.cost

    @property
    def hits(self) -> int:
        """Return replies that came from the cache."""
        return 0 if self._opened is None else self._opened.asker.hits

    @property
    def unanswered(self) -> int:
        """Return requests that were given up unanswered, which the server may bill, too."""
        return 0 if self._opened is None else self._opened.asker.unanswered

    def estimate(self, work: Work) -> Estimate:
        """Return an upper bound of calls, tokens and dollars: as many latents as are asked for, the longest snippets, nothing in the cache.

        Nothing for explainers on this machine. Raises OptionError where the API's key is missing.
        """
        from harness.chat.cost import Estimate

        options, n = self.options, self.options.latents * work.measurements
        if options.explainer not in MODELS or not n:
            return Estimate()
        from .asking import estimate
        from .prompts import explain_request, longest, score_request
        from .snippets import ROOM

        fuzzing, (model, reply) = options.scoring == "fuzzing", self._model()
        shown, scored = longest(options.explain_top + options.explain_weighted), longest(self._n_scored, fuzzing)
        return estimate(
            self._open(0).asker.name,
            {
                "explain": (lambda ask: explain_request(model, shown, reply, ask), n),
                "score": (lambda ask: score_request(model, "x" * ROOM, scored, fuzzing, reply, ask), n * (1 + options.shuffled)),
            },
            options.asks,
        )

    # ---------------------------------------------------------------------------------------------------------------- measuring

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        from harness.measuring.passes import reading_pass
        from harness.measuring.texts import sample_texts

        options, dictionary = self.options, subject.dictionary
        texts = sample_texts(bench, options.max_tokens, seed)
        fired = reading_pass(bench, dictionary, texts).fired
        passed = np.flatnonzero(fired > options.min_activations)
        drawn = np.sort(passed[rng(seed, "autointerp-latents").permutation(len(passed))[: options.latents]])
        reading = Reading.of(bench, dictionary.layer, texts)
        fuzzing = options.scoring == "fuzzing"
        counts = Counts(
            options.explain_top, options.explain_weighted, options.score_top, options.score_weighted, options.score_random,
            options.background if options.explainer == LEXICAL else 0, options.context,
        )  # fmt: skip
        latents = read_latents(bench, dictionary, texts, drawn.tolist(), options.active_share)
        shown = {str(latent.index): show(reading, latent, counts, seed, fuzzing) for latent in bench.track(latents, "finding snippets", len(latents))}
        left_out = {name: why for name, own in shown.items() if (why := unfit(own))}
        fit = {name: own for name, own in shown.items() if name not in left_out}
        explanations, lost = self._explain(bench, fit)
        scored = self._score(bench, fit, explanations)
        beside = self._score(bench, fit, with_anothers(explanations, seed)) if options.shuffled and len(explanations) > 1 else {}
        reasons = {**left_out, **lost, **{name: one.reason for name, one in scored.items() if one.named is None}}
        return self._found(len(fired), len(passed), shown, explanations, scored, beside, reasons)

    def _found(
        self, width: int, passed: int, shown: Mapping[str, Shown], explanations: Mapping[str, str], scored: Mapping[str, Scored],
        beside: Mapping[str, Scored], reasons: Mapping[str, str],
    ) -> Measurement:  # fmt: skip
        options = self.options
        rated = {name: one for name, one in scored.items() if one.named is not None}
        null = [one.balanced for one in beside.values() if one.named is not None]
        values = {name: one.balanced for name, one in rated.items()}
        why = "" if values else self._why_none(passed, len(shown), reasons)
        n, total = len(shown), sum(values.values())
        parts = {
            "accuracy": fmean(one.accuracy for one in rated.values()) if rated else None,
            "shuffled": fmean(null) if null else None, "passed": passed / width, "scored": len(rated) / n if n else None,
        }  # fmt: skip
        missing = {"accuracy": why, "shuffled": why or "left out (shuffled=false), or a single latent has an explanation", "scored": why}
        kept = [name for name in shown if name in rated][: options.examples]
        details: dict[str, Json] = {
            "explainer": options.explainer if options.model is None else f"{options.explainer}/{options.model}", "scoring": options.scoring,
            "n_features": width, "n_passed": passed, "n_drawn": n, "n_scored": len(rated), "n_unscored": n - len(rated),
            "value_if_unscored_are": {"0": total / n, "1": (total + n - len(rated)) / n} if n else None, "unscored": dict(list(reasons.items())[:20]),
            "active_snippets": fmean(fmean(one.truth) for one in rated.values()) if rated else None,
            "examples": [example(name, shown[name], explanations[name], rated[name]) for name in kept],
        }  # fmt: skip
        return Measurement(
            value=fmean(values.values()) if values else None,
            reason=why,
            per_item={name: values.get(name) for name in shown},
            parts=parts,
            part_reasons={name: missing[name] for name, number in parts.items() if number is None},
            details=details,
            trivial={"accuracy": fmean(1 - fmean(one.truth) for one in rated.values())} if rated else {},
        )

    def _why_none(self, passed: int, n: int, reasons: Mapping[str, str]) -> str:
        if not passed:
            return f"no latent fires on more than {self.options.min_activations} of the tokens that were read"
        return f"none of {n} latents could be scored; the first: {next(iter(reasons.values()), 'no explanation')}"

    def _explain(self, bench: Bench, shown: Mapping[str, Shown]) -> tuple[dict[str, str], dict[str, str]]:
        """Return each latent's explanation, and why some have none. An empty lexical one says that no word tells its snippets from others."""
        options = self.options
        if options.explainer == LEXICAL:
            from .lexical import explain

            return {name: BETWEEN.join(explain(own.explain, own.background, options.words)) for name, own in shown.items()}, {}
        from .prompts import explain_request, read_explanation

        model, reply = self._model()
        questions = {name: lambda ask, own=own: explain_request(model, own.explain, reply, ask) for name, own in shown.items()}

        def read(name: str, answer: Any) -> tuple[str | None, str]:
            text, reason = read_explanation(answer)
            return text or None, reason

        return self._open(bench.seed).ask(bench, questions, read, options.asks, "explaining latents")

    def _score(self, bench: Bench, shown: Mapping[str, Shown], explanations: Mapping[str, str]) -> dict[str, Scored]:
        """Return the score of each latent that has an explanation."""
        options, fuzzing = self.options, self.options.scoring == "fuzzing"
        truth = {name: truth_of(shown[name].score) for name in explanations}
        if options.explainer == LEXICAL:
            from .lexical import names

            return {name: Scored(truth[name], tuple(names(text.split(BETWEEN), shown[name].score, fuzzing))) for name, text in explanations.items()}
        from .prompts import read_numbers, score_request

        model, reply = self._model()
        questions = {
            name: lambda ask, name=name, text=text: score_request(model, text, shown[name].score, fuzzing, reply, ask)
            for name, text in explanations.items()
        }
        found, lost = self._open(bench.seed).ask(
            bench, questions, lambda name, answer: read_numbers(answer, len(truth[name])), options.asks, "scoring explanations"
        )
        return {name: Scored(truth[name], tuple(found[name]) if name in found else None, lost.get(name, "")) for name in explanations}

    @property
    def _n_scored(self) -> int:
        return self.options.score_top + self.options.score_weighted + self.options.score_random

    def _model(self) -> tuple[str, int]:
        """Return the model's name, and how many tokens it may reply with."""
        from harness.chat.reasoning import ROOM, load_patterns, reasons
        from harness.files.cache_dir import cache_root

        options = self.options
        assert options.model is not None
        room = options.reasoning_tokens
        if room is None:
            thinks = options.explainer in MODELS and reasons(options.model, load_patterns(options.explainer, cache_root()))
            room = ROOM if thinks else 0
        return options.model, options.max_tokens_reply + room

    def _open(self, seed: int) -> Interpreter:
        if self._opened is None:
            from .asking import open_interpreter, open_local

            options, (model, reply) = self.options, self._model()
            self._opened = open_local(model, options.batch_size, seed) if options.explainer not in MODELS else open_interpreter(
                options.explainer, model, reply,
                base_url=options.base_url, key_name=options.key_name, timeout=options.timeout, concurrency=options.concurrency,
            )  # fmt: skip
        return self._opened


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add(
        "autointerp", Autointerp, options=AutointerpOptions, summary="are latents explained by words that recognise them? (lexical, or by a model)"
    )
