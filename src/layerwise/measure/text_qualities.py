"""Measures of generated text against one or several references, by the libraries known for them."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

from layerwise.errors import BadInputError, one_line
from layerwise.extras import require
from layerwise.registry import Registry

#: ``compare(generated, references)``: a text, and what it may say, for each example.
Compare = Callable[[Sequence[str], Sequence[Sequence[str]]], float]

BERT_SCORE = "bertscore:"
"""What stands before the model of a BERTScore."""


@dataclass(frozen=True)
class TextQuality:
    """How good generated texts are.

    Attributes:
        compare: Gives one number for all examples.
        higher_is_better: Whether a larger number is better.
    """

    compare: Compare
    higher_is_better: bool = True


#: Every way to compare texts by name.
TEXT_QUALITIES = Registry[TextQuality]("text quality")

_comparing = partial(require, extra="evidence", purpose="compare generated text")


def _share(same: Callable[[str, str], bool]) -> Compare:
    """Return the share of texts that are the same as any of their references, in [0, 1]."""

    def compare(generated: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        pairs = zip(generated, references, strict=True)
        return sum(any(same(text, one) for one in own) for text, own in pairs) / len(generated)

    return compare


def _last_number(text: str) -> float | None:
    """Return the number that a text ends on, as an answer to an exercise does (GSM8K)."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    return float(found[-1].replace(",", "")) if found else None


def _same_number(text: str, reference: str) -> bool:
    number = _last_number(text)
    return number is not None and number == _last_number(reference)


def _sacrebleu(function: str, **options: Any) -> Compare:
    """Return a corpus measure of sacreBLEU by its defaults, in [0, 100]."""

    def compare(generated: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        # It reads a stream a reference, and takes None where an example has fewer than others.
        streams = [list(stream) for stream in zip_longest(*references)]
        measure = getattr(_comparing("sacrebleu"), function)
        return float(measure(list(generated), streams, **options).score)

    return compare


def _rouge(kind: str) -> Compare:
    """Return the mean F-measure of a ROUGE, the best over references, words not stemmed."""

    def compare(generated: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        scorer = _comparing("rouge_score.rouge_scorer").RougeScorer([kind])
        pairs = zip(generated, references, strict=True)
        best = (scorer.score_multi(list(own), text)[kind].fmeasure for text, own in pairs)
        return float(sum(best)) / len(generated)

    return compare


def _words(texts: Iterable[str]) -> list[list[str]]:
    """Return texts as lower-case words and marks, parted as sacreBLEU's 13a does (ours)."""
    part = _comparing("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()
    return [part(text.lower()).split() for text in texts]


def meteor(
    generated: Sequence[str], references: Sequence[Sequence[str]], *, wordnet: Any = None
) -> float:
    """Return NLTK's METEOR, the mean over examples of the best over references, in [0, 1].

    Args:
        generated: A text an example.
        references: What it may say.
        wordnet: What knows synonyms; NLTK's WordNet where None.

    Raises:
        BadInputError: NLTK's WordNet is not on this machine.
    """
    score = _comparing("nltk.translate.meteor_score").meteor_score
    known = wordnet or _comparing("nltk.corpus").wordnet
    pairs = zip(_words(generated), references, strict=True)
    try:
        each = [score(_words(own), words, wordnet=known) for words, own in pairs]
    except LookupError as error:
        message = "METEOR needs the synonyms of WordNet, which NLTK has not got here"
        hint = "python -m nltk.downloader wordnet, or another --quality"
        raise BadInputError(message, value="meteor", hint=hint) from error
    return float(sum(each)) / len(each)


def _nist(generated: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return NLTK's corpus NIST of up to 5-grams, or as long as the shortest text; from 0 on."""
    texts = _words(generated)
    longest = max(1, min(5, *map(len, texts)))
    score = _comparing("nltk.translate.nist_score").corpus_nist
    return float(score([_words(own) for own in references], texts, n=longest))


def _cider(generated: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return CIDEr-D as the COCO caption evaluation computes it, in [0, 10].

    Words weigh by how few of the examples' references have them, so that one example has no score.
    """
    scorer = _comparing("pycocoevalcap.cider.cider").Cider()
    said = {n: [" ".join(words)] for n, words in enumerate(_words(generated))}
    wanted = {n: [" ".join(words) for words in _words(own)] for n, own in enumerate(references)}
    return float(scorer.compute_score(wanted, said)[0])


def bert_score(model: str) -> TextQuality:
    """Return the mean F1 of BERTScore by the last layer of `model`, a folder or a hub id.

    Source: Zhang et al., BERTScore (2020), by the package `bert-score`, not rescaled. The layer is
    ours; the package has a table of layers for some hub ids alone.
    """

    def compare(generated: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        score = _comparing("bert_score").score
        config = _comparing("transformers").AutoConfig
        try:
            layers = config.from_pretrained(model).num_hidden_layers
            wanted = [list(own) for own in references]
            _, _, f1 = score(list(generated), wanted, model_type=model, num_layers=layers)
        except (OSError, ValueError) as error:
            message = f"model for BERTScore that cannot be loaded ({one_line(error)})"
            expected = "a folder or hub id of an encoder with its tokenizer"
            raise BadInputError(message, value=model, expected=expected) from error
        return float(f1.mean())

    return TextQuality(compare)


for _name, _quality in {
    "exact-match": TextQuality(_share(lambda text, wanted: text.strip() == wanted.strip())),
    "number-match": TextQuality(_share(_same_number)),
    "bleu": TextQuality(_sacrebleu("corpus_bleu")),
    "chrf": TextQuality(_sacrebleu("corpus_chrf")),
    "chrf++": TextQuality(_sacrebleu("corpus_chrf", word_order=2)),
    "ter": TextQuality(_sacrebleu("corpus_ter"), higher_is_better=False),
    "rouge": TextQuality(_rouge("rougeL")),
    "rouge-1": TextQuality(_rouge("rouge1")),
    "rouge-2": TextQuality(_rouge("rouge2")),
    "meteor": TextQuality(meteor),
    "nist": TextQuality(_nist),
    "cider": TextQuality(_cider),
}.items():
    TEXT_QUALITIES.add(_quality, name=_name)
