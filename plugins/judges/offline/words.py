"""What a text's words alone say: repetition, concept words, refusals, marks."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

FUNCTION_WORDS = frozenset(
    [
        "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because", "been", "before", "but",
        "by", "can", "could", "did", "do", "does", "for", "from", "had", "has", "have", "he", "her", "his", "how", "i", "if",
        "in", "into", "is", "it", "its", "just", "like", "may", "me", "more", "most", "my", "no", "not", "of", "on", "one",
        "only", "or", "other", "our", "out", "over", "she", "should", "so", "some", "such", "than", "that", "the", "their",
        "them", "then", "there", "these", "they", "this", "those", "through", "to", "too", "up", "us", "was", "we", "were",
        "what", "when", "where", "which", "while", "who", "will", "with", "would", "you", "your",
    ]
)
NEGATIONS = frozenset(
    [
        "no", "not", "never", "nothing", "without", "nor", "none", "neither", "isn't", "don't", "doesn't", "won't", "can't",
        "cannot",
    ]
)
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_SENTENCE = re.compile(r"(?<=[.!?])[\"'”’)*]*\s+|\n+")
_REFUSAL = re.compile(
    r"\b(?:i(?:'|’)?m sorry|i am sorry|sorry|apologi[sz]e|unfortunately|i (?:can|could|will|do|am)(?: ?not|n(?:'|’)t)|i(?:'|’)m (?:not|unable)|"
    r"unable to|as an ai|language model|can(?:'|’)t help|cannot help|don(?:'|’)t know|no idea|not able to)\b"
)
_OFFER = re.compile(
    r"\b(?:great question|good question|glad you asked|happy to help|let me know|tell me more|feel free|interesting (?:question|topic)|"
    r"there (?:is|are) (?:a lot|many|so many)|many people|everyone|everybody)\b"
)
_GENERIC = frozenset(
    [
        "reference", "references", "term", "terms", "word", "words", "related", "concept", "concepts", "expression",
        "expressions", "phrase", "phrases", "instance", "instances", "various", "specific",
    ]
)


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return [match.group() for match in _WORD.finditer(text.casefold())]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences (or lines) of a text begin and end; those without a word are left out."""
    spans, start = [], 0
    for match in _SENTENCE.finditer(text):
        spans.append((start, match.start()))
        start = match.end()
    spans.append((start, len(text)))
    return [(a, b) for a, b in spans if _WORD.search(text, a, b)]


def stem(word: str) -> str:
    """Cut common English endings off, so that “baker”, “baking” and “bakes” are one word."""
    for ending in (
        "'s",
        "’s",
        "ingly",
        "ations",
        "ation",
        "ities",
        "ings",
        "ing",
        "ies",
        "ers",
        "ied",
        "ely",
        "ed",
        "er",
        "es",
        "ly",
        "s",
        "e",
        "y",
    ):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def content(words: Sequence[str]) -> list[str]:
    """Return the stems of the words that carry meaning."""
    return [stem(word) for word in words if word not in FUNCTION_WORDS]


def repeated_share(text: str, n: int = 3) -> float:
    """Return the share of the text's n-grams of words (and single marks) that are there already; 0 for a text of fewer than ``n`` words."""
    words = _TOKEN.findall(text.casefold())
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def of_text(text: str) -> dict[str, float]:
    """Return what is measured of a text by itself."""
    words = words_of(text)
    n = len(words)
    letters = sum(character.isalpha() for character in text)
    pairs = sum(a == b for a, b in itertools.pairwise(words)) + sum(a == b for a, b in zip(words, words[2:], strict=False))
    stems = content(words)
    common = max(Counter(stems).values(), default=0)
    window = [len(set(words[i : i + 25])) / len(words[i : i + 25]) for i in range(0, max(1, n - 24), 5)] if words else [0.0]
    sentences = sentence_spans(text)
    runs = _longest_run(words)
    lower = text.casefold()
    return {
        "words": float(min(n, 150)),
        "word length": _share(sum(map(len, words)), n),
        "longest word": float(min(max(map(len, words), default=0), 40)),
        "letters": _share(letters, len(re.sub(r"\s", "", text))),
        "ascii letters": _share(sum(c.isascii() and c.isalpha() for c in text), letters),
        "function words": _share(sum(word in FUNCTION_WORDS for word in words), n),
        "longest run of content": float(min(runs[0], 30)),
        "longest run of function words": float(min(runs[1], 30)),
        "repeated 2": repeated_share(text, 2),
        "repeated 3": repeated_share(text, 3),
        "repeated 3, second half": repeated_share(text[len(text) // 2 :], 3),
        "words again": _share(pairs, n),
        "distinct words": _share(len(set(words)), n),
        "least distinct": min(window),
        "distinct content": _share(len(set(stems)), len(stems)),
        "commonest": _share(common, n) if n > 4 else 0.0,
        "words per sentence": min(_share(n, len(sentences)), 60.0),
        "marks": _share(sum(not c.isalnum() and not c.isspace() for c in text), max(1, len(text))),
        "capital words": _share(sum(word[:1].isupper() for word in _WORD.findall(text)), n),
        "refusal": float(bool(_REFUSAL.search(lower[:160].replace("’", "'")))),
        "offer": float(len(_OFFER.findall(lower))),
        "asks": float(text.rstrip().endswith("?")),
    }


def _longest_run(words: Sequence[str]) -> tuple[int, int]:
    """The longest runs of words without, and with nothing but, function words."""
    best, run, last = [0, 0], 0, -1
    for word in words:
        kind = int(word in FUNCTION_WORDS)
        run = run + 1 if kind == last else 1
        last = kind
        best[kind] = max(best[kind], run)
    return best[0], best[1]


def telling(text: str) -> list[str]:
    """Return the words of a concept or a text that say what it is about: neither function words nor such as “references” or “terms”."""
    found = [word for word in words_of(text) if word not in FUNCTION_WORDS]
    return [word for word in found if word not in _GENERIC] or found or words_of(text)


def of_pair(asked: str, text: str) -> dict[str, float]:
    """Return what the words of a concept or an instruction have to do with those of a text."""
    wanted = {stem(word) for word in telling(asked)}
    words = words_of(text)
    stems = [stem(word) for word in words]
    places = [i for i, word in enumerate(stems) if word in wanted]
    spans = sentence_spans(text)
    hit = [bool(wanted & set(content(words_of(text[a:b])))) for a, b in spans]
    used = content(words)
    denied = any(word in NEGATIONS for place in places for word in words[max(0, place - 8) : place])
    return {
        "found": _share(len(wanted & set(stems)), len(wanted)),
        "share of words": _share(len(places), len(words)),
        "times": float(min(len(places), 12)),
        "share of content": _share(sum(word in wanted for word in used), len(used)),
        "sentences": _share(sum(hit), len(hit)),
        "first": _share(places[0], len(words)) if places else 1.0,
        "last": _share(places[-1], len(words)) if places else -1.0,
        "denied": float(denied),
    }
