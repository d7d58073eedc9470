"""`layerwise place --for TRAINER`: what it writes and says, and what it refuses in one line."""

import json

import pytest
import yaml

import layerwise as lw

WRITTEN = {
    "peft": ["lora_config.json"],
    "trl": ["lora_config.json", "trl.yaml"],
    "axolotl": ["axolotl.yaml"],
    "llamafactory": ["llamafactory.yaml"],
    "ms-swift": ["ms-swift.yaml"],
    "unsloth": ["unsloth.json"],
    "freeze": [
        "freeze-axolotl.yaml", "freeze-llamafactory.yaml", "freeze-ms-swift.yaml", "freeze.json",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("trainer", "files"), WRITTEN.items())
def test_each_trainers_files_and_how_to_use_them(run, card_folder, tmp_path, trainer, files):
    said = run("place", card_folder, "--blocks", "1", "--for", trainer, "--out", tmp_path)
    assert said.code == 0, said.err
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*files, "placement.json"])
    assert lw.Placement.load(tmp_path).verified
    assert f"to use it, in {tmp_path}:" in said.out
    if trainer == "freeze":
        assert "parameters in 9 tensors train, those of these blocks alone" in said.out


def test_ranks_by_block(run, card_folder, tmp_path):
    options = ["--blocks", "0,1", "--rank", 4, "--ranks", "1=2", "--out", tmp_path]
    said = run("place", card_folder, *options, "--for", "axolotl")
    assert said.code == 0, said.err
    assert "rank 4 (others: 2), alpha 8" in said.out
    (key,) = yaml.safe_load((tmp_path / "axolotl.yaml").read_text())["lora_rank_pattern"]
    assert key.startswith(r"^model\.layers\.1\.self_attn\.(?:")
    placed = json.loads((tmp_path / "placement.json").read_text())
    assert {m: 2 for m in placed["modules"] if ".1." in m} == placed["ranks"]
