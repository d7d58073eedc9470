"""The profile along trainings by TRL: what it sees, and that it changes nothing."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="TRL is no dependency: pip install trl")

import trl
from datasets import Dataset
from packaging.version import Version
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    TrainerCallback,
)
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

from layerwise.profile.callback import DepthCallback
from support.profiles import PROBES

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated"),
    pytest.mark.filterwarnings("ignore::UserWarning:trl"),
]

PAIRS = [{"prompt": f"{p} ", "chosen": f"w{i} w1", "rejected": "w2"} for i, p in enumerate(PROBES)]


@dataclass(frozen=True)
class Case:
    """A trainer of TRL, and what it takes."""

    trainer: Any
    config: Any
    rows: list[dict[str, str]]
    head: Any = AutoModelForCausalLM
    options: tuple[tuple[str, Any], ...] = ()
    arguments: tuple[tuple[str, Any], ...] = ()


CASES = {
    "sft": Case(SFTTrainer, SFTConfig, [{"text": text} for text in PROBES]),
    # Two forwards a step, one of them of the model as it began.
    "dpo": Case(DPOTrainer, DPOConfig, PAIRS),
    # Forwards without gradients, and those that write answers, go before the one that trains.
    "grpo": Case(
        GRPOTrainer, GRPOConfig, [{"prompt": text} for text in PROBES],
        options=(("num_generations", 2), ("max_completion_length", 3), ("beta", 0.1)),
        arguments=(("reward_funcs", lambda completions, **_: list(map(len, completions))),),
    ),
    "reward": Case(RewardTrainer, RewardConfig, PAIRS, head=AutoModelForSequenceClassification),
}  # fmt: skip


class Tracker(TrainerCallback):
    """A tracker that keeps what comes to it."""

    def __init__(self):
        self.seen = []

    def on_log(self, _args, state, _control, logs=None, **_):
        self.seen.append((state.global_step, dict(logs)))

    def of(self, name):
        return [(step, logs[name]) for step, logs in self.seen if name in logs]


@pytest.fixture
def train(tiny_text, tmp_path):
    """Trains by a trainer of TRL, with callbacks; the trainer and what came to a tracker."""

    def run(name, *callbacks, adapted=False):
        case, tracker = CASES[name], Tracker()
        base = tmp_path / "base"  # A copy of the model as it began is read from there.
        tokenizer, options = (
            tiny_text.tokenizer(),
            {} if case.head is AutoModelForCausalLM else {"num_labels": 1},
        )
        if not base.exists():  # Models that were read from it may lie in its file still.
            tiny_text.model("llama").save_pretrained(base)
        tokenizer.model_input_names = ["input_ids", "attention_mask"]  # transformers 4 has a third.
        torch.manual_seed(0)
        model = case.head.from_pretrained(base, pad_token_id=tokenizer.pad_token_id, **options)
        trainer = case.trainer(
            model=model,
            args=case.config(
                output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=2, bf16=False,
                learning_rate=1e-2, use_cpu=True, report_to="none", save_strategy="no",
                disable_tqdm=True, logging_steps=1, **dict(case.options),
            ),
            train_dataset=Dataset.from_list(case.rows),
            processing_class=tokenizer,
            peft_config=LoraConfig(r=2, lora_dropout=0.1) if adapted else None,
            callbacks=[tracker, *callbacks],
            **dict(case.arguments),
        )  # fmt: skip
        trainer.train()
        return trainer, tracker

    return run


@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("name", CASES)
def test_it_watches_and_changes_nothing(train, name, adapted):
    if name != "reward" and Version("1.15") <= Version(trl.__version__) < Version("1.16"):
        pytest.skip("TRL 1.15 computes other losses than that of rewards with triton alone")
    callback = DepthCallback(probes=PROBES, every=2, signals=True)
    (watched, tracker), (without, alone) = (
        train(name, callback, adapted=adapted),
        train(name, adapted=adapted),
    )
    assert [found.step for found in callback.history] == [0, 2, 3]
    assert callback.history[0].profile.slope == 0.0
    assert callback.profile.depths[-1].procrustes > 0.0
    assert callback.signals.steps == 3
    assert None not in callback.signals.activation_gradient[1:]
    assert None not in callback.signals.attention_entropy
    slopes = [(found.step, found.profile.slope) for found in callback.history]
    assert tracker.of("depth_slope") == slopes
    first, second = watched.model.state_dict(), without.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in second)
    # What the trainer logs of itself, its running means too, is what it is without.
    own = [(s, plain(logs)) for s, logs in tracker.seen if "depth_slope" not in logs]
    assert own == [(step, plain(logs)) for step, logs in alone.seen]


def plain(logs):
    """Return what is logged, without what a clock says."""
    return {k: v for k, v in logs.items() if not re.search("time|runtime|per_second", k)}
