"""All that fine-tuning refuses: which error, and what it says, in one line."""

from dataclasses import replace
from importlib.util import find_spec

import peft
import pytest
import torch
from torch import nn

from layerwise.compat import checkpoint_blocks
from layerwise.data.text import Example
from layerwise.errors import (
    BadInputError,
    DataError,
    ModelError,
    OutputError,
    SchemaError,
    UnknownNameError,
    VerificationError,
)
from layerwise.models import load
from layerwise.models.sources import resolve
from layerwise.objectives import resolve as objective_for
from layerwise.tuning.adapters import attach, disabled, inseparable
from layerwise.tuning.equal_step import EqualStep, StepRatio, match_tau
from layerwise.tuning.lora import adapted, placed_on, prepared
from layerwise.tuning.material import gather
from layerwise.tuning.record import TuneRecord
from layerwise.tuning.results import save
from layerwise.tuning.shallow import stop_at_lowest
from layerwise.tuning.steplog import StepLog, read_log
from support import tuning
from support.tuning import by_layer, network, saved_model, wrapped

LBFGS, AdamW = torch.optim.LBFGS, torch.optim.AdamW
PROJECTION = {"target_modules": ["q_proj"]}


def equal(groups=None, *, optimizer=AdamW, held=slice(None), **options):
    model = network()
    inner = optimizer(model[held].parameters())
    return EqualStep(inner, groups(model) if groups else by_layer(model), 1e-2, **options)


def state_of(saved, mine):
    return lambda: wrapped(tau=mine)[1].load_state_dict(wrapped(tau=saved)[1].state_dict())


NOTHING = [{}, {"a": StepRatio(0.0, achieved=0.0)}]
TAU, POSITIVE = BadInputError, r"^tau: .*expected a positive number"


@pytest.mark.parametrize(
    ("attempt", "error", "message"),
    [
        *((lambda tau=tau: wrapped(tau=tau), TAU, POSITIVE) for tau in (0, -1e-3)),
        *((lambda tau=tau: wrapped(tau=float(tau)), TAU, POSITIVE) for tau in ("nan", "inf")),
        (lambda: wrapped("exakt"), UnknownNameError,
         r"unknown method: 'exakt'.*did you mean 'exact'"),
        (lambda: equal(sample=0), BadInputError,
         "sample: '0'; expected a whole number of at least 1"),
        (lambda: equal(lambda m: {"a": [m[0].weight], **by_layer(m)}), BadInputError,
         r"layer group 0: .*\(30, 20\).*each in one group"),
        (lambda: equal(held=slice(1)), BadInputError,
         r"layer group 2: .*\(10, 30\).*the optimizer holds"),
        (lambda: equal(lambda m: {"0": list(m[0].parameters())}), BadInputError,
         "layer groups: '2 parameters of the optimizer are in none"),
        *((lambda how=how: wrapped(how, amsgrad=True), BadInputError,
           r"amsgrad=True.*expected copy or auto") for how in ("exact", "sampled")),
        (lambda: equal(optimizer=LBFGS), BadInputError, r"optimizer: 'LBFGS'.*without a closure"),
        (lambda: wrapped()[1].add_param_group({"params": [nn.Parameter(torch.ones(2))]}),
         BadInputError, r"parameter group: '1 parameters'.*from the start"),
        (state_of(None, 1e-2), BadInputError,
         "optimizer state: 'of a run that only measured'; expected one of equal steps"),
        (state_of(1e-2, None), BadInputError,
         "optimizer state: 'of equal steps'; expected one of a run that only measured"),
        (lambda: match_tau(NOTHING), BadInputError, "steps to match: 'no group moved'"),
    ],
)  # fmt: skip
def test_of_an_optimizer(attempt, error, message):
    with pytest.raises(error, match=message):
        attempt()


# --- Data and settings of a run ---------------------------------------------------------------


def gathered(name="llama", *, objective="auto", texts=None, **options):
    subject, data = tuning.loaded(name), tuning.data()
    if texts:
        data = replace(data, examples=tuple(map(Example, texts)))
    loss = objective_for(objective, loaded=subject, data=data)
    return gather(subject, data, loss, tuning.settings(**options))


@pytest.mark.parametrize(
    ("attempt", "error", "message"),
    [
        (lambda: gathered("encoder", objective="barlow-twins", batch_size=2), BadInputError,
         r"barlow-twins.*'2'; expected at least 3"),
        (lambda: gathered("encoder", eval_examples=1), DataError, "simcse needs other texts"),
        (lambda: gathered("gpt2", texts=["w1 " * 90] * 4, max_length=128), BadInputError,
         r"texts longer than the model's positions: '91'.*length 64"),
        (lambda: gathered(texts=["", ""]), DataError, "nothing is left to predict"),
    ],
)  # fmt: skip
def test_of_what_a_run_is_fed(attempt, error, message):
    with pytest.raises(error, match=message):
        attempt()


def test_of_a_tracker_that_is_not_installed():
    absent = [name for name in ("trackio", "wandb") if find_spec(name) is None]
    if not absent:
        pytest.skip("every tracker is installed")
    with pytest.raises(BadInputError, match=r"tracker that is not installed.*layerwise\[track\]"):
        tuning.tune("llama", track=absent[0])


# --- Adapters ---------------------------------------------------------------------------------


def blocks(name, blocks, **options):
    return lambda: placed_on(tuning.loaded(name), blocks, **options)


def adapters_of_other_ranks():
    subject = tuning.loaded("llama")
    placed = placed_on(subject, rank=4, alpha=8)
    prepared(adapted(subject, placed), replace(placed, ranks={placed.modules[1]: 2}))


def adapters_elsewhere():
    subject = tuning.loaded("llama")
    lower = placed_on(subject, [0])
    prepared(adapted(subject, placed_on(subject, [1])), lower)


def reentrant():
    subject = tuning.loaded("llama")
    model = adapted(subject, placed_on(subject)).model
    checkpoint_blocks(model, reentrant=True)
    stop_at_lowest(model)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("attempt", "error", "message"),
    [
        (blocks("llama", [2]), BadInputError,
         r"no such block in model\.layers: '2'; expected 0 to 1"),
        (blocks("llama", None, targets=["q_pro"]), UnknownNameError, "q_pro"),
        (adapters_of_other_ranks, SchemaError, "of another rank than the placement's: '4'"),
        (adapters_elsewhere, SchemaError, "adapters on other modules than the placement's"),
        (reentrant, BadInputError, r"reentrant gradient checkpointing.*use_reentrant\": False"),
    ],
)  # fmt: skip
def test_of_where_adapters_are(attempt, error, message):
    with pytest.raises(error, match=message):
        attempt()


def test_of_a_module_with_a_name_that_ends_as_the_head_s():
    """PEFT looks at the ends of names, and would train the other one too."""
    subject = tuning.loaded("llama_classifier")
    placed = placed_on(subject)
    subject.model.model.layers[0].z_score = nn.Linear(2, 2)
    with pytest.raises(VerificationError, match=r"take for the head: .*z_score.*; expected score$"):
        adapted(subject, placed)
    assert not any(name.endswith(".lora_A") for name, _ in subject.model.named_modules())


def cut_short(folder):
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])


def with_more_targets(folder):
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"q_proj"', '"q_proj", "v_proj"'))


LORA = peft.LoraConfig(**PROJECTION)


@pytest.mark.filterwarnings("ignore")  # PEFT's remarks on its own settings.
@pytest.mark.parametrize(
    ("base", "config", "damage", "message"),
    [
        ("llama", peft.LoraConfig(**PROJECTION, bias="all"), None,
         r"cannot be switched off: .*biases in place.*as two models"),
        ("llama", peft.LoraConfig(**PROJECTION, init_lora_weights="pissa"), None,
         r"cannot be switched off: .*start \(pissa\).*as two models"),
        ("gpt2", LORA, None, r"cannot be attached \(NoMatchingPeftModuleError: Target modules"),
        ("llama", LORA, cut_short, r"cannot be attached \(SafetensorError"),
        ("llama", LORA, lambda f: (f / "adapter_config.json").write_text("{"),
         r"cannot be attached \("),
        ("llama", LORA, lambda f: (f / "adapter_model.safetensors").unlink(),
         r"adapter without weights.*adapter_model\.safetensors"),
        ("llama", LORA, with_more_targets, r"does not fit its base model.*weights for .*v_proj"),
        ("llama", peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), None,
         "adapter"),
    ],
)  # fmt: skip
def test_of_an_adapter_on_disk(tmp_path, base, config, damage, message):
    adapter = tmp_path / "adapter"
    model = load(saved_model(tmp_path / "llama")).model
    peft.get_peft_model(model, config).save_pretrained(adapter)
    if damage:
        damage(adapter)
    other = load(saved_model(tmp_path / "other", base))
    with pytest.raises(ModelError, match=message):
        attach(other, resolve(str(adapter)))
    if "switched" in message:
        assert inseparable(adapter) != ""
    if "without" in message:
        with pytest.raises(ModelError, match="adapter without weights"):
            load(str(adapter))


@pytest.mark.filterwarnings("ignore")  # PEFT's remarks on its own settings.
def test_of_one_in_hand_that_changed_its_base():
    model = peft.get_peft_model(tuning.loaded("llama").model, peft.LoraConfig(bias="all"))
    with pytest.raises(ModelError, match="biases in place"), disabled(model):
        pytest.fail("it was switched off")


# --- Files of a run ---------------------------------------------------------------------------


def test_of_a_damaged_log(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(SchemaError, match=r"log with a damaged line: .*log\.jsonl"):
        read_log(tmp_path / "log.jsonl")


def test_of_a_log_that_cannot_be_written(tmp_path):
    file = tmp_path / "log.jsonl"
    log = StepLog(norms=dict, meter=None, file=file, entries=[], on_step=print, every=1)
    file.unlink()
    file.mkdir()
    with pytest.raises(OutputError, match=r"cannot write the log .*log.jsonl.*--resume"):
        log._write({"step": 1})


def test_of_a_record_without_a_key(tmp_path):
    plain = tuning.tune("llama", steps=1).record.to_json().replace(b'"outcome"', b'"income"')
    (tmp_path / "tune.json").write_bytes(plain)
    with pytest.raises(SchemaError, match="malformed record"):
        TuneRecord.load(tmp_path)


def test_of_a_file_in_the_result_s_place(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write the result .*File exists"):
        save(tuning.tune("llama", steps=1), tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
