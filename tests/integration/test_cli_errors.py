"""Bad input: exit status 2, one line that says what to type, and nothing written."""

import json

import pytest


@pytest.fixture
def card(refused, model_folder, text_file, tmp_path):
    """The error of `layerwise card` with something in place of the small model or the text."""

    def command(*options, model=model_folder, data=text_file, code=2):
        out = tmp_path / "out"
        small = ("--text-column", "text", "--examples", 1, "--max-length", 16)
        error = refused("card", model, data, *small, "--out", out, *options, code=code)
        assert not out.exists()
        return error

    return command


@pytest.fixture
def saved(tiny_text, tmp_path):
    """Saves a changed copy of the model; its folder."""
    return lambda change: tiny_text.save(tmp_path / "changed", change=change)


def test_model_offline(card):
    assert "'org/does-not-exist'" in card(model="org/does-not-exist")


def test_model_folder_without_config(card, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "folder without config.json" in card(model=tmp_path / "empty")


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF", b"GGUF\x03\x00\x00\x00\xff\xff"])
def test_model_file_that_is_no_gguf_or_ends_early(card, tmp_path, content):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    assert "model.gguf" in card(model=file)


@pytest.mark.real_model
def test_model_file_cut_in_the_middle(card, smollm2, tmp_path):
    folder, name = smollm2
    file = tmp_path / "model.gguf"
    with (folder / name).open("rb") as stream:
        file.write_bytes(stream.read(4_000_000))
    error = card(model=file)
    assert "model that cannot be read" in error
    assert "model.gguf" in error
    assert "whole files" in error


def test_model_with_nan_in_its_weights(card, saved):
    folder = saved(lambda m: m.model.layers[1].mlp.up_proj.weight[0].fill_(float("nan")))
    assert "model.layers.1.mlp.up_proj" in card(model=folder)


def test_model_with_code_of_its_own(card, model_folder, tmp_path):
    folder = tmp_path / "custom"
    folder.mkdir()
    for path in model_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "own", "auto_map": auto})
    )
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "--trust-remote-code" in card(model=folder)
    assert not (tmp_path / "ran").exists()


def test_data_that_is_not_there(card, tmp_path):
    assert "none.jsonl" in card(data=tmp_path / "none.jsonl")


@pytest.mark.parametrize("content", ["", '{"text": ""}\n', '{"text": "   "}\n'])
def test_data_without_text(card, tmp_path, content):
    file = tmp_path / "empty.jsonl"
    file.write_text(content)
    card(data=file)


def test_every_example_too_long_after_its_prompt(card, tmp_path):
    file = tmp_path / "long.jsonl"
    prompt = " ".join(f"w{i % 50}" for i in range(40))
    file.write_text(json.dumps({"prompt": prompt, "text": "w1 w2"}) + "\n")
    assert "--max-length" in card("--prompt-column", "prompt", data=file)


def test_loss_that_is_not_finite(card, saved):
    """Weights are finite, but their product is not."""

    def overflow(model):
        model.model.layers[1].mlp.up_proj.weight.mul_(1e20)
        model.model.layers[1].mlp.down_proj.weight.mul_(1e30)

    error = card(model=saved(overflow), code=1)
    assert "model.layers.1" in error
    assert "batch" in error


def test_output_is_looked_at_before_any_work(run, refused, card_folder, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write to the output folder" in refused(
        "card", "org/none", "none.csv", "--out", tmp_path / "file" / "sub"
    )
    held = run("card", "org/none", "none.csv", "--out", card_folder)
    assert held.code == 2
    assert "--overwrite" in held.error
    error = refused("profile", "org/none", "org/other", "--out", card_folder)
    assert "output folder already holds a report.html" in error


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"schema": "layerwise/card/3"}, "'layerwise/card/3'; expected 'layerwise/card/2'"),
        ({"schema": "layerwise/placement/1"}, "record of another schema"),
        ({"schema": "layerwise/card/1"}, "malformed record"),
        ([], "record of another schema"),
    ],
)
@pytest.mark.parametrize("command", ["place", "compare"])
def test_card_of_another_schema(refused, tmp_path, command, plain, says):
    (tmp_path / "card.json").write_text(json.dumps(plain))
    assert says in refused(command, *[tmp_path] * (1 + (command == "compare")))


def test_compare_cards_of_other_models(refused, card_folder, tmp_path):
    plain = json.loads((card_folder / "card.json").read_text())
    plain["model"]["files"] |= {"model.safetensors": "0" * 64}
    (tmp_path / "card.json").write_text(json.dumps(plain))
    assert "a card of other weights of this model: 'model.safetensors 000000000000'" in refused(
        "compare", card_folder, tmp_path
    )


def test_a_fault_of_the_program_keeps_its_traceback(run, monkeypatch, tmp_path):
    import layerwise

    def fault(*_args, **_options):
        raise RuntimeError("planted")

    monkeypatch.setattr(layerwise, "card", fault)
    with pytest.raises(RuntimeError, match="planted"):
        run("card", "demo", "demo", "--out", tmp_path)
