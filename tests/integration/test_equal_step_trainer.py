"""EqualStep under Hugging Face's Trainer and under accelerate."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from layerwise.tuning.equal_step import EqualStep
from layerwise.tuning.groups import layer_groups

TAU = 2e-3


class SteppedTrainer(Trainer):
    """A Trainer whose every layer group takes the same step."""

    groups, method = (), "exact"

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            named = dict((self.model if model is None else model).named_parameters())
            tensors = {g.name: [named[n] for n in g.parameters] for g in self.groups}
            inner = torch.optim.AdamW(named.values(), lr=1e-3, fused=True)
            self.optimizer = EqualStep(inner, tensors, TAU, method=self.method)
        return self.optimizer


class Watch(TrainerCallback):
    """The relative step of each group, from the weights themselves."""

    def __init__(self, model, groups):
        self.named, self.groups, self.ratios = dict(model.named_parameters()), groups, []

    def weights(self):
        return {
            g.name: torch.cat([self.named[n].detach().double().flatten() for n in g.parameters])
            for g in self.groups
        }

    def on_pre_optimizer_step(self, *_, **__):
        self.before = self.weights()

    def on_optimizer_step(self, *_, **__):
        after = self.weights()
        self.ratios.append(
            {n: float((after[n] - w).norm() / w.norm()) for n, w in self.before.items()}
        )


def trainer(tiny, out, method="exact", **options):
    loaded = tiny.build("llama")
    groups = [g for g in layer_groups(loaded.model, loaded.stacks) if g.parameters]
    rows = [
        {"input_ids": ids, "labels": ids}
        for i in range(8)
        for ids in tiny.batch("llama", n=2, first=2 * i).inputs["input_ids"][:, :6]
    ]
    arguments = TrainingArguments(
        output_dir=str(out), max_steps=5, per_device_train_batch_size=2,
        gradient_accumulation_steps=2, warmup_steps=2, lr_scheduler_type="cosine",
        report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="steps", save_steps=3,
        logging_nan_inf_filter=False, seed=3, **options,
    )  # fmt: skip
    watch = Watch(loaded.model, groups)
    made = SteppedTrainer(loaded.model, arguments, train_dataset=rows, callbacks=[watch])
    made.groups, made.method = groups, method
    return made, watch


@pytest.mark.parametrize("method", ["exact", "sampled", "copy"])
def test_every_optimizer_step_is_tau_and_a_resumed_run_ends_alike(tiny, tmp_path, method):
    whole, watch = trainer(tiny, tmp_path / "whole", method)
    whole.train()
    assert isinstance(whole.optimizer, AcceleratedOptimizer)
    assert isinstance(whole.optimizer.optimizer, EqualStep)
    assert len(watch.ratios) == 5
    first, *others = watch.ratios
    assert set(first.values()) == {0.0}  # The warm-up begins at a rate of 0.
    for step in others:
        assert all(ratio == pytest.approx(TAU, rel=1e-3) for ratio in step.values())
    again, _ = trainer(tiny, tmp_path / "again", method)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert again.state.global_step == 5
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name


def test_accelerate_steps_only_when_gradients_are_whole():
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=3)
    model = nn.Linear(6, 4)
    inner = torch.optim.AdamW(model.parameters(), lr=1e-3)
    equal = EqualStep(inner, {"it": list(model.parameters())}, TAU)
    model, optimizer, data = accelerator.prepare(model, equal, DataLoader(torch.randn(12, 6), 2))
    moved = []
    for rows in data:
        with accelerator.accumulate(model):
            before = model.weight.detach().clone()
            accelerator.backward(model(rows).square().mean())
            optimizer.step()
            moved.append(not torch.equal(before, model.weight))
            optimizer.zero_grad()
    assert moved == [False, False, True] * 2
    assert equal.steps["it"].achieved == pytest.approx(TAU)
    assert equal.tau == TAU
