"""Studies that are refused, as a user types them, before anything runs."""

import re

import pytest
import yaml

from layerwise.errors import BadInputError
from layerwise.study.check import check
from layerwise.study.expand import study_from
from layerwise.study.read import checked

#: What is put into a study of one llama, and what is said of it. Paths are those of the models.
REFUSED = [
    # Keys.
    ("seed: [0]", r"unknown key of a study: 'seed'.*did you mean 'seeds'\?"),
    ("modles: {}", r"unknown key of a study: 'modles'.*did you mean 'models'\?"),
    ("schema: layerwise/study/2", "study of another schema.*try: schema: layerwise/study/1"),
    ("schema: 1", "study of another schema"),
    ("name: ../up", "name of a study that cannot be a file name"),
    ("name: null", "name of a study"),
    ("keep_weights: 'yes'", "value of keep_weights: 'yes'"),
    # Models.
    ("models: {}", "study without models"),
    ("models: null", "value of models"),
    ("models: {a/b: demo}", "name of a model"),
    (f"models: {{{'a' * 120}: demo}}", "name of a model"),
    ("models: {m: {}}", r"models\.m needs one of source and pretrain"),
    ("models: {m: {source: a, pretrain: {}}}", "needs one of source and pretrain"),
    ("models: {m: {source: 3}}", r"value of models\.m\.source: '3'"),
    (r'models: {m: {source: "a\0b"}}', "not plain text"),
    ("models: {m: {source: a, seed: 1}}", r"models\.m\.seed: the matrix sets it"),
    ("models: {m: {source: a, source_tuning: 3}}", r"value of models\.m\.source_tuning"),
    ("models: {m: {source: a, source_tuning: {}}}", r"source_tuning\.data"),
    ("models: {m: {source: a, source_tuning: {data: d, seed: 1}}}", r"g\.seed: the matrix sets it"),
    ("models: {m: {pretrain: {config: 3}}}", r"value of models\.m\.pretrain\.config"),
    ("models: {m: {pretrain: {config: no.json}}}", r"cannot be read \(No such file"),
    ("models: {m: {pretrain: {config: {}, data: d}}}", r"pretrain\.tokenizer"),
    ("models: {m: {source: ./none}}", "no such model file or folder"),
    # Settings.
    ("defaults: [1]", "value of defaults"),
    ("defaults: {condition: lora}", r"defaults\.condition: the matrix sets it"),
    ("defaults: {data: {a: 1}}", r"value of defaults\.data.*too deep"),
    ("defaults: {steps: .nan}", r"value of defaults\.steps"),
    ("defaults: {steps: .inf}", r"value of defaults\.steps"),
    ("defaults: {1: 2}", "key in defaults that is not plain text"),
    ("defaults: {stesp: 3}", r"unknown setting of tune: 'stesp'.*did you mean 'steps'\?"),
    ("defaults: {steps: many}", "value of steps: 'many'; expected a whole number"),
    ("defaults: {steps: 2.5}", "value of steps: '2.5'; expected a whole number"),
    ("defaults: {steps: true}", "value of steps: 'True'; expected a whole number"),
    ("defaults: {steps: 0}", "value of steps: '0'; expected a whole number, 1 or more"),
    ("defaults: {weight_decay: -1}", "value of weight_decay: '-1'; expected a number, 0 or more"),
    ("defaults: {learning_rate: fast}", "value of learning_rate.*a number"),
    ("defaults: {bf16: 1}", "value of bf16: '1'; expected true or false"),
    ("defaults: {where: [1]}", "value of where.*a list of text"),
    ("defaults: {text_column: 3}", "value of text_column: '3'; expected text"),
    ("defaults: {data: no-such.csv}", "no such data file: 'no-such.csv'"),
    ("defaults: {text_column: txet}", "unknown column.*'txet'"),
    ("defaults: {top: 1}", r"top has no meaning under condition standard.*override: .*top-m"),
    ("profile: {readuot: hf}", r"unknown setting of profile: 'readuot'.*'readout'\?"),
    ("profile: {readout: raw}", "value of readout: 'raw'; expected one of hf, residual, normed"),
    ("profile: {probes: none.txt}", "no such data file: 'none.txt'"),
    ("profile: {bootstrap: x}", "value of bootstrap"),
    # The matrix.
    ("objectives: causal-lm", "value of objectives.*a list"),
    ("objectives: [a, a]", "objectives with a member that stands twice: 'a'"),
    ("objectives: [3]", "value of objectives: '3'"),
    ("objectives: []", "model llama without objectives"),
    ("objectives: [causal-ml]", r"unknown objective: 'causal-ml'.*did you mean 'causal-lm'\?"),
    ("objectives: [auto]", "unknown objective: 'auto'"),
    ("objectives: [sft]", "sft needs a prompt column"),
    ("objectives: [masked-lm]", "objective is not for a model of kind causal"),
    ("conditions: []", "model llama without conditions"),
    ("conditions: [top-m]", "number of top blocks"),
    ("conditions: [standrad]", r"unknown condition: 'standrad'.*did you mean 'standard'\?"),
    ("seeds: [0, true]", "value of seeds: 'True'"),
    ("seeds: [-1]", "value of seeds: '-1'"),
    ("seeds: [1, 1]", "seeds with a member that stands twice"),
    ("seeds: 3", "value of seeds: '3'"),
    ("seeds: []", "matrix without a run"),
    # Placements, which are for lora.
    ("placements: {../x: null}", "name of a placement"),
    ("placements: {low: top}", r"blocks of placements\.low: 'top'"),
    ("placements: {low: {blocks: top}}", r"blocks of placements\.low\.blocks: 'top'"),
    ("placements: {low: {rank: {a: 1}}}", r"value of placements\.low\.rank"),
    ("placements: {low: 0}", "placements of a study that has no condition for them"),
    (
        "models: {a: {source: x, placements: {low: 0}, conditions: [uniform]}}",
        "placements of model a, which has no condition for them",
    ),
    ("conditions: [lora]\nplacements: {low: 7}", "no such block in .*: '7'"),
    ("conditions: [lora]\nplacements: {low: {blocks: 7}}", "no such block in .*: '7'"),
    ("conditions: [lora]\nplacements: {low: {targets: [q_pro]}}", "q_pro"),
    ("conditions: [lora]\nplacements: {low: {policy: ski, targets: [q_pro]}}", "q_pro"),
    ("conditions: [lora]\nplacements: {low: {policy: sky}}", "unknown policy: 'sky'"),
    ("conditions: [lora]\nplacements: {low: {policy: ski, blocks: 0}}", "both .* policy: 'ski'"),
    ("conditions: [lora]\nplacements: {low: {layers: 2}}", "without a policy: '2'.*drop layers"),
    ("conditions: [lora]\nplacements: {low: {blocks: 0, examples: 2}}", "examples of a placement"),
    ("conditions: [lora]\nplacements: {low: {rnak: 2}}", r"of placement: 'rnak'.*'rank'"),
    ("conditions: [lora]\nplacements: {low: {rank: x}}", "value of rank: 'x'"),
    # Rules.
    ("exclude: [{}]", r"exclude\[0\] selects every run"),
    ("exclude: {model: m}", "value of exclude.*a list of rules"),
    ("exclude: [{modle: llama}]", r"key in exclude\[0\]: 'modle'.*did you mean 'model'\?"),
    ("exclude: [{model: d}]", r"unknown model in exclude\[0\]: 'd'"),
    ("exclude: [{seed: 9}]", r"unknown seed in exclude\[0\]: '9'"),
    ("override: [{set: {steps: 1}}]", r"value of override\[0\]\.where"),
    ("override: [{where: {model: llama}, set: {}}]", r"override\[0\] sets nothing"),
    ("override: [{where: {model: llama}, sets: {}}]", r"'sets'.*did you mean 'set'\?"),
    ("override: [{where: {model: llama}, set: {seed: 1}}]", "the matrix sets it"),
    (
        "override: [{where: {condition: standrad}, set: {steps: 1}}]",
        r"condition in override\[0\]: 'standrad'.*did you mean 'standard'\?",
    ),
    (
        "exclude: [{model: llama}]\noverride: [{where: {model: llama}, set: {steps: 1}}]",
        r"override\[0\] that selects no run: 'model: llama'",
    ),
    # What is measured beside the matrix.
    ("distance: [1]", "value of distance"),
    ("distance: {objectives: simcse}", r"value of distance\.objectives"),
    ("distance: {exmaples: 3}", r"unknown setting of distance: 'exmaples'.*'examples'\?"),
    ("distance: {objectives: [masked-lm]}", "objectives that .* cannot do"),
    ("distance: {reference: masked-lm}", "objectives that .* cannot do"),
    ("probing: {eras: {}}", r"unknown key in probing: 'eras'.*did you mean 'erase'"),
    ("probing: {probe: [1]}", r"value of probing\.probe"),
    ("probing: {probe: {data: labelled.jsonl, where: [label=a]}}", "needs two classes or more"),
    ("probing: {probe: {}}", "unknown column: 'label'"),
    (
        "probing: {probe: {data: labelled.jsonl, readout: last}}",
        "value of readout: 'last'; expected one of hf",
    ),
    ("probing: {erase: {}}", "erase of model llama without pairs"),
    ("probing: {erase: {seed: 1}}", r"probing\.erase\.seed: the matrix sets it"),
    ("probing: {erase: {pairs: none.jsonl}}", "no such file of pairs"),
    ("probing: {erase: {pairs: pairs.jsonl, draw: 3}}", r"setting of erase: 'draw'.*'draws'"),
    ("probing: {erase: {pairs: pairs.jsonl, folds: many}}", "value of folds: 'many'; expected a w"),
    ("probing: {ladder: {objective: causal-lm, tops: [3]}}", "rungs of the ladder"),
    ("probing: {ladder: {objective: masked-lm}}", "objective is not for a model"),
    (
        "probing: {interventions: {objective: causal-lm, blocks: 3}}",
        "number of blocks of the interventions: '3'",
    ),
]


@pytest.mark.parametrize(("change", "match"), REFUSED)
def test_what_a_study_cannot_say_is_answered(plain, files, monkeypatch, change, match):
    monkeypatch.chdir(files)
    try:
        study = study_from(plain(**yaml.safe_load(change)))
        (fault,) = check(study, study.cells)
    except BadInputError as error:
        said = error.message
    else:
        said = fault.message
    assert re.search(match, said), said


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("study", "TRUST: VALUE"),
        ("defaults", "defaults: {data: demo, TRUST: VALUE}"),
        ("profile", "profile: {TRUST: VALUE}"),
        ("models.m", "models: {m: {source: a, TRUST: VALUE}}"),
        ("models.m.pretrain", "models: {m: {pretrain: {TRUST: VALUE}}}"),
        ("models.m.source_tuning", "models: {m: {source: a, source_tuning: {TRUST: VALUE}}}"),
        ("placements.low", "placements: {low: {policy: ski, TRUST: VALUE}}"),
        ("distance", "distance: {TRUST: VALUE}"),
        ("probing.probe", "probing: {probe: {TRUST: VALUE}}"),
        ("override[0].set", "override: [{where: {seed: 0}, set: {TRUST: VALUE}}]"),
    ],
)
def test_a_study_cannot_say_that_code_may_run(plain, tmp_path, where, change, value):
    change = change.replace("TRUST", "trust_remote_code").replace("VALUE", str(value))
    said = rf"^trust_remote_code in {re.escape(where)}, which a file cannot give: '{value}'.*-code,"
    with pytest.raises(BadInputError, match=said):
        checked(plain(**yaml.safe_load(change)), folder=tmp_path)


def test_what_json_has_not_is_refused(plain):
    with pytest.raises(BadInputError, match=r"value of defaults\.steps"):
        study_from(plain(defaults={"steps": object()}))


def test_a_matrix_that_is_far_too_large_is_refused_at_once(plain):
    models = {f"m{i}": "x" for i in range(100)}
    with pytest.raises(BadInputError, match="too many runs: '2,000,000'; expected at most 1,000,0"):
        study_from(plain(models=models, seeds=list(range(20_000))))
