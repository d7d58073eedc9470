"""A config trains what PEFT adapts of a real model, told by hand what the trainer tells it."""

import json
import re

import pytest

import layerwise as lw
from support import checks

QKVO = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*QKVO, "gate_proj", "up_proj", "down_proj"]
LLM, EYES = r"model\.language_model\..*\.", r"model\.visual\.blocks\..*\."
LM = rf"{LLM}({'|'.join(ALL)})"
SEQ, LM_TASK = {"task_type": "SEQ_CLS"}, {"task_type": "CAUSAL_LM"}


def peft(**lora):
    return (
        "adapter_config.json",
        json.dumps({"peft_type": "LORA", "r": 4, **lora}),
        {"r": 4, **lora},
    )


def kind(**config):
    return "adapter_config.json", json.dumps(config), config


def axolotl(text, **lora):
    head = "base_model: org/model\nadapter: lora\nlora_r: 4\nlora_alpha: 8\n"
    return "axolotl.yaml", head + text, {"r": 4, **LM_TASK, **lora}


def factory(text, **lora):
    head = "### model\nmodel_name_or_path: org/model\nstage: sft\ndo_train: true\n"
    return "factory.yaml", head + text, {"r": 8, **LM_TASK, **lora}


def swift(text, **lora):
    return "swift.yaml", f"model: org/model\n{text}", {"r": 8, **LM_TASK, **lora}


def trl(text, **lora):
    head = "model_name_or_path: org/model\nuse_peft: true\n"
    return "trl.yaml", head + text, {"r": 16, **LM_TASK, **lora}


def script(call, **lora):
    text = f"from unsloth import *\nRANK = 4\nNAMES = {ALL!r}\n\ndef main():\n    x = {call}\n"
    return "train.py", text, {"r": 4, **lora}


FAST, EYED = "FastLanguageModel.get_peft_model", "FastVisionModel.get_peft_model"
CASES = {
    "peft two names": ("mistral", *peft(target_modules=["q_proj", "v_proj"])),
    "peft all-linear": ("mistral", *peft(target_modules="all-linear", **LM_TASK)),
    "peft transposed": ("gpt2", *peft(target_modules=["c_attn", "c_proj"], bias="all")),
    "peft default": ("gpt2", *peft()),
    "peft two stacks": ("t5", *peft(target_modules=["q", "v"], layers_to_transform=1)),
    "peft one stack": (
        "bart", *peft(target_modules=["q_proj"], layers_to_transform=[0],
                      layers_pattern=r"decoder\.layers"),
    ),
    "peft encoder": ("bert", *peft(target_modules=["query", "attention.output.dense"])),
    "peft classes": ("bert_classifier", *peft(target_modules=["query"], **SEQ)),
    "peft reward": ("reward", *peft(target_modules=["q_proj"], **SEQ)),
    "peft saved": (
        "mistral", *peft(target_modules=["q_proj"], modules_to_save=["lm_head", "norm"]),
    ),
    "peft ranks": (
        "llama", *peft(target_modules=QKVO, rank_pattern={r"layers\.3\.self_attn\.\w+": 2}),
    ),
    "peft experts": ("qwen3_moe", *peft(target_modules=["q_proj"],
                                        target_parameters=["experts.down_proj"])),
    "peft converted": ("qwen3_moe", *peft(target_modules=ALL, layers_to_transform=[1])),
    "peft mixtral": ("mixtral", *peft(target_modules=["q_proj", "w1", "w2", "w3"])),
    "ia3": ("t5", *kind(peft_type="IA3", target_modules=["k", "wo"], feedforward_modules=["wo"])),
    "boft": ("llama", *kind(peft_type="BOFT", boft_block_size=4, target_modules=["q_proj"])),
    "peft mamba": ("mamba", *peft(target_modules=["in_proj", "x_proj"])),
    "peft text alone": ("llava", *peft(target_modules=LM)),
    "axolotl names": (
        "llama", *axolotl("lora_target_modules:\n  - q_proj\n  - down_proj\n"
                          "peft_layers_to_transform: [2, 3]\nlora_mlp_kernel: true\n",
                          target_modules=["q_proj", "down_proj"], layers_to_transform=[2, 3]),
    ),
    "axolotl linear": (
        "mistral", *axolotl("lora_target_linear: true\nlora_modules_to_save: [embed_tokens]\n",
                          target_modules=ALL, modules_to_save=["embed_tokens"]),
    ),
    "axolotl pattern": (
        "llava", *axolotl("lora_target_modules: 'model.language_model.layers.[\\d]+."
                          "(mlp|self_attn).(up|down|gate|q|k|v|o)_proj'\n", target_modules=LM),
    ),
    "axolotl parameters": (
        "qwen3_moe", *axolotl("lora_target_modules: [q_proj]\nlora_target_parameters:\n"
                              "  - mlp.experts.gate_up_proj\n", target_modules=["q_proj"],
                              target_parameters=["mlp.experts.gate_up_proj"]),
    ),
    "factory all": ("mistral", *factory("finetuning_type: lora\nlora_target: all\n",
                                      target_modules=ALL)),
    "factory list": ("mistral", *factory("lora_target: [q_proj, v_proj]\n",
                                         target_modules=["q_proj", "v_proj"])),
    "factory tower frozen": ("llava", *factory("finetuning_type: lora\nlora_target: all\n",
                                               target_modules=LM)),
    "factory tower": (
        "qwen2_vl", *factory("lora_target: all\nfreeze_vision_tower: false\n",
                             target_modules=rf"{LM}|{EYES}(qkv|proj|fc1|fc2)"),
    ),
    "factory parts of names": ("llava", *factory("lora_target: q_proj\n",
                                                 target_modules=rf"{LLM}q_proj")),
    "swift all": ("mistral", *swift("tuner_type: lora\ntarget_modules: all-linear\n",
                                  target_modules=ALL)),
    "swift text": ("qwen2_vl", *swift("tuner_type: lora\n", target_modules=LM)),
    "swift tower": (
        "qwen2_vl", *swift("tuner_type: lora\nfreeze_llm: true\nfreeze_vit: false\n"
                           "freeze_aligner: false\n",
                           target_modules=rf"{EYES}(qkv|proj|fc1|fc2)|.*merger\.mlp\.[02]"),
    ),
    "swift classes": ("bert_classifier", *swift("task_type: seq_cls\n", **SEQ,
                                                target_modules=["query", "key", "value",
                                                                r"attention.output.dense",
                                                                "intermediate.dense",
                                                                "output.dense", "pooler.dense"])),
    "swift shell": (
        "mistral", "sft.sh", ("CUDA_VISIBLE_DEVICES=0 \\\nswift sft \\\n  --model org/model \\\n"
        "  --tuner_type lora --lora_rank 8 \\\n  --target_modules q_proj v_proj\n"),
        {"r": 8, **LM_TASK, "target_modules": ["q_proj", "v_proj"]},
    ),
    "trl shell": (
        "mistral", "sft.sh", ("accelerate launch --config_file zero3.yaml --num_processes 8 \\\n"
        "  trl/scripts/sft.py --model_name_or_path org/model --use_peft \\\n"
        "  --lora_r 4 --lora_target_modules q_proj v_proj\n"),
        {"r": 4, **LM_TASK, "target_modules": ["q_proj", "v_proj"]},
    ),
    "factory shell": (
        "mistral", "run.sh", ("torchrun --nproc_per_node 2 src/train.py --stage sft "
        "--model_name_or_path x --finetuning_type lora --lora_rank 4 --lora_target q_proj\n"),
        {"r": 4, **LM_TASK, "target_modules": ["q_proj"]},
    ),
    "trl one": (
        "mistral", *trl("lora_target_modules: [all-linear]\n", target_modules="all-linear"),
    ),
    "trl classes": (
        "llama_classifier", *trl("lora_task_type: SEQ_CLS\nlora_target_modules: [q_proj, v_proj]\n",
                                 **SEQ, target_modules=["q_proj", "v_proj"]),
    ),
    "script range": (
        "llama", *script("LoraConfig(r=RANK, target_modules=NAMES, layers_to_transform="
                         "[i for i in range(8, 12)])", target_modules=ALL,
                         layers_to_transform=[8, 9, 10, 11]),
    ),
    "unsloth default": (
        "mistral", *script(f"{FAST}(model, r=RANK)", **LM_TASK, target_modules=ALL),
    ),
    "unsloth embeddings": (
        "mistral", *script(f"{FAST}(model, r=4, target_modules=['q_proj', 'embed_tokens'])",
                         **LM_TASK, target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
    ),
    "unsloth last": ("llama", *script(f"{FAST}(model, r=4, finetune_last_n_layers=2)", **LM_TASK,
                                      target_modules=ALL, layers_to_transform=[10, 11])),
    "unsloth experts": (
        "qwen3_moe", *script(f"{FAST}(model, r=4, target_modules=['q_proj', 'down_proj'])",
                             **LM_TASK, target_modules=["q_proj", "down_proj"],
                             target_parameters=["mlp.experts.down_proj"]),
    ),
    "unsloth text": ("llava", *script(f"{EYED}(model, r=4, finetune_vision_layers=False)",
                                      **LM_TASK, target_modules=LM)),
    "unsloth attention": (
        "qwen2_vl", *script(f"{EYED}(model, r=4, finetune_mlp_modules=False)", **LM_TASK,
                            target_modules=rf"{LLM}({'|'.join(QKVO)})|{EYES}attn\.(qkv|proj)"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return lambda name: str(checks.folder(name, folder))


@pytest.mark.parametrize("case", CASES)
def test_a_config_trains_what_peft_adapts(models, tmp_path, case):
    name, file, text, lora = CASES[case]
    (tmp_path / file).write_text(text)
    assert checks.told(lw.check(models(name), tmp_path / file)) == checks.by_peft(name, **lora)


FROZEN = {
    "axolotl": (
        "llama", ("base_model: x\nunfrozen_parameters:\n  - ^lm_head.weight$\n"
        "  - model.layers.1[01].mlp\n"),
        lambda n: n == "lm_head.weight" or ".10.mlp" in n or ".11.mlp" in n,
    ),
    "axolotl towers": (
        "llava", "base_model: x\nfreeze_mm_modules: true\n",
        lambda n: "vision_tower" not in n and "projector" not in n,
    ),
    "factory last": (
        "llama", "finetuning_type: freeze\nfreeze_trainable_layers: 2\n",
        lambda n: ".10." in n or ".11." in n,
    ),
    "factory first": (
        "llama", ("finetuning_type: freeze\nfreeze_trainable_layers: -3\n"
        "freeze_trainable_modules: mlp,self_attn\nfreeze_extra_modules: norm\n"),
        lambda n: re.search(r"\.[012]\.(mlp|self_attn)|norm", n) is not None,
    ),
    "factory full": ("qwen2_vl", "finetuning_type: full\n", lambda n: "visual" not in n),
    "swift full": (
        "llama", ("tuner_type: full\nfreeze_parameters_ratio: 1.0\n"
        "trainable_parameters: [model.layers.11., lm_head]\n"),
        lambda n: n.startswith(("model.layers.11.", "lm_head")),
    ),
    "swift ratio": (
        "llama", ("tuner_type: full\nfreeze_parameters: [model.embed_tokens]\n"
        "freeze_parameters_regex: 'layers\\.[0-9]\\.'\n"),
        lambda n: "embed_tokens" not in n and not any(f"layers.{i}." in n for i in range(10)),
    ),
    "trl full": ("qwen2", "model_name_or_path: x\nlora_r: 8\n", lambda _: True),
}  # fmt: skip


@pytest.mark.parametrize("case", FROZEN)
def test_lists_of_weights_train_what_they_say(models, tmp_path, case):
    name, text, trains = FROZEN[case]
    (tmp_path / "config.yaml").write_text(text)
    found = lw.check(models(name), tmp_path / "config.yaml")
    assert checks.told(found) == checks.by_freezing(name, trains)
