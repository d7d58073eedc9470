"""Generated text against what it should have been."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from layerwise.errors import BadInputError
from layerwise.registry import Registry

#: ``quality(generated, wanted)``, larger is better.
TextQuality = Callable[[Sequence[str], Sequence[str]], float]

#: Every way to compare texts by name.
TEXT_QUALITIES = Registry[TextQuality]("text quality")


@TEXT_QUALITIES.register("exact-match")
def exact_match(generated: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the share of texts that are what was wanted, blanks at both ends apart, in [0, 1]."""
    pairs = zip(generated, wanted, strict=True)
    return sum(a.strip() == b.strip() for a, b in pairs) / len(wanted)


@TEXT_QUALITIES.register("bleu")
def bleu(generated: Sequence[str], wanted: Sequence[str]) -> float:
    """Return corpus BLEU as sacreBLEU computes it by default, in [0, 100]."""
    return float(installed("sacrebleu").corpus_bleu(list(generated), [list(wanted)]).score)


@TEXT_QUALITIES.register("chrf")
def chrf(generated: Sequence[str], wanted: Sequence[str]) -> float:
    """Return corpus chrF2 as sacreBLEU computes it by default, in [0, 100]."""
    return float(installed("sacrebleu").corpus_chrf(list(generated), [list(wanted)]).score)


@TEXT_QUALITIES.register("rouge")
def rouge(generated: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the mean F-measure of ROUGE-L, words not stemmed, in [0, 1]."""
    scorer = installed("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    pairs = zip(wanted, generated, strict=True)
    return sum(float(scorer.score(a, b)["rougeL"].fmeasure) for a, b in pairs) / len(wanted)


def installed(module: str, *, hint: str = "pip install 'layerwise[evidence]'") -> Any:
    """Import `module`, which only some qualities need.

    Raises:
        BadInputError: It is not installed; `hint` says how it is.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        message = "package that is not installed"
        raise BadInputError(message, value=error.name, hint=hint) from error
