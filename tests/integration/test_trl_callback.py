"""The profile along a training by TRL."""

import pytest
import torch

pytest.importorskip("trl", reason="TRL is no dependency: pip install trl")

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from layerwise.profile.callback import DepthCallback

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated")

PROBES = tuple(f"w{i} w{(3 * i + 1) % 50} w{(7 * i + 2) % 50} w{i % 5}" for i in range(12))


@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "lora"])
def test_sft_trainer(tiny_text, tmp_path, adapted):
    def trained(*callbacks):
        torch.manual_seed(0)
        trainer = SFTTrainer(
            model=tiny_text.model("llama"),
            args=SFTConfig(
                output_dir=str(tmp_path),
                max_steps=3,
                per_device_train_batch_size=2,
                bf16=False,
                learning_rate=1e-2,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list([{"text": text} for text in PROBES]),
            processing_class=tiny_text.tokenizer(),
            peft_config=LoraConfig(r=2, lora_dropout=0.1) if adapted else None,
            callbacks=list(callbacks),
        )
        trainer.train()
        return trainer

    callback = DepthCallback(probes=PROBES, every=2)
    watched, without = trained(callback), trained()
    assert [found.step for found in callback.history] == [0, 2, 3]
    assert callback.history[0].profile.slope == 0.0
    assert callback.profile.depths[-1].procrustes > 0.0
    first, second = watched.model.state_dict(), without.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in second)
