"""A finished run on disk can be loaded, and says what lies there."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from layerwise.errors import BadInputError
from layerwise.models.heads import class_ids
from layerwise.models.load import load, load_skeleton
from layerwise.profile.compare_states import read_pair
from layerwise.profile.probe_reading import ProbeReading, as_probe_set
from layerwise.tuning.checkpoints import hashes
from layerwise.tuning.record import TuneRecord
from layerwise.tuning.results import keep_initial, save

TEXTS = as_probe_set([f"w{i} w{(3 * i) % 50} w{(i * i) % 50}" for i in range(12)])


def names(folder):
    return {p.name for p in folder.iterdir()}


def test_a_model_s_files_are_named_with_their_hashes(tuning, tmp_path):
    saved = save(tuning.tune("llama", steps=1, folder=tmp_path, save_every=1), tmp_path)
    assert saved.record == TuneRecord.load(tmp_path)
    assert saved.record.files == {
        n: h for n, h in hashes(tmp_path).items() if n not in {"tune.json", "log.jsonl"}
    }
    assert not (tmp_path / "checkpoints").exists()
    again = load(str(tmp_path)).model.state_dict()
    assert tuning.same(tuning.weights(saved), again)


def test_a_run_is_printed_as_its_record(tuning):
    tuned = tuning.tune("llama", steps=1)
    assert "standard" in str(tuned)
    assert len(str(tuned).splitlines()) <= 20
    assert str(tuned) == str(tuned.record)
    assert tuned._repr_html_() == tuned.record._repr_html_()


def test_an_adapter_s_folder_has_no_copy_of_its_base(tuning, tmp_path):
    base = tuning.saved_model(tmp_path / "base")
    tuned = tuning.tune(load(base), condition="lora", steps=2, learning_rate=1e-2)
    saved = save(tuned, tmp_path)
    assert "adapter_model.safetensors" in saved.record.files
    assert not {"model.safetensors", "README.md"} & names(tmp_path)
    merged = load(str(tmp_path))
    tuned.loaded.model.merge_and_unload()
    own, theirs = tuned.loaded.model.get_base_model().state_dict(), merged.model.state_dict()
    assert tuning.furthest({n: own[n] for n in theirs}, theirs) < 1e-5
    assert merged.base == base


def test_what_was_trained_on_from_an_adapter_can_be_read(tuning, tmp_path):
    """The adapter is merged for that; resuming and reading need names that are the base's."""
    base, adapter, out = tuning.saved_model(tmp_path / "base"), tmp_path / "first", tmp_path / "out"
    save(tuning.tune(load(base), condition="lora", steps=2, learning_rate=1e-2), adapter)
    merged = load(str(adapter))
    assert not hasattr(merged.model, "peft_config")
    tuned = tuning.tune(merged, steps=2, folder=out, save_every=1, learning_rate=1e-2)
    kept = AutoModelForCausalLM.from_pretrained(out / "checkpoints" / "checkpoint-2")
    saved = save(tuned, out)
    for again in (kept, load(str(out)).model, AutoModelForCausalLM.from_pretrained(out)):
        assert tuning.same(tuning.weights(saved), again.state_dict())


def test_adapters_on_a_merged_adapter_are_kept_as_a_whole_model(tuning, tmp_path):
    """PEFT would put them on the first adapter's base, in that adapter's place."""
    base, first, out = tuning.saved_model(tmp_path / "base"), tmp_path / "first", tmp_path / "out"
    how = {"condition": "lora", "steps": 2, "learning_rate": 1e-2}
    save(tuning.tune(load(base), **how), first)
    tuned = tuning.tune(load(str(first)), folder=out, save_every=1, **how)
    before = tuning.weights(tuned)
    saved = save(tuned, out)
    assert tuning.same(before, tuning.weights(saved))
    assert saved.record.form == "model"
    assert any("itself an adapter" in note for note in saved.record.notes)
    assert not {n for n in names(out) if n.startswith("adapter")}
    words = torch.arange(20, 30).reshape(2, 5)
    for again in (load(str(out)).model, AutoModelForCausalLM.from_pretrained(out)):
        with torch.no_grad():
            torch.testing.assert_close(again(words).logits, tuned.loaded.model(words).logits)


def test_one_result_replaces_another_and_leaves_nothing_of_it(tuning, tmp_path):
    save(tuning.tune("llama", condition="lora", steps=1), tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    save(tuning.tune("llama", steps=1), tmp_path)
    assert "mine.txt" in names(tmp_path)
    assert not {n for n in names(tmp_path) if n.startswith("adapter")}
    assert "model.safetensors" in names(tmp_path)


def test_a_record_removes_no_file_outside_its_folder(tuning, tmp_path, caplog):
    """Whoever wrote it: its names may be absolute, go up, or go through a link."""
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    for name in ("a", "b", "c", "d"):
        (other / name).write_text("not ours")
    saved = save(tuning.tune("llama", steps=1), out)
    (out / "link").symlink_to(other)
    (out / "checkpoints").symlink_to(other)
    (out / "leaf").symlink_to(other / "d")
    (out / "mine").mkdir()
    listed = [str(other / "a"), "../other/b", "link/c", "leaf", "mine", ".", "nul\0", "n" * 999]
    hostile = replace(saved.record, files={**saved.record.files, **dict.fromkeys(listed, "0")})
    (out / "tune.json").write_bytes(hostile.to_json())
    again = save(tuning.tune("llama", condition="lora", steps=1), out)
    assert names(other) == {"a", "b", "c", "d"}
    assert names(out) == {*again.record.files, "tune.json", "mine", "link"}
    assert "lies outside" in caplog.text


def test_a_link_in_a_result_s_place_is_replaced_not_followed(tuning, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    for folder in (out, other):
        folder.mkdir()
    (other / "model.safetensors").write_text("not ours")
    (other / "mine").mkdir()
    (out / "model.safetensors").symlink_to(other / "model.safetensors")
    (out / "initial").symlink_to(other)
    (out / "log.jsonl").symlink_to(other / "model.safetensors")
    (out / "checkpoints").symlink_to(other)
    loaded = keep_initial(tuning.loaded("llama"), out)
    save(tuning.tune(loaded, steps=2, folder=out, save_every=1), out)
    assert names(other) == {"model.safetensors", "mine"}
    assert (other / "model.safetensors").read_text() == "not ours"
    assert load(str(out)).source == str(out)
    assert (out / "initial" / "model.safetensors").is_file()


def test_random_weights_are_kept_once(tuning, tmp_path):
    loaded = keep_initial(tuning.loaded("llama"), tmp_path)
    assert loaded.source == str(tmp_path / "initial")
    assert names(tmp_path) == {"initial"}
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "initial").state_dict()
    assert tuning.same(tuning.weights(loaded), kept)
    keep_initial(tuning.loaded("llama"), tmp_path)
    assert names(tmp_path) == {"initial"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_an_adapter_with_a_head_says_for_which_classes(tuning, tmp_path, name):
    """Its base has no such head: whoever loads the adapter need not know the classes."""
    base = tuning.saved_model(tmp_path / "base", name)
    data = tuning.labelled(tuning.data())
    loaded = load(base, labels=("neg", "pos", "odd"), seed=3)
    tuned = tuning.tune(loaded, data=data, condition="lora", steps=2, learning_rate=1e-2)
    saved = save(tuned, tmp_path / "out")
    assert {"config.json", "adapter_config.json"} <= set(saved.record.files)
    again = load(str(tmp_path / "out"), seed=8)
    assert class_ids(again.model) == {"neg": 0, "pos": 1, "odd": 2}
    assert set(again.files) >= {"config.json", "adapter_model.safetensors"}
    words = torch.arange(20, 30).reshape(2, 5)
    with torch.no_grad():
        merged, own = again.model(words).logits, tuned.loaded.model(words).logits
    torch.testing.assert_close(merged, own)
    asked = load(str(tmp_path / "out"), labels=("odd", "pos", "neg"))
    assert class_ids(asked.model) == class_ids(again.model)
    assert load_skeleton(str(tmp_path / "out")).kind == "classifier"
    with pytest.raises(BadInputError, match="adapter with a head for other classes: 'a, b'; exp"):
        load(str(tmp_path / "out"), labels=("a", "b"))
    moved = read_pair(
        None, str(tmp_path / "out"), reading=ProbeReading(TEXTS, bootstrap=20), load=load
    )
    assert moved.after.model.base == base
    assert not moved.untrained_modules
