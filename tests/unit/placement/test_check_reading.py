"""Configs as people have them, and files that are none: one line, and nothing runs."""

import json
import time

import pytest

import layerwise as lw
from layerwise.errors import BadInputError
from layerwise.placement.check import adapted
from layerwise.placement.check.reading import read_config_file
from layerwise.placement.check.script import called
from support import checks

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
CALL = "LoraConfig(target_modules={})\n"
#: By file: what is in it, and what is said of it.
HOSTILE = {
    "list.json": ("[1, 2]", "config without keys and values"),
    "deep.json": ("[" * 200_000, "cannot read the config (maximum recursion depth"),
    "cut.json": ('{"r": ', "cannot read the config (Expecting value, line 1)"),
    "number.json": ('{"peft_type": "LORA", "target_modules": 3}', "value of target_modules: '3'"),
    "rank.json": ('{"peft_type": "LORA", "r": "many"}', "value of r: 'many'; expected a whole n"),
    "kind.json": ('{"peft_type": "PREFIX_TUNING"}', "adapters of a kind that sits on no module"),
    "regex.json": (
        '{"peft_type": "LORA", "target_modules": ".*(q_proj"}', "pattern in target_modules (",
    ),
    "endless.json": (
        '{"peft_type": "LORA", "target_modules": "((.|.)+)+#"}', "more than 0.5 s to match",
    ),
    "bomb.yaml": (BOMB, "unfold to too many values"),
    "loop.yaml": ("base_model: &a [*a]\n", "unfold to too many values"),
    "tag.yaml": ("adapter: !!python/object/apply:os.system ['touch ran']\n", "constructor"),
    "binary.yaml": ("\x01\x02\x7f", "cannot read the config"),
    "twice.yaml": ("adapter: lora\nadapter: qlora\n", "the key 'adapter' stands twice"),
    "other.yaml": ("name: x\nsteps: 3\n", "config of no trainer that is known"),
    "ours.json": ('{"model": "x", "train": ["h.0"], "blocks": [0]}', "config of no trainer that"),
    "large.yaml": ("a: b\n" * 210_000, "config file of 1,050,000 bytes"),
    "types.yaml": ("base_model: x\nadapter: lora\nlora_r: [4]\n", "value of lora_r: 'list'"),
    "kind.yaml": ("tuner_type: reft\nmodel: x\n", "tuner_type that is not read: 'reft'"),
    "pro.yaml": ("use_llama_pro: true\nstage: sft\n", "fine-tuning that is not read"),
    "cut.py": ("LoraConfig(", "cannot read the config ('(' was never closed, line 1)"),
    "none.py": ("print('LoraConfig')", "script that makes no adapters"),
    "runs.py": (CALL.format("open('ran', 'w')"), "is not known before it runs"),
    "grows.py": (
        "a0 = [0]\n" + "".join(f"a{i} = [a{i - 1}, a{i - 1}]\n" for i in range(1, 40))
        + CALL.format("a39"), "is not known before it runs",
    ),
    "stars.py": ("kw = f()\nLoraConfig(**kw)\n", "**: kw is not known"),
    "twice.py": ("LoraConfig(r=8, r=9)", "(keyword argument repeated: r, line 1)"),
    "stars twice.py": ("K = {'r': 9}\nLoraConfig(r=8, **K)", "given twice in line 2"),
    "place.py": ("LoraConfig('CAUSAL_LM', ['q'])", "line 1: an argument without its name"),
    "twice.ipynb": (
        '{"cells": [{"cell_type": "code", "source": "LoraConfig(r=8, r=9)"}]}', "repeated: r",
    ),
    "kind.py": ("PrefixTuningConfig(num_virtual_tokens=4)", "of a kind that sits on no module"),
    "variable.sh": (
        "swift sft --model x --target_modules $M\n", "value of target_modules, a variable: '$M'",
    ),
    "variable.yaml": (
        "base_model: x\nadapter: lora\nlora_target_modules: ['${T}']\n",
        "value of lora_target_modules, a variable: \"['${T}']\"",
    ),
    "cells.ipynb": ("{}", "cannot read the config (no cells)"),
    "quoted.json": ('{"peft_type": "LORA", "r": "8"}', "value of r: '8'; expected a whole number"),
    "none.sh": ("echo hi\n", "shell script without a training command"),
    "own.sh": (
        "# swift sft --model x\npython3 train.py --rank 8\n",
        "try: the script that it runs, where adapters are made",
    ),
    "elsewhere.sh": ("accelerate launch -m axolotl.cli.train x.yaml\n", "that file: x.yaml"),
    "open.sh": (
        "swift sft --model x --lora_rank 8 $MORE\n", "variable that may hold options: '$MORE'",
    ),
    "bomb.sh": (
        "V0='x x'\n" + "".join(f'V{i + 1}="$V{i} $V{i}"\n' for i in range(40))
        + "swift sft --model x --lora_rank $V40\n", "value of lora_rank, a variable: '$V40'",
    ),
    "quote.sh": ("swift sft --model 'x\n", "cannot read the config (No closing quotation)"),
}  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return str(checks.folder("llama", tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line(llama, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adapted, "_SECONDS", 0.5)
    text, said = HOSTILE[name]
    file = tmp_path / name
    file.write_text(text)
    began = time.process_time()
    with pytest.raises(BadInputError) as refused:
        lw.check(llama, file)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert time.process_time() - began < 20


def test_a_file_that_is_not_there_or_no_text_is_one_line(llama, tmp_path):
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x01")
    for file, said in {
        "none.yaml": "No such file",
        "b.yaml": "codec can't decode byte 0xff",
    }.items():
        with pytest.raises(BadInputError, match=said):
            lw.check(llama, tmp_path / file)
    with pytest.raises(BadInputError, match="no such model"):
        lw.check(str(tmp_path / "nowhere"), {"peft_type": "LORA"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("LoraConfig(r=4)", {"r": 4}),
        ("N = 2\nLoraConfig(r=N * 8, lora_alpha=-N)", {"r": 16, "lora_alpha": -2}),
        ("A = ['q']\nB = A + ['v']\npeft.LoraConfig(x=[*B, 'k'])", {"x": ["q", "v", "k"]}),
        ("K = dict(r=4)\nLoraConfig(**K, x=(1, 2))", {"r": 4, "x": [1, 2]}),
        ("def f():\n    n = 3\n    return LoraConfig(x=list(range(n)))", {"x": [0, 1, 2]}),
        ("LoraConfig(x=[f'layers.{i}' for i in range(2)])", {"x": ["layers.0", "layers.1"]}),
        ("LoraConfig(task_type=TaskType.SEQ_CLS)", {"task_type": "SEQ_CLS"}),
        ("from peft import IA3Config as Few\nFew(x=1)", {"x": 1, "peft_type": "IA3"}),
        ("x = ['a']\nx.append('b')\nLoraConfig(r=1, y=x)", {"r": 1}),
        ("x = 1\nx = 2\nLoraConfig(y=x)", {}),
        ("y = y\nLoraConfig(y=y)", {}),
        ("def f(x):\n    x = 1\n    LoraConfig(y=x)", {}),
    ],
)
def test_arguments_are_worked_out_from_what_stands_in_the_script(text, value):
    found = called(text)
    assert (found["values"], [*found["unknown"]]) == (value, ["y"] if "y=" in text else [])


def test_what_a_script_leaves_open_is_said(llama, tmp_path):
    (tmp_path / "a.py").write_text(
        "a = LoraConfig(r=args.r, target_modules=['q_proj'])\na.target_modules = f()\n"
        "get_peft_model(model, a)\nLoraConfig(r=2)\n"
    )
    found = lw.check(llama, tmp_path / "a.py")
    assert found.parameters == 12 * 8 * (32 + 32)
    assert found.notes == (
        "line 4: a further call, of LoraConfig, is not checked",
        "line 2: target_modules is set again, which is not read",
        "line 1: r: args.r is not known before it runs: 8 is assumed",
    )


def test_notebooks_and_command_lines_are_read(tmp_path):
    code = ["%pip install unsloth\n", "model = FastLanguageModel.get_peft_model(m, r=8)\n"]
    cells = [{"cell_type": "markdown", "source": "(("}]
    cells += [{"cell_type": "code", "source": each} for each in (code, "%%bash\ncd /x && ls -l")]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    read = read_config_file(tmp_path / "a.ipynb")
    assert (read.caller, read.values) == ("FastLanguageModel", {"r": 8})
    assert read.notes == ("code cell 2 is left out: invalid syntax, line 2",)
    (tmp_path / "a.sh").write_text(
        "# x\nexport M='x y'\nN=1\nN=2\nswift sft \\\n --a_b 1 \\\n --c-d ${M} \\\n --e --f $N\n"
    )
    read = read_config_file(tmp_path / "a.sh")
    assert read.values == {"a_b": "1", "c_d": ["x", "y"], "e": True, "f": "$N"}


#: What a shell makes of scripts: the options of the command that trains.
SHELL = {
    "swift sft --r 8 --t q v && swift export --r 9": {"r": "8", "t": ["q", "v"]},
    "cd x; CUDA=0 swift sft --r 8 --t q v 2>&1 | tee log": {"r": "8", "t": ["q", "v"]},
    "(swift sft --r 8 --t q v > log 2>&1 &)": {"r": "8", "t": ["q", "v"]},
    "export R=8  # as ever\nswift sft --r $R --t q#1 'a b'": {"r": "8", "t": ["q#1", "a b"]},
    "# don't \\\nswift sft --r 8 \\\n # --r 9 \\": {"r": "8"},
    'A=(\n --r 8  # one\n --t q v)\nswift sft "${A[@]}"': {"r": "8", "t": ["q", "v"]},
    'R=8\nA="--r ${R}"\nswift sft $A --t \'$R\' "$R $R"': {"r": "8", "t": ["$R", "8 8"]},
    "R=8\nfor R in 1 2; do swift sft --r $R; done": {"r": "$R"},
    "echo swift sft --r 9\nswift sft --r $(a | b) --t x": {"r": "$(a | b)", "t": "x"},
    "uv run sft.py --r=8 --t q $@": {"r": "8", "t": "q"},
}


@pytest.mark.parametrize("text", SHELL)
def test_a_script_is_read_as_a_shell_reads_it(tmp_path, text):
    (tmp_path / "a.sh").write_text(text)
    assert read_config_file(tmp_path / "a.sh").values == SHELL[text]


def test_what_of_a_script_is_not_read_is_said(tmp_path):
    text = 'swift sft --r 8 \\\n # --r 9 \\\n --t x\nswift sft --r 1 "$@"\npython -m trl.sft\n'
    (tmp_path / "a.sh").write_text(text)
    assert read_config_file(tmp_path / "a.sh").notes == (
        "a further command, swift sft, is not checked",
        "a further command, trl.sft, is not checked",
        "--t stands in a line of its own: no command gets it",
    )


@pytest.mark.parametrize(
    "command", ["llamafactory-cli train x.yaml r=8", "trl sft --config x.yaml --r 8"]
)
def test_a_file_of_options_is_read_under_the_command_line(tmp_path, command):
    (tmp_path / "a.sh").write_text(command)
    (tmp_path / "x.yaml").write_text("r: 4\nt: [q]\n")
    read = read_config_file(tmp_path / "a.sh")
    assert read.values == {"r": "8", "t": ["q"]}
    assert read.notes == ("x.yaml is read too, under what the command line says",)


@pytest.mark.parametrize(
    "source",
    [
        "from unsloth import FastModel as F\nm = F.get_peft_model(m, r=8)",
        "m = unsloth.FastModel.get_peft_model(m, r=8)",
        "!pip install a \\\n  b\nx = !ls\ny = %env A\nm = FastModel.get_peft_model(m, r=8)",
    ],
)
def test_a_call_is_found_however_a_notebook_has_it(tmp_path, source):
    cells = [{"cell_type": "code", "source": source}]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    read = read_config_file(tmp_path / "a.ipynb")
    assert (read.caller, read.values, read.notes) == ("FastModel", {"r": 8}, ())


def test_a_corrected_script_stays_the_script(llama, tmp_path):
    script = tmp_path / "train.py"
    text = "LAST = 12  # é\nx = LoraConfig(  # here\n    target_modules=['q_proj', 'v'],\n"
    script.write_text(f"{text}    layers_to_transform=range(10, 1 + LAST),\n)\n")
    fixed = lw.check(llama, script, fix=True).fixed
    assert fixed == (
        "LAST = 12  # é\nx = LoraConfig(  # here\n    target_modules=['q_proj'],\n"
        "    layers_to_transform=[10, 11],\n)\n"
    )


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("r=4, target_module=['q_proj']", "r=4, target_modules=['q_proj']"),
        ("target_module=['k_proj'], target_modules=['q_proj']", "target_modules=['q_proj']"),
        ("target_modules=['q_proj'], target_module=['k_proj'],", "target_modules=['q_proj'], "),
        ("qq=1, rr=2, target_modules=['q_proj']", "target_modules=['q_proj']"),
    ],
)
def test_a_misspelt_argument_of_a_call_goes(llama, tmp_path, given, right):
    script = tmp_path / "make.py"
    script.write_text(f"c = LoraConfig({given})\n")
    made = lw.check(llama, script, fix=True)
    assert {found.code for found in made.findings} == {"key-unknown"}
    assert made.fixed == f"c = LoraConfig({right})\n"
    script.write_text(made.fixed)
    assert lw.check(llama, script).clean
