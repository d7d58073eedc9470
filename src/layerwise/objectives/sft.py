"""Supervised fine-tuning: the answer's tokens, given the prompt."""

from dataclasses import replace

from layerwise.data.batches import BatchSet, causal_batch, prompted_rows
from layerwise.data.chat import chat_rows
from layerwise.errors import ModelError
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.objectives.seq2seq import answer_batches
from layerwise.objectives.token_loss import model_losses

PLAIN = "the tokenizer has no chat template: prompt and text were joined as they are"


def _batches(request: BatchRequest) -> BatchSet:
    """Chats through the tokenizer's template; prompt and text joined where it has none."""
    tokenizer, data, limit = request.tokenizer, request.data, request.max_length
    if request.kind == "seq2seq":
        return answer_batches(request)
    if getattr(tokenizer, "chat_template", None):
        rows = chat_rows(tokenizer, data, max_length=limit, processor=request.processor)
        return request.collated(rows, causal_batch)
    if data.has_chats:
        raise ModelError(
            what="tokenizer has no chat template, which chats need",
            value=type(tokenizer).__name__,
            expected="an instruction-tuned model, or a prompt and a text column",
            hint="--prompt-column NAME --text-column NAME",
        )
    rows = replace(prompted_rows(tokenizer, data, max_length=limit), notes=(PLAIN,))
    return request.collated(rows, causal_batch)


SFT = Objective(
    name="sft",
    kinds=frozenset({"causal", "seq2seq"}),
    batches=_batches,
    losses=model_losses,
    needs_prompt=True,
    packs=True,
)
