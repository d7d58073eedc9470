"""Each export read by the trainer's own code, as released, in an environment of its own.

Of a project, only what reads its configuration and puts adapters on is called, so it is installed
without what training would need. Where the package index cannot be reached, this is skipped.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from layerwise.files import write_files
from layerwise.placement import TRAINERS
from layerwise.placement.place import place
from support.launch import forked

pytestmark = pytest.mark.long  # Each installs a project and imports it.
BLOCKS = 16
RELEASES = {
    "trl": ["trl==1.16.0"],
    "axolotl": ["axolotl==0.19.0", "addict", "bitsandbytes", "distro", "posthog"],
    "llamafactory": ["llamafactory==0.9.5", "omegaconf", "antlr4-python3-runtime==4.9.3"],
    "ms-swift": [
        "ms-swift==4.6.0", "modelscope", "modelscope_hub", "einops", "json_repair", "cryptography",
        "cffi", "pycparser", "aiohttp", "aiohappyeyeballs", "aiosignal", "attrs", "frozenlist",
        "multidict", "propcache", "yarl",
    ],
    "unsloth": ["unsloth==2026.10.9", "unsloth_zoo==2026.10.9", "triton"],
}  # fmt: skip
# What pip says when there is no index to ask.
UNREACHABLE = r"from versions: none|NewConnection|ConnectionError|name resolution|Network is|Proxy"

# Nothing is reported home.
SETTINGS = dict.fromkeys(
    ["DISABLE_VERSION_CHECK", "AXOLOTL_DO_NOT_TRACK", "DO_NOT_TRACK", "UNSLOTH_DISABLE_STATISTICS"],
    "1",
)
ADAPTED = {f"model.layers.{i}.self_attn.{t}_proj": [4, 2.0] for i in (1, 5) for t in ("q", "v")}
OTHER_RANKS = {name: [2, 2.0] if ".1." in name else found for name, found in ADAPTED.items()}


SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": BLOCKS,
    "vocab_size": 64,
}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "mixture": lambda: Qwen3MoeForCausalLM(
        Qwen3MoeConfig(**SIZES, **EXPERTS, head_dim=8, num_key_value_heads=2)
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder each with models whose block 1 could be taken for 10 to 15, by name."""
    found = {name: tmp_path_factory.mktemp(name) for name in MODELS}
    for name, build in MODELS.items():
        build().save_pretrained(found[name])
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function that installs a project into a folder, once, and gives the folder."""
    done: dict[str, Path] = {}

    def install(trainer):
        if trainer not in done:
            done[trainer] = _install(trainer, tmp_path_factory.mktemp(trainer))
        return done[trainer]

    return install


def _install(trainer, folder):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--retries=0"]
    told = subprocess.run(
        [*pip, "--target", str(folder), *RELEASES[trainer]],
        capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    if told.returncode and re.search(UNREACHABLE, told.stderr):
        pytest.skip(f"no package index to install {trainer} from")
    assert told.returncode == 0, told.stderr[-2000:]
    return folder


@pytest.fixture
def taken(small_card, folders, installed, tmp_path):
    """What a trainer's own code adapts, or trains, of the model by its file."""

    def run(trainer, file, *, rows="1,5", export=None, ranks=None, model="llama"):
        modules = [
            tuple(f"model.layers.{i}.self_attn.{t}_proj" for t in "qv") for i in range(BLOCKS)
        ]
        card = small_card(BLOCKS, modules=modules)
        placement = place(card, rows=rows, rank=4, ranks=ranks)
        made = TRAINERS[export or trainer].export(placement, card.model)
        write_files(tmp_path, made.files)
        entry = f"{trainer}-freeze" if export == "freeze" else trainer
        where = (str(installed(trainer)), str(tmp_path))
        asked = ("trainer_adapts", *where, entry, str(tmp_path / file), str(folders[model]))
        told = forked(*asked, environments=[SETTINGS], timeout=580)
        assert told.codes == [0], told.stderr[-3000:]
        return json.loads((tmp_path / "found.json").read_text("utf-8"))

    return run


@pytest.mark.parametrize(
    ("trainer", "file"),
    [
        ("trl", "trl.yaml"),
        ("axolotl", "axolotl.yaml"),
        ("llamafactory", "llamafactory.yaml"),
        ("ms-swift", "ms-swift.yaml"),
        ("unsloth", "unsloth.json"),
    ],
)
def test_a_trainer_adapts_the_modules_that_were_meant(taken, trainer, file):
    assert taken(trainer, file)["adapted"] == ADAPTED


@pytest.mark.sweep
@pytest.mark.parametrize("trainer", ["trl", "axolotl", "llamafactory", "ms-swift"])
def test_a_trainer_adapts_the_modules_of_a_mixture_that_were_meant(taken, trainer):
    """PEFT takes a pattern apart there, and would adapt the modules of every block."""
    assert taken(trainer, f"{trainer}.yaml", model="mixture")["adapted"] == ADAPTED


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("trainer", "file"), [("axolotl", "axolotl.yaml"), ("unsloth", "unsloth.json")]
)
def test_a_trainer_gives_each_module_its_rank(taken, trainer, file):
    assert taken(trainer, file, ranks="1=2")["adapted"] == OTHER_RANKS


@pytest.mark.parametrize(
    ("trainer", "rows"),
    [
        ("axolotl", "1,5"),
        *(
            pytest.param(*case, marks=pytest.mark.sweep)
            for case in (("ms-swift", "1,5"), ("llamafactory", "14,15"), ("llamafactory", "0,1"))
        ),
    ],
)
def test_a_trainer_trains_the_blocks_that_were_meant(taken, trainer, rows):
    file = f"freeze-{trainer}.yaml"
    trains = taken(trainer, file, rows=rows, export="freeze")["trains"]
    found = {re.match(r"model\.layers\.(\d+)\.", name).group(1) for name in trains}
    assert found == set(rows.split(","))
    assert len(trains) == 2 * 9  # Every weight of a block: four of attention, three, two norms.
