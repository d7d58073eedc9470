"""Supervised fine-tuning: the answer's tokens, given the prompt."""

from dataclasses import replace
from functools import partial
from typing import Any

from layerwise.data.batches import BatchSet, Rows, assemble, by_length, causal_batch, prompted_rows
from layerwise.data.chat import chat_rows
from layerwise.data.text import TextData
from layerwise.errors import ModelError
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.objectives.seq2seq import answer_batches
from layerwise.objectives.token_loss import model_losses

__all__ = ["SFT"]

PLAIN = "the tokenizer has no chat template: prompt and text were joined as they are"


def _batches(request: BatchRequest) -> BatchSet:
    """Chats through the tokenizer's template; prompt and text joined where it has none."""
    tokenizer, data = request.tokenizer, request.data
    size, limit = request.batch_size, request.max_length
    if request.kind == "seq2seq":
        return answer_batches(
            tokenizer, data, batch_size=size, max_length=limit, start=request.decoder_start
        )
    if getattr(tokenizer, "chat_template", None):
        rows = chat_rows(tokenizer, data, max_length=limit)
    else:
        rows = replace(_plain(tokenizer, data, max_length=limit), notes=(PLAIN,))
    return assemble(
        rows,
        by_length(rows.rows, batch_size=size),
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
    batches=_batches,
    losses=model_losses,
    needs_prompt=True,
)
