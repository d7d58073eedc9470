"""The backward pass ends at the lowest adapter, whoever runs it."""

import warnings

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import Trainer, TrainingArguments

from layerwise.compat import checkpoint_blocks, checkpointing
from layerwise.errors import BadInputError
from layerwise.models.load import LoadedModel
from layerwise.models.stack import find_stacks
from layerwise.tuning.lora import adapted, adapter_parameters, placed_on
from layerwise.tuning.shallow import ShallowBackward, stop_at_lowest

pytestmark = pytest.mark.slow  # Short runs, many of them.

UPPER, ALL = range(6, 12), range(12)


def tall(kind="llama"):
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
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def loaded(tuning, kind="llama"):
    model = tall(kind)
    return LoadedModel(model, tuning.loaded("llama").tokenizer, kind, "causal", find_stacks(model))


class Flops:
    """Counts the operations of backward passes alone."""

    def __init__(self, monkeypatch):
        self.total = 0
        plain = torch.Tensor.backward

        def counted(tensor, *args, **options):
            with FlopCounterMode(display=False) as counter:
                plain(tensor, *args, **options)
            self.total += counter.get_total_flops()

        monkeypatch.setattr(torch.Tensor, "backward", counted)


@pytest.fixture
def flops(monkeypatch):
    return Flops(monkeypatch)


def no_gradient(model):
    """The adapters that got no gradient."""
    return [n for n in adapter_parameters(model) if model.get_parameter(n).grad is None]


@pytest.mark.parametrize(
    ("kind", "checkpointing"), [("llama", False), ("llama", True), ("gpt2", True)]
)
def test_the_upper_half_costs_half_a_backward(tuning, flops, kind, checkpointing):
    spent = {}
    for name, rows in (("all", ALL), ("upper", UPPER)):
        flops.total = 0
        subject = loaded(tuning, kind)
        tuned = tuning.tune(
            subject, condition="lora", placement=placed_on(subject, rows), steps=2,
            gradient_checkpointing=checkpointing, learning_rate=1e-2,
        )  # fmt: skip
        spent[name] = flops.total
        moved = {g.name for g in tuned.record.groups if g.step_ratio}
        assert moved == {f"{subject.stacks[0].blocks[i]}" for i in rows}
        model = tuned.loaded.model
        ups = [model.get_parameter(n) for n in adapter_parameters(model) if "lora_B" in n]
        assert all(bool(up.any()) for up in ups)
    assert 0 < spent["upper"] <= 0.55 * spent["all"]


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


def hugging_face(model, folder, *, shallow):
    args = TrainingArguments(
        str(folder), max_steps=1, per_device_train_batch_size=4, use_cpu=True, report_to="none",
        disable_tqdm=True, save_strategy="no", **checkpointing(wanted=True),
    )  # fmt: skip
    callbacks = [ShallowBackward()] if shallow else []
    return Trainer(model, args, train_dataset=rows(), callbacks=callbacks)


def test_hugging_face_s_trainer_stops_there_too(tuning, flops, tmp_path):
    spent = {}
    for shallow in (False, True):
        flops.total = 0
        hugging_face(adapted_upper(tuning), tmp_path, shallow=shallow).train()
        spent[shallow] = flops.total
    flops.total = 0
    hugging_face(adapted_upper(tuning, ALL), tmp_path, shallow=True).train()
    assert spent[True] <= 0.55 * flops.total < spent[False]


@pytest.mark.filterwarnings("ignore")  # What TRL warns of is not ours.
def test_trl_stops_there_too(tuning, flops, tmp_path):
    trl = pytest.importorskip("trl")
    spent = {}
    for name, blocks, callbacks in (
        ("all", ALL, []), ("upper", UPPER, []), ("shallow", UPPER, [ShallowBackward()]),
    ):  # fmt: skip
        flops.total = 0
        model = adapted_upper(tuning, blocks)
        args = trl.SFTConfig(
            str(tmp_path), max_steps=1, per_device_train_batch_size=4, use_cpu=True, bf16=False,
            report_to="none", disable_tqdm=True, gradient_checkpointing=True,
        )  # fmt: skip
        import datasets

        trainer = trl.SFTTrainer(
            model, args, train_dataset=datasets.Dataset.from_list(rows()), callbacks=callbacks,
            processing_class=tuning.loaded("llama").tokenizer,
        )  # fmt: skip
        trainer.train()
        spent[name] = flops.total
    assert spent["shallow"] <= 0.55 * spent["all"] < spent["upper"]


def test_every_adapter_gets_its_gradient(tuning):
    model = adapted_upper(tuning).train()
    checkpoint_blocks(model)
    model.enable_input_require_grads()  # Asked twice, as TRL and Trainer do.
    stop_at_lowest(model)
    ids = torch.tensor([[5, 6, 7, 8]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert no_gradient(model) == []
    embeddings = model.get_base_model().get_input_embeddings()
    assert not embeddings(ids).requires_grad


def test_reentrant_checkpointing_is_refused(tuning):
    model = adapted_upper(tuning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint_blocks(model, reentrant=True)
    with pytest.raises(
        BadInputError, match=r"reentrant gradient checkpointing.*use_reentrant\": False"
    ):
        stop_at_lowest(model)


def test_a_model_without_any_of_it_is_left_alone(tuning):
    model = adapted_upper(tuning)
    kept = model.get_base_model().get_input_embeddings().register_forward_hook(lambda *_: None)
    stop_at_lowest(model)
    assert kept.id in model.get_base_model().get_input_embeddings()._forward_hooks
