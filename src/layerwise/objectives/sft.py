"""Supervised fine-tuning: the answer's tokens, given the prompt."""

import logging
from dataclasses import replace
from functools import partial
from typing import Any

from layerwise.data.batches import BatchSet, Rows, assemble, by_length, causal_batch, prompted_rows
from layerwise.data.chat import chat_rows
from layerwise.data.text import TextData
from layerwise.errors import ModelError
from layerwise.models.kind import ModelKind
from layerwise.objectives.record import Objective
from layerwise.objectives.seq2seq import answer_batches
from layerwise.objectives.token_loss import model_losses

__all__ = ["SFT"]

log = logging.getLogger(__name__)

PLAIN = "the tokenizer has no chat template: prompt and text were joined as they are"


def _make_batches(
    tokenizer: Any,
    data: TextData,
    *,
    batch_size: int,
    max_length: int,
    seed: int,
    kind: ModelKind,
    decoder_start: int | None = None,
) -> BatchSet:
    """Chats through the tokenizer's template; prompt and text joined where it has none."""
    del seed
    if kind == "seq2seq":
        return answer_batches(
            tokenizer, data, batch_size=batch_size, max_length=max_length, start=decoder_start
        )
    if getattr(tokenizer, "chat_template", None):
        rows = chat_rows(tokenizer, data, max_length=max_length)
    else:
        rows = replace(_plain(tokenizer, data, max_length=max_length), notes=(PLAIN,))
        log.warning(PLAIN)
    return assemble(
        rows,
        by_length(rows.rows, batch_size=batch_size),
        of=len(data),
        collate=partial(causal_batch, pad=tokenizer.pad_token_id),
    )


def _plain(tokenizer: Any, data: TextData, *, max_length: int) -> Rows:
    """Prompt and text, joined as they are."""
    if "messages" in data.columns:
        raise ModelError(
            what="tokenizer has no chat template, which chats need",
            value=type(tokenizer).__name__,
            expected="an instruction-tuned model, or a prompt and a text column",
            hint="--prompt-column NAME --text-column NAME",
        )
    return prompted_rows(tokenizer, data, max_length=max_length)


SFT = Objective(
    name="sft",
    kinds=frozenset({"causal", "seq2seq"}),
    make_batches=_make_batches,
    losses=model_losses,
    needs_prompt=True,
)
