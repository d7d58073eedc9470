"""The promises that every command keeps: a record written and shown, and bad input in one line."""

import json
import shlex

import pytest

import layerwise as lw
from layerwise.tuning.record import TuneRecord

TEXT = "{model} {texts} --text-column text --max-length 16"
SHORT = f"{TEXT} --steps 2 --batch-size 4"
MEASURE = f"measure {SHORT} --eval-examples 4 --ladder 1e-2 --seeds 0,1,2 --draws 1 -k 1"
PROBE = f"probe {TEXT} --batch-size 6 --label-column stars"
TOKENIZER, SLOPES = "tokenizer.json tokenizer_config.json", "slopes-procrustes.tex slopes-cka.tex"
#: Of each command: an example, its record, what it says, the file of the record and those beside.
WRITTEN = {
    "card": (
        f"card {TEXT} --examples 8 --rank 2", lw.LayerCard, "Layer Card",
        "card.json", "arrays.safetensors report.html",
    ),
    "place": (
        "place {card} -k 1", lw.Placement, "Placement", "placement.json", "lora_config.json",
    ),
    "check": ("check {model} {config}", lw.Check, "Check: tiny-llama", "check.json", "report.html"),
    "tune": (
        f"tune {SHORT} --eval-examples 4", TuneRecord, "held out", "tune.json",
        f"config.json generation_config.json log.jsonl model.safetensors {TOKENIZER}",
    ),
    "profile": (
        "profile {model} {tuned} --probes {probes}", lw.Profile,
        "Depth profile: tiny-llama → tiny-tuned", "profile.json", "report.html",
    ),
    "audit": (
        "audit {adapter} --probes {probes}", lw.Audit, "Audit of an adapter: adapter",
        "audit.json", "report.html",
    ),
    "control": (
        f"control {SHORT} --probes {{probes}}", lw.Control, "Control: tiny-llama", "control.json",
        "report.html runs",
    ),
    "distance": (
        f"distance {TEXT} --batch-size 6", lw.Distance, "Objective distances: ", "distance.json",
        "report.html",
    ),
    "probe": (PROBE, lw.Probing, "Probes by depth: ", "probe.json", "report.html"),
    "erase": (
        "erase {model} {pairs} --batch-size 6", lw.Erasure, "Erasure by depth: ", "erase.json",
        "report.html",
    ),
    "measure": (
        f"{MEASURE} --arms uniform --seeds 0", lw.Measure, "Rival placements: tiny-llama",
        "measure.json", "report.html",
    ),
    "analyse": (
        "analyse atlas", lw.Analysis, "Analysis of many runs: atlas (arXiv 2604.17177)",
        "analysis.json",
        f"report.html slopes.csv widths.csv widths.tex equal-step.tex {SLOPES}",
    ),
}  # fmt: skip


@pytest.fixture
def folders(model_folder, tuned_folder, adapter_folder, card_folder):
    """The small models and the card, by the name that a line has for them."""
    models = {"model": model_folder, "tuned": tuned_folder, "adapter": adapter_folder}
    return {**models, "card": card_folder}


@pytest.fixture
def typed(run, folders, text_file, probes, pairs_file, tmp_path):
    """Runs `layerwise` with a line in which the small files are named, and a folder for output."""
    places = {**folders, "texts": text_file, "probes": probes, "pairs": pairs_file, "out": tmp_path}
    (tmp_path.with_suffix(".json")).write_text(
        '{"peft_type": "LORA", "target_modules": ["q_proj"]}'
    )
    places["config"] = tmp_path.with_suffix(".json")
    return lambda line: run(*(word.format(**places) for word in shlex.split(line)))


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("command", WRITTEN)
def test_a_record_is_written_and_shown(typed, tmp_path, command):
    line, record, title, file, others = WRITTEN[command]
    said = typed(f"{line} --out {{out}}/new")
    assert said.code == 0, said.err
    assert title in said.out
    assert str(tmp_path / "new" / file) in said.out.replace("\n", "")
    assert names(tmp_path / "new") >= {file, *others.split()}
    assert command == "analyse" or names(tmp_path / "new") == {file, *others.split()}
    assert record.load(tmp_path / "new")


@pytest.mark.parametrize("command", WRITTEN)
def test_json_is_the_record_and_nothing_else(typed, tmp_path, command):
    line, _, _, file, _ = WRITTEN[command]
    said = typed(f"{line} --out {{out}} --format json")
    assert said.code == 0, said.err
    assert said.out.encode() == (tmp_path / file).read_bytes()
    found = json.loads(said.out)["schema"]
    assert found.rpartition("/")[0] == f"layerwise/{file.removesuffix('.json')}"


@pytest.mark.parametrize("command", WRITTEN)
def test_a_record_is_replaced_only_when_told_and_quiet_says_nothing(typed, tmp_path, command):
    line, record, _, file, _ = WRITTEN[command]
    (tmp_path / file).write_text("mine")
    held = typed(f"{line} --out {{out}}")
    assert held.code == 2
    assert f"already holds a {file}" in held.error
    assert (names(tmp_path), (tmp_path / file).read_text()) == ({file}, "mine")
    said = typed(f"{line} --out {{out}} --overwrite --format quiet")
    assert (said.code, said.out, said.err) == (0, "", "")
    assert record.load(tmp_path)


# --- Bad input --------------------------------------------------------------------------------

QUIET = "--format quiet --out {out}/new"
#: What is typed before the options that are wrong.
TYPED = {
    "": "",
    "card": f"card {TEXT} --examples 1 {QUIET}",
    "place": f"place {{card}} {QUIET}",
    "check": f"check {{model}} {{config}} {QUIET}",
    "tune": f"tune {SHORT} {QUIET}",
    "profile": f"profile {{model}} {{tuned}} {QUIET}",
    "audit": f"audit {QUIET}",
    "control": f"control {TEXT} --examples 16 --batch-size 4 --probes {{probes}} {QUIET}",
    "distance": f"distance {TEXT} --batch-size 6 {QUIET}",
    "probe": f"{PROBE} {QUIET}",
    "erase": f"erase {{model}} {{pairs}} {QUIET}",
    "measure": f"{MEASURE} {QUIET}",
    "analyse": f"analyse atlas {QUIET}",
}
#: By command, what is wrong and what is said; what stands between "…" is left to the program.
REFUSED = {
    "": {
        "": "Missing command; try: layerwise --help",
        "crad": "No such command 'crad'. Did you mean 'card'?; try: layerwise --help",
        "--vresion": "No such option '--vresion'. Did you mean '--version'?",
        "card": "Missing argument 'MODEL'; try: layerwise card --help",
        "card demo": "Missing argument 'DATA'",
        "card demo demo more": "Got unexpected extra argument (more)",
        "card demo demo --out": "Option '--out' requires an argument",
        "place": "Missing argument 'CARD'",
        "place {out}/none": "no such file",
        "erase {model} none.jsonl": "no such file of pairs",
        "compare": "Missing argument 'CARDS...'",
        "compare {card}": "at least 2",
        "control": "Missing argument 'MODEL', or --runs STANDARD EQUAL_STEP; try: layerwise cont",
        "control demo": "Missing argument 'DATA', or --runs",
        "control demo demo --runs a b": "MODEL and DATA have no meaning beside --runs",
        "control --runs a": "Option '--runs' requires 2 arguments",
        "control --runs {out}/a {out}/b": "no such file",
        "analyse": "Missing argument",
        "analyse nowhere": (
            "no such ledger: 'nowhere'; expected the folder of a study's runs, or atlas"
        ),
        "analyse 'atlas\0' --out {out}/new": "no such ledger",
        "analyse {out}": "ledger",
    },
    "card": {
        "--exmaples 3": "Did you mean '--examples'?",
        "--examples 0": (
            "--examples: '0'; expected a whole number, 1 or more; try: layerwise card --help"
        ),
        "--readout last": "value of --readout: 'last'; expected one of hf, residual, normed",
        "--format xml": "value of --format: 'xml'; expected one of human, json, quiet",
        "--text-column txet": "unknown column: 'txet' … did you mean 'text'?",
        "--where stars": "COLUMN=VALUE",
        "--where stars=9": "stars=9",
        "--label-column stars --objective causal-lm": "label column has no meaning for causal-lm",
        "--signals residual_nrom": "did you mean 'residual_norm'?",
        "--objective casual-lm": "did you mean 'causal-lm'?",
        "--dtype bfloat61": "did you mean 'bfloat16'?",
        "--targets q_porj": "q_proj",
        "--device gpu": "cuda",
    },
    "place": {
        "--layers 3": "expected 1 to 2",
        "--layers 0": "expected 1 to 2",
        "--policy unifrom": "did you mean 'uniform'?",
        "--goal ballanced": "did you mean 'balanced'?",
        "--stack encoder": "unknown stack: 'encoder'",
        "--blocks 0,2": "no such block",
        "--blocks -1": "no such block",
        "--blocks 1,1": "named twice",
        "--blocks ''": "no block in the placement",
        "--blocks one": "block indices such as",
        "--blocks 0 --policy gain": "one or the other",
        "--rank 0": "LoRA rank",
        "--alpha -1": "LoRA alpha",
        "--ranks 0=4 --blocks 0,1 --for ms-swift": "ranks that differ between modules, for ms-sw",
        "--ranks 1=x": "rank of a block: '1=x'; expected BLOCK=RANK, such as 3=4,7=16",
        "--ranks 7=2 --blocks 0,1": "no such block in model.layers: '7'; expected 0 to 1",
        "--for nemo": "unknown trainer: 'nemo'; expected one of peft, trl",
    },
    "check": {
        "--exmaples 3": "No such option '--exmaples'",
        "{config}": "one config at a time with --out: '2'",
        "none.yaml": "one config at a time",
    },
    "tune": {
        "--condition standart": (
            "unknown condition: 'standart'; expected one of standard, … did you mean 'standard'"
        ),
        "--objective casual-lm": "unknown objective: 'casual-lm' … did you mean 'causal-lm'",
        "--objective masked-lm": (
            "objective is not for a model of kind causal: 'masked-lm'; … --objective causal-lm"
        ),
        "--placement 99": "no such block in model.layers: '99'; expected 0 to 1",
        "--placement 1,1": "block of model.layers named twice: '1'",
        "--placement x": "block: 'x'; expected block indices",
        "--placement absent.json": "no such file: 'absent.json'; expected a layerwise/placement/1",
        "--placement 1 --condition standard": (
            "placement of adapters under a condition that trains the weights: 'standard'; … lora"
        ),
        "--top 1": "top has no meaning under condition standard: '1'; try: --condition top-m",
        "--condition top-m": "number of top blocks to train … --top M, with M from 1 to 2",
        "--tau 1e-3": (
            "tau has no meaning under condition standard: '0.001'; try: --condition equal-step"
        ),
        "--batch-size 25": (
            "fewer training examples than a batch holds: '24'; … at least 25; try: --batch-size 24"
        ),
        "--eval-examples 24": "examples held out for evaluation: '24'; expected fewer than the 24",
        "--from-config absent.json": "no such configuration file: 'absent.json'",
        "--steps 0": "value of --steps: '0'",
        "--track tensorbord": "value of --track: 'tensorbord'",
    },
    "profile": {
        "--stack model.layer": "unknown stack: 'model.layer'",
        "--readout last": "of --readout: 'last'; expected one of hf, residual, normed",
        "--probes none.txt": "none.txt",
        "--card {card}": (
            "card beside what cannot be audited: there is no adapter … "
            "try: layerwise profile BASE ADAPTER --card CARD"
        ),
    },
    "control": {
        "--tau 0": "value of --tau: '0'; expected a number, above 0",
        "--seeds ''": "value of --seeds: ''; expected whole numbers",
        "--seeds 0,one": "value of --seeds: '0,one'; expected whole numbers",
        "--seeds 1,1": "--seeds: '1,1'; expected whole numbers, such as 0,1,2, each once",
        "--condition lora": "No such option '--condition'",
        "--probes nowhere.txt": "nowhere.txt",
        "--objective masked-lm": "objective is not for a model of kind causal: 'masked-lm'",
        "--stack encoder": "unknown stack: 'encoder'",
        "--batch-size 400": "fewer training examples than a batch holds: '16'",
        "--where stars=9": "stars=9",
    },
    "audit": {
        "{model}": "model that is no adapter: … try: layerwise profile BASE ",
        "{out}/none": "no such model file or folder",
        "": "Missing argument 'ADAPTER'",
        "{adapter} --card nowhere": "no such file",
        "{adapter} --probes nowhere.txt": "nowhere.txt",
        "{adapter} --readout hf": "No such option '--readout'",
    },
    "distance": {
        "--objectives simsce": "unknown objective: 'simsce'",
        "--reference mlm": "unknown objective: 'mlm'",
        "--objectives nsp,simcse,masked-lm": "cannot do on this data: 'nsp, masked-lm'",
        "--objectives causal-lm": "nothing to compare the reference objective with",
        "--objectives ,": "value of --objectives: ','; expected a list of text",
        "--examples 6": "too few examples for two halves: '6'",
        "--batch-size 2": "batch size leaves barlow-twins too few texts to compare: '2'",
        "--where stars=7": "no row matches: 'stars=7'",
        "--label-column stars": "No such option",
    },
    "probe": {
        "--where stars=1": "needs two classes or more: '1'",
        "--label-column label": "unknown column: 'label'",
        "--label-column question": "classes with a single example",
        "--test-share 1": "of --test-share: '1'; expected a number, above 0 and below 1",
        "--stack encoder": "unknown stack: 'encoder'",
        "--readout last": "of --readout: 'last'; expected one of hf, residual, normed",
    },
    "erase": {"--folds 21": "more folds than pairs", "--max-length 2": "read the same in 2 tokens"},
    "measure": {
        "--arms unform": "unknown arm: 'unform'",
        "--quality blue": "unknown quality: 'blue'; expected one of loss, accuracy",
        "--quality bleu": "bleu of generated text under causal-lm",
        "-k 9": "number of layers: '9'; expected 1 to 2, the model's blocks",
        "--eval-examples 12": "out of 24: '12'; expected at most 11",
        "--ladder fast": "value of --ladder: 'fast'; expected numbers",
        "--ladder 1e-3,1e-3": (
            "'1e-3,1e-3'; expected numbers, such as 1e-4,1e-3, above 0 and below 1000, each once"
        ),
        "--card nowhere": "no such file",
    },
    "analyse": {
        "--threshold 0": "value of --threshold: '0'; expected a number, above 0",
        "--threshold nan": "value of --threshold: 'nan'; expected a number",
    },
}


@pytest.mark.parametrize(
    ("command", "wrong"), [(command, wrong) for command, rows in REFUSED.items() for wrong in rows]
)
def test_bad_input_is_one_line_and_leaves_nothing(typed, tmp_path, command, wrong):
    said = typed(f"{TYPED[command]} {wrong}")
    assert said.code == 2
    for part in REFUSED[command][wrong].split(" … "):
        assert part in said.error
    assert names(tmp_path) == set()
