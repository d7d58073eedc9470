"""The backward pass ends at the lowest adapter, whoever runs it."""

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import Trainer, TrainingArguments

from layerwise.compat.transformers import checkpoint_blocks, checkpointing
from layerwise.models.load import LoadedModel
from layerwise.models.stack import find_stacks
from layerwise.tuning.lora import adapted, adapter_parameters, placed_on
from layerwise.tuning.shallow import ShallowBackward, stop_at_lowest

pytestmark = pytest.mark.slow  # Short runs, many of them.

UPPER, ALL = range(6, 12), range(12)


def loaded(tuning, kind="llama"):
    """Twelve blocks, of which the head and the embeddings are a small part."""
    config = (
        transformers.LlamaConfig(
            vocab_size=61, hidden_size=32, num_hidden_layers=12, num_attention_heads=2,
            intermediate_size=64, pad_token_id=0,
        )
        if kind == "llama"
        else transformers.GPT2Config(
            vocab_size=61, n_embd=32, n_layer=12, n_head=2, n_positions=64, bos_token_id=1,
            eos_token_id=1,
        )
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    return LoadedModel(model, tuning.loaded("llama").tokenizer, kind, "causal", find_stacks(model))


@pytest.fixture
def flops(monkeypatch):
    """Counts the operations of the backward passes alone that a function makes."""
    made, plain = [], torch.Tensor.backward

    def counted(tensor, *args, **options):
        with FlopCounterMode(display=False) as counter:
            plain(tensor, *args, **options)
        made.append(counter.get_total_flops())

    def spent(work):
        made.clear()
        work()
        return sum(made)

    monkeypatch.setattr(torch.Tensor, "backward", counted)
    return spent


@pytest.mark.parametrize(
    ("kind", "checkpointing"), [("llama", False), ("llama", True), ("gpt2", True)]
)
def test_the_upper_half_costs_half_a_backward(tuning, flops, kind, checkpointing):
    def train(rows):
        subject = loaded(tuning, kind)
        tuned = tuning.tune(
            subject, condition="lora", placement=placed_on(subject, rows), steps=2,
            gradient_checkpointing=checkpointing, learning_rate=1e-2,
        )  # fmt: skip
        moved = {g.name for g in tuned.record.groups if g.step_ratio}
        assert moved == {f"{subject.stacks[0].blocks[i]}" for i in rows}
        model = tuned.loaded.model
        ups = [model.get_parameter(n) for n in adapter_parameters(model) if "lora_B" in n]
        assert all(bool(up.any()) for up in ups)

    assert 0 < flops(lambda: train(UPPER)) <= 0.55 * flops(lambda: train(ALL))


def test_weights_are_those_without_checkpointing(tuning):
    runs = []
    for wanted in (False, True):
        subject = loaded(tuning)
        tuned = tuning.tune(
            subject, condition="lora", placement=placed_on(subject, UPPER),
            gradient_checkpointing=wanted, learning_rate=1e-2,
        )  # fmt: skip
        runs.append(tuning.weights(tuned))
    assert tuning.furthest(*runs) < 1e-4


# --- Trainers of others -----------------------------------------------------------------------


def rows(n=8):
    return [{"input_ids": [5 + i, 6, 7, 8, 9], "labels": [5 + i, 6, 7, 8, 9]} for i in range(n)]


def adapted_upper(tuning, blocks=UPPER):
    subject = loaded(tuning)
    return adapted(subject, placed_on(subject, blocks)).model


OPTIONS = {
    "max_steps": 1, "per_device_train_batch_size": 4, "report_to": "none", "disable_tqdm": True,
    "use_cpu": True,
}  # fmt: skip


def hugging_face(tuning, folder, blocks, callbacks):
    args = TrainingArguments(
        str(folder), save_strategy="no", **OPTIONS, **checkpointing(wanted=True)
    )
    model = adapted_upper(tuning, blocks)
    Trainer(model, args, train_dataset=rows(), callbacks=callbacks).train()


def trl(tuning, folder, blocks, callbacks):
    import datasets

    library = pytest.importorskip("trl")
    args = library.SFTConfig(str(folder), bf16=False, gradient_checkpointing=True, **OPTIONS)
    library.SFTTrainer(
        adapted_upper(tuning, blocks), args, callbacks=callbacks,
        train_dataset=datasets.Dataset.from_list(rows()),
        processing_class=tuning.loaded("llama").tokenizer,
    ).train()  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # What TRL warns of is not ours.
@pytest.mark.parametrize("train", [hugging_face, trl])
def test_trainers_of_others_stop_there_too(tuning, flops, tmp_path, train):
    whole, upper, shallow = (
        flops(lambda blocks=blocks, own=own: train(tuning, tmp_path, blocks, own))
        for blocks, own in ((ALL, []), (UPPER, []), (UPPER, [ShallowBackward()]))
    )
    assert shallow <= 0.55 * whole < upper


def test_every_adapter_gets_its_gradient(tuning):
    model = adapted_upper(tuning).train()
    checkpoint_blocks(model)
    model.enable_input_require_grads()  # Asked twice, as TRL and Trainer do.
    stop_at_lowest(model)
    ids = torch.tensor([[5, 6, 7, 8]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert [n for n in adapter_parameters(model) if model.get_parameter(n).grad is None] == []
    embeddings = model.get_base_model().get_input_embeddings()
    assert not embeddings(ids).requires_grad


def test_a_model_without_any_of_it_is_left_alone(tuning):
    model = adapted_upper(tuning)
    kept = model.get_base_model().get_input_embeddings().register_forward_hook(lambda *_: None)
    stop_at_lowest(model)
    assert kept.id in model.get_base_model().get_input_embeddings()._forward_hooks
