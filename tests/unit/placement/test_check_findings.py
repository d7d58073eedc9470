"""What a config does not do, or does unsaid, is found; what was corrected is clean."""

import json
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

import layerwise as lw
from layerwise.placement.check.case import SAID
from layerwise.report.blocks import Strip, Table, Text
from layerwise.report.documents.check import document
from support import checks, versions

Q = {"target_modules": ["q_proj"]}
DECOY = ["q_proj", "model.layers.3.mlp.up_proj"]
AXOLOTL = "base_model: x\nadapter: lora\nlora_r: 4\n"
SWIFT, FULL = "model: x\ntuner_type: lora\n", "model: x\ntuner_type: full\n"
FACTORY = "model_name_or_path: x\nstage: sft\n"
#: model, config (PEFT's as a mapping, YAML as text), what is found, what the correction holds.
FOUND = {
    "misspelt": (
        "mistral", {"target_modules": ["q_proj", "v_porj"]}, "target-unmatched", '"v_proj"',
    ),
    "excluded by saving": (
        "mistral", {"target_modules": ["q_proj", "lm_head"], "exclude_modules": ["lm_head"]},
        "target-idle", "q_proj",
    ),
    "list for all": ("mistral", {"target_modules": ["all-linear"]}, "target-unmatched",
                     '"target_modules": "all-linear"'),
    "all in a list": ("mistral", {"target_modules": ["all-linear", "q_proj"]}, "target-unmatched",
                      '_proj"\n  ]'),
    "beyond the depth": (
        "llama", {**Q, "layers_to_transform": [11, 12]}, "layers-out-of-range", "11",
    ),
    "from the end too": (
        "llama", {**Q, "layers_to_transform": [-1, 3]}, "layers-out-of-range", "[\n    3\n  ]",
    ),
    "misspelt head": (
        "mistral", {**Q, "modules_to_save": ["lm_haed"]}, "saved-unmatched", "lm_head",
    ),
    "no layers": ("mistral", {**Q, "layers_to_transform": []}, "layers-empty", "q_proj"),
    "full name": (
        "llama", {"target_modules": DECOY, "layers_to_transform": [5]}, "full-name", '_proj"\n  ]',
    ),
    "both stacks by number": (
        "t5", {"target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": "block"},
        "second-stack", "decoder.block.1.layer.1.EncDecAttention.q",
    ),
    "tower by name": ("llava", Q, "second-stack", "model.language_model.layers.0.self_attn.q_proj"),
    "all-linear with layers": (
        "mistral", {"target_modules": "all-linear", "layers_to_transform": [1]}, "text-with-layers",
        "down_proj",
    ),
    "text for a list": ("mistral", {"target_modules": "q_proj"}, "text-is-a-pattern", '[\n    "q_'),
    "1 is 11 too": (
        "llama", {**Q, "rank_pattern": {"layers.1.*": 4}}, "pattern-too-much", r"layers\\.1\\.self",
    ),
    "1 is 11 in targets": (
        "llama", {"target_modules": ".*layers.1.*q_proj"}, "pattern-too-much", r"layers\\.1\\.self",
    ),
    "rank of nothing": ("mistral", {**Q, "rank_pattern": {"k": 4}}, "pattern-unmatched", "q_proj"),
    "nothing excluded": (
        "mistral", {**Q, "exclude_modules": ["zz"]}, "exclude-unmatched", "q_proj",
    ),
    "nothing saved": ("mistral", {**Q, "modules_to_save": ["embed"]}, "saved-unmatched", "q_proj"),
    "saved as text": (
        "mistral", {**Q, "modules_to_save": "lm_head"}, "saved-too-much", '[\n    "lm_head"\n  ]',
    ),
    "text of two": (
        "mistral", {"target_modules": "q_proj,v_proj"}, "text-is-a-pattern", '"q_proj",\n    "v_pr',
    ),
    "all": ("mistral", {"target_modules": "all"}, "refused", '"all-linear"'),
    "more saved": ("mistral", {**Q, "modules_to_save": ["head"]}, "saved-too-much", "lm_head"),
    "frozen head": ("bert_classifier", {"target_modules": ["query"]}, "head-frozen", "SEQ_CLS"),
    "frozen head of tokens": (
        "tokens", {"target_modules": ["query"]}, "head-frozen", "TOKEN_CLS",
    ),
    "bare model": (
        "bare", {**Q, "layers_to_transform": [1]}, "refused", '"layers',
    ),
    "tied": ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["wte"]}, "tied-embeddings",
             "ensure_weight_tying"),
    "experts whatever the layers": (
        "qwen3_moe", {**Q, "target_parameters": ["experts.down_proj"], "layers_to_transform": [1]},
        "parameters-ignore-layers", "model.layers.1.mlp.experts.down_proj",
    ),
    "converted whatever the layers": (
        "qwen3_moe", {"target_modules": ["q_proj", "gate_proj", "up_proj", "down_proj"],
                      "layers_to_transform": [1]}, "parameters-ignore-layers", None,
    ),
    "no such parameter": (
        "qwen3_moe", {**Q, "target_parameters": ["experts.w1"]}, "parameter-unmatched", "q_proj",
    ),
    "experts left out": ("gpt_oss", {"target_modules": "all-linear"}, "experts-left-out",
                         "experts.gate_up_proj"),
    "weights that are not called": (
        "mamba", {"target_modules": ["in_proj", "dt_proj"]}, "bypassed", '"in_proj"\n  ]',
    ),
    "a bias where there is none": (
        "llama", {**Q, "bias": "all"}, "bias-in-vain", "q_proj",
    ),
    "axolotl beyond": (
        "llama", AXOLOTL + "lora_target_linear: true # all\npeft_layers_to_transform:\n- 10\n- 12\n"
        "datasets:\n  - path: x\n", "layers-out-of-range",
        "lora_target_linear: true # all\npeft_layers_to_transform: [10]\ndatasets:\n  - path: x\n",
    ),
    "key of another": (
        "mistral", AXOLOTL + "lora_target_modules: [q_proj]\nlayers_to_transform: [1]\n",
        "key-unknown", "lora_target_modules: [q_proj]\npeft_layers_to_transform: [1]\n",
    ),
    "key of nobody": (
        "mistral", {"peft_type": "LORA", "target_modules": ["q_proj"], "nonsense": 1},
        "key-unknown", '"q_proj"\n  ]\n}',
    ),
    "misspelt key": (
        "mistral", AXOLOTL + "lora_target_modules: [q_proj]\npeft_layer_to_transform: [1]\n",
        "key-unknown", "lora_target_modules: [q_proj]\npeft_layers_to_transform: [1]\n",
    ),
    "misspelt beside the right one": (
        "mistral", AXOLOTL + "lora_target_modules: [q_proj]\nlora_target_module: [k_proj]\n",
        "key-unknown", "lora_r: 4\nlora_target_modules: [q_proj]\n",
    ),
    "axolotl escaped": (
        "llama", 'base_model: x\nunfrozen_parameters:\n  - model\\.layers\\.11\\.\n',
        "freeze-unmatched nothing-trains", '["model.layers.11."]',
    ),
    "factory deeper": (
        "llama", FACTORY + "finetuning_type: freeze\nfreeze_trainable_layers: 99\n",
        "layers-out-of-range", "freeze_trainable_layers: 12",
    ),
    "factory with unread keys": (
        "mistral", FACTORY + "finetuning_type: lora\nfreeze_trainable_layers: 2\n", "key-ignored",
        "stage: sft\nfinetuning_type: lora\n",
    ),
    "swift prefix": (
        "llama", FULL + "freeze_parameters_ratio: 1\ntrainable_parameters: [model.layers.1]\n",
        "pattern-too-much", None,
    ),
    "swift part without effect": (
        "llava", SWIFT + "target_modules: [k_proj]\nfreeze_vit: true\n",
        "key-ignored second-stack", "language_model.layers.2.self_attn.k_proj",
    ),
    "trl without adapters": (
        "mistral",
        "model_name_or_path: x\nuse_peft: false\nlora_target_modules: [q_proj, v_proj]\n",
        "key-ignored", "use_peft: true\nlora_target_modules: [q_proj, v_proj]\n",
    ),
    "axolotl without adapters": (
        "mistral", "base_model: x\nlora_r: 8\nlora_target_linear: true\n", "key-ignored",
        "lora_target_linear: true\nadapter: \"lora\"\n",
    ),
    "pattern with layers": (
        "mistral", {"target_modules": ".*q_proj$", "layers_to_transform": [1]}, "text-with-layers",
        '[\n    "q_proj"\n  ]',
    ),
    "pattern of ms-swift": (
        "llama", SWIFT + "target_regex: .*layers.1[01].*\n", "refused", "target_regex: ",
    ),
}  # fmt: skip
CLEAN = {
    "full names": ("llama", {"target_modules": DECOY}),
    "pattern of one stack": ("llava", {"target_modules": r".*language_model.*q_proj"}),
    "both stacks": ("t5", {"target_modules": ["q", "v"]}),
    "10 to 11": ("llama", {"target_modules": r".*layers\.1[01]\..*q_proj"}),
    "inner number": ("t5", {"target_modules": r".*layer\.1\.EncDecAttention\.q"}),
    "attention of experts": ("qwen3_moe", Q),
    "saved head": (
        "bert_classifier", {"target_modules": ["query"], "modules_to_save": ["classifier"]},
    ),
    "other embedding": ("mistral", {**Q, "modules_to_save": ["embed_tokens", "lm_head"]}),
    "axolotl": ("mistral", AXOLOTL + "lora_target_linear: true\nlora_mlp_kernel: true\n"),
    "factory": ("llava", FACTORY + "lora_target: all\nquantization_bit: 4\n"),
    "keys of theirs": (
        "mistral", AXOLOTL + "lora_target_modules: [q_proj]\nlr_scheduler: cosine\noptimizer: x\n"
        "lora_dropout: 0.1\nlora_on_cpu: true\nnum_epochs: 1\nlearning_rate: 1e-4\n"
        "warmup_ratio: 0.1\nsaves_per_epoch: 1\nsequence_len: 9\nloraplus_lr_ratio: 1\n",
    ),
    "keys of LLaMA-Factory": (
        "mistral", FACTORY + "lora_target: q_proj\nevaluation_strategy: steps\ncutoff_len: 9\n"
        "preprocessing_num_workers: 2\npissa_init: true\nloraplus_lr_ratio: 1\nval_size: 0.1\n",
    ),
    "swift": ("qwen2_vl", SWIFT + "freeze_vit: false\nfreeze_aligner: true\n"),
}  # fmt: skip


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """A check with its correction; a mapping is PEFT's file, text is YAML."""
    folder = tmp_path_factory.mktemp("checks")

    def made(name, config):
        file = folder / ("adapter_config.json" if isinstance(config, dict) else "config.yaml")
        peft = {"peft_type": "LORA", "r": 4}
        file.write_text(json.dumps(peft | config) if isinstance(config, dict) else config)
        return lw.check(str(checks.folder(name, folder)), file, fix=True)

    return made


@pytest.mark.parametrize(("config", "key", "meant"), [
    (FACTORY + "lora_alfa: 8\n", "lora_alfa", "lora_alpha"),
    (FACTORY + "lora_drop: 0.1\n", "lora_drop", "lora_dropout"),
    (FACTORY + "learing_rate: 1e-4\n", "learing_rate", "learning_rate"),
    (AXOLOTL + "lora_target_linear: true\nalpha: 8\n", "alpha", "lora_alpha"),
    (AXOLOTL + "lora_target_linear: true\nlearning_rte: 1e-4\n", "learning_rte", "learning_rate"),
    (SWIFT + "lora_rnk: 8\n", "lora_rnk", "lora_rank"),
])  # fmt: skip
def test_misspelt_keys_are_found_with_what_they_mean(check, config, key, meant):
    (found,) = check("mistral", config).findings
    assert (found.code, found.key, found.remedy) == ("key-unknown", key, meant)


def unsloth(tmp_path, *targets, **more):
    path = tmp_path / "train.py"
    given = "".join(f", {key}={value!r}" for key, value in more.items())
    path.write_text(
        f"FastLanguageModel.get_peft_model(model, target_modules={[*targets]!r}{given})"
    )
    return path


def test_unsloth_trains_ends_of_the_model_whole(tmp_path):
    """`lm_head` and `embed_tokens` among the targets go to those that are saved whole."""
    model = str(checks.folder("mistral", tmp_path))
    found = lw.check(model, unsloth(tmp_path, "q_proj", "lm_head", "embed_tokens"))
    assert {module.name: module.how for module in found.outside} == {
        "lm_head": "whole", "model.embed_tokens": "whole",
    }  # fmt: skip
    assert not found.findings
    misspelt = lw.check(model, unsloth(tmp_path, "q_proj", random_sate=1))
    assert [(f.key, f.remedy) for f in misspelt.findings] == [("random_sate", "random_state")]
    fine = unsloth(tmp_path, "q_proj", random_state=1, use_gradient_checkpointing="unsloth", r=8)
    assert lw.check(model, fine).clean


@pytest.mark.parametrize("case", FOUND)
def test_it_is_found_and_corrected(check, case):
    name, config, codes, corrected = FOUND[case]
    if versions.FOUR and name == "qwen3_moe":
        pytest.skip("its experts fused later")
    found = check(name, config)
    assert {f.code for f in found.findings} == {*codes.split()}
    if corrected is None:
        assert found.fixed is None
        assert any("no corrected config" in note for note in found.notes)
    else:
        assert corrected in found.fixed
        is_json = isinstance(config, dict)
        assert check(name, json.loads(found.fixed) if is_json else found.fixed).clean


@pytest.mark.parametrize("case", CLEAN)
def test_nothing_is_found_where_nothing_is_wrong(check, case):
    found = check(*CLEAN[case])
    assert (found.findings, found.fixed) == ((), None)
    assert found.parameters


def test_each_finding_is_in_the_docs():
    docs = (Path(__file__).parents[3] / "docs" / "check.md").read_text()
    assert {code for code in SAID if f"`{code}`" not in docs} == set()


ALL = "names such as down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
#: By config: the keys that are at fault, each with what to write, and whether that is corrected.
REFUSED = {
    "rank": ({**Q, "r": 0}, {"r": "8, PEFT's own value"}, True),
    "bias": ({**Q, "bias": "some"}, {"bias": "none, PEFT's own value"}, True),
    "dropout": ({**Q, "lora_dropout": 2}, {"lora_dropout": "0.0, PEFT's own value"}, True),
    "task": ({**Q, "task_type": "CAUSAL"}, {"task_type": "leave it out"}, True),
    "start": ({**Q, "init_lora_weights": "pisa"}, {"init_lora_weights": "True, PEFT's own"}, True),
    "pattern alone": ({**Q, "layers_pattern": "layers"}, {"layers_pattern": "leave it out"}, True),
    "pattern": (
        {**Q, "layers_to_transform": [1], "layers_pattern": "h"}, {"layers_pattern": "layers"}, True
    ),
    "ranks": ({**Q, "rank_pattern": {"q_proj": "x"}}, {"rank_pattern": "leave it out"}, True),
    "excluded": ({**Q, "exclude_modules": ["q_proj"]}, {"exclude_modules": "leave it out"}, True),
    "replicated": (
        {**Q, "layer_replication": [[0, 9]]}, {"layer_replication": "leave it out"}, True
    ),
    "two": (
        {"target_modules": ["q_porj"], "r": -1},
        {"target_modules": "q_proj", "r": "8, PEFT's own value"}, True,
    ),
    "three": (
        {**Q, "r": 0, "bias": "some", "layers_to_transform": [9]},
        {"layers_to_transform": "blocks of 0 to 2", "r": "8, P", "bias": "none, P"}, True,
    ),
    "pattern and another": (
        {"target_modules": ".*(norm|q_proj)", "bias": "some"},
        {"target_modules": r"model\.layers", "bias": "none, PEFT's own value"}, True,
    ),
    "misspelt": ({"target_modules": ["out_proj"]}, {"target_modules": "o_proj"}, True),
    "misspelt ones": (
        {"target_modules": ["q_porj", "fc1"], "layers_to_transform": [1]},
        {"target_modules": "q_proj for q_porj; leave it out for fc1"}, True,
    ),
    "misspelt for three": (
        {"target_modules": ["qkv_proj"]}, {"target_modules": "k_proj or q_proj or v_proj"}, False,
    ),
    "no such with layers": (
        {"target_modules": ["query"], "layers_to_transform": [1]}, {"target_modules": ALL}, False,
    ),
    "no such": ({"target_modules": ["query", "c_attn"]}, {"target_modules": ALL}, False),
    "no adapter fits": (
        {"target_modules": ["q_proj", "norm"]}, {"target_modules": "leave it out"}, True,
    ),
    "no adapter fits any": ({"target_modules": ["norm", "mlp"]}, {"target_modules": ALL}, False),
    "pattern of all": ({"target_modules": ".*"}, {"target_modules": r"(?:lm_head|model\."}, True),
    "pattern of none": ({"target_modules": "quer.*"}, {"target_modules": ALL}, False),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_proposed_follows_from_what_peft_refuses(check, case):
    config, remedies, corrected = REFUSED[case]
    found = check("mistral", config)
    assert {f.key for f in found.findings} == remedies.keys()
    assert all(f.remedy.startswith(remedies[f.key]) for f in found.findings)
    assert all("\n" not in f.text and "(model)" not in f.text for f in found.findings)
    assert (found.fixed is not None) == corrected
    assert found.parameters == 0
    assert found.findings == check("mistral", config).findings


@pytest.mark.parametrize(
    ("name", "config", "lowest", "blocks"),
    [
        ("llama", {**Q, "layers_to_transform": [9, 11]}, ("model.layers", 9), 3),
        ("t5", {"target_modules": ".*encoder.*2.*q"}, ("encoder.block", 2), 4),
        ("llava", {"target_modules": "model.vis.*out_proj"}, ("model.vision_tower", 0), 5),
        (
            "llama", {**Q, "layers_to_transform": [11], "modules_to_save": ["embed_tokens"]},
            ("model.layers", 11), 12,
        ),
    ],
)  # fmt: skip
def test_how_far_down_the_backward_goes(check, name, config, lowest, blocks):
    found = check(name, config)
    assert found.lowest.stack.startswith(lowest[0])
    assert (found.lowest.index, found.backward_blocks) == (lowest[1], blocks)


def test_what_a_correction_changes_besides_is_said(check):
    found = check("mistral", FACTORY + "lora_target: q_proj,v_porj\nlora_rank: 0\n")
    assert [f.key for f in found.findings] == ["lora_rank"]
    assert 'lora_target: "q_proj,v_proj"\nlora_rank: 8\n' in found.fixed
    assert "corrected too: target-unmatched in lora_target (v_porj)" in found.notes


def test_what_trains_stands_out_in_the_report(check):
    found = check("mistral", Q)
    (table, *_) = (block for block in document(found).blocks if isinstance(block, Table))
    trained = {n for n, kind in enumerate(found.kinds) if kind.kind == "self_attn.q_proj"}
    assert (table.marked, table.mark) == (trained, "trains")


def test_kinds_that_train_in_all_blocks_are_a_line_and_the_others_drawn(check):
    def told(name, config):
        blocks = document(check(name, config)).blocks
        lines = [block.text for block in blocks if isinstance(block, Text)]
        return lines, [(x.label, x.on, len(x.indices)) for x in blocks if isinstance(x, Strip)]

    both = {"target_modules": ["q_proj", "k_proj"]}
    lines, strips = told("llama", both)
    assert lines == ["In all 12 blocks: self_attn.q_proj, self_attn.k_proj."]
    assert strips == []
    lines, strips = told("llama", {**both, "layers_to_transform": [9, 11]})
    assert lines == ["Filled: one of the kind trains. Empty: none does."]
    assert strips == [("self_attn.q_proj, self_attn.k_proj", {9, 11}, 12)]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_objects_in_hand_are_checked_and_left_alone(tmp_path):
    model, config = checks.model("llama"), LoraConfig(r=4, target_modules=["q_proj"])
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    found = lw.check(model, config)
    assert checks.told(found) == checks.by_peft("llama", r=4, target_modules=["q_proj"])
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert config.target_modules == {"q_proj"}
    with pytest.raises(lw.LayerwiseError, match="model that has adapters already"):
        lw.check(get_peft_model(model, config), config)
    with pytest.raises(lw.LayerwiseError, match=r"config: 'int'; expected a LoraConfig"):
        lw.check(model, 3)
