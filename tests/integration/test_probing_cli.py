"""`layerwise probe` and `layerwise erase` from the command line, and `lw.probe` and `lw.erase`."""

import json

import pytest

import layerwise as lw

SMALL = ["--batch-size", "6", "--max-length", "12"]
PROBE = [*SMALL, "--text-column", "text", "--label-column", "stars"]


def test_options_of_probe_reach_the_record(run, model_folder, text_file, tmp_path):
    args = ["probe", model_folder, text_file, *PROBE, "--out", tmp_path, "--epochs", "2"]
    assert run(*args, "--test-share", "0.25", "--seed", "3").code == 0
    made = lw.Probing.load(tmp_path)
    assert [(c.name, c.train, c.test) for c in made.classes] == [("0", 9, 3), ("1", 9, 3)]
    assert (made.settings.epochs, made.settings.seed, made.data.max_length) == (2, 3, 12)


def test_options_of_erase_reach_the_record(run, model_folder, pairs_file, tmp_path):
    args = ["erase", model_folder, pairs_file, *SMALL, "--out", tmp_path, "--draws", "3"]
    assert run(*args, "--folds", "4", "--readout", "residual", "--standardise").code == 0
    made = lw.Erasure.load(tmp_path)
    assert (made.pairs, made.groups, made.readout) == (20, 20, "residual")
    assert (made.settings.folds, made.settings.draws, made.settings.standardised) == (4, 3, True)
    assert made.eraser.startswith("concept-erasure ")


def test_python_gives_what_the_command_line_writes(
    run, model_folder, text_file, pairs_file, tmp_path
):
    run("probe", model_folder, text_file, *PROBE, "--out", tmp_path, "--format", "quiet")
    made = lw.probe(
        str(model_folder), str(text_file), batch_size=6, max_length=12, text_column="text",
        label_column="stars",
    )  # fmt: skip
    assert made.depths == lw.Probing.load(tmp_path).depths
    assert str(made).startswith("Probes by depth: ")
    out = tmp_path / "erasure"  # Not beside the report of another record.
    run("erase", model_folder, pairs_file, *SMALL, "--out", out, "--format", "quiet")
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    for pairs in (str(pairs_file), [(row["a"], row["b"]) for row in rows]):
        erased = lw.erase(str(model_folder), pairs, batch_size=6, max_length=12)
        assert erased.depths == lw.Erasure.load(out).depths


def test_a_model_in_hand(tiny_text, pairs_file):
    model = tiny_text.model("gpt2").train()
    found = lw.erase(model, str(pairs_file), tokenizer=tiny_text.tokenizer(frame="causal"))
    assert len(found.depths) == 2
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_pairs_that_are_none_are_one_line(refused, tmp_path):
    """Said before the model is looked for."""
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"a": "w1", "b": "w2"}\n\n{"a": "w1", "b": ""}\n')
    told = refused("erase", tmp_path / "none", file, "--out", tmp_path / "out")
    assert "pair on line 3 without both members" in told
    assert not (tmp_path / "out").exists()


def test_too_few_classes_are_said_before_the_model_is_looked_for(run, text_file, tmp_path):
    args = ["--where", "stars=1", *PROBE, "--out", tmp_path]
    assert "needs two classes or more" in run("probe", tmp_path / "none", text_file, *args).err


@pytest.mark.real_model
def test_the_demo_s_pairs_on_a_real_encoder(minilm):
    """Favourable and unfavourable remarks lie apart along a direction that other pairs share."""
    found = lw.erase(str(minilm), "demo")
    assert len(found.depths) == 6
    assert all(depth.ordered > 0.9 for depth in found.depths)
    assert all(depth.margin_low > 0.0 for depth in found.depths)


@pytest.mark.real_model
def test_reviews_are_read_from_a_real_encoder(minilm):
    found = lw.probe(str(minilm), "demo", examples=400, max_length=48)
    assert max(depth.linear.accuracy for depth in found.depths) > 0.6
    assert abs(found.majority - 0.5) < 0.1
