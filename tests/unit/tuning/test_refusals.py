"""All that fine-tuning refuses: which error, and what it says, in one line."""

from dataclasses import replace
from importlib.util import find_spec

import peft
import pytest
import torch
from torch import nn

from layerwise.compat.transformers import checkpoint_blocks
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
from layerwise.models.load import attach, load
from layerwise.models.sources import resolve
from layerwise.objectives import resolve as objective_for
from layerwise.tuning.adapters import disabled
from layerwise.tuning.equal_step import EqualStep
from layerwise.tuning.lora import adapted, placed_on, prepared
from layerwise.tuning.material import gather
from layerwise.tuning.outcome import matched_tau
from layerwise.tuning.record import TuneRecord
from layerwise.tuning.results import save
from layerwise.tuning.shallow import stop_at_lowest
from layerwise.tuning.steplog import StepLog, read_log
from support import tuning
from support.tuning import by_layer, network, saved_model, wrapped


def equal(groups=by_layer, *, optimizer=torch.optim.AdamW, held=slice(None), **options):
    model = network()
    return EqualStep(optimizer(model[held].parameters()), groups(model), 1e-2, **options)


def state(*, of, into):
    wrapped(tau=into)[1].load_state_dict(wrapped(tau=of)[1].state_dict())


def gathered(name="llama", *, objective="auto", texts=None, **options):
    subject, data = tuning.loaded(name), tuning.data()
    if texts:
        data = replace(data, examples=tuple(map(Example, texts)))
    loss = objective_for(objective, loaded=subject, data=data)
    gather(subject, data, loss, tuning.settings(**options))


def placed(blocks, **options):
    placed_on(tuning.loaded("llama"), blocks, **options)


def adapters_of_other_ranks():
    subject = tuning.loaded("llama")
    there = placed_on(subject, rank=4, alpha=8)
    prepared(adapted(subject, there), replace(there, ranks={there.modules[1]: 2}))


def adapters_elsewhere():
    subject = tuning.loaded("llama")
    lower = placed_on(subject, [0])
    prepared(adapted(subject, placed_on(subject, [1])), lower)


def head_with_a_namesake():
    """PEFT looks at the ends of names, and would train the other one too."""
    subject = tuning.loaded("llama_classifier")
    there = placed_on(subject)
    subject.model.model.layers[0].z_score = nn.Linear(2, 2)
    try:
        adapted(subject, there)
    finally:
        assert not any(name.endswith(".lora_A") for name, _ in subject.model.named_modules())


def switched_off():
    model = peft.get_peft_model(tuning.loaded("llama").model, peft.LoraConfig(bias="all"))
    with disabled(model):
        pytest.fail("it was switched off")


def reentrant():
    subject = tuning.loaded("llama")
    model = adapted(subject, placed_on(subject)).model
    checkpoint_blocks(model, reentrant=True)
    stop_at_lowest(model)


STILL = [{"step": 1, "step_ratio": {}}, {"step": 2, "step_ratio": {"a": 0.0}}]
LATE = {"params": [nn.Parameter(torch.ones(2))]}
REFUSED = [
    (BadInputError, r"^tau: .*expected a positive number", lambda: wrapped(tau=0)),
    (BadInputError, r"^tau: .*expected a positive number", lambda: wrapped(tau=-1e-3)),
    (BadInputError, r"^tau: .*expected a positive number", lambda: wrapped(tau=float("nan"))),
    (BadInputError, r"^tau: .*expected a positive number", lambda: wrapped(tau=float("inf"))),
    (UnknownNameError, "method: 'exakt'.*did you mean 'exact'", lambda: wrapped("exakt")),
    (BadInputError, "sample: '0'; expected a whole number of at least", lambda: equal(sample=0)),
    (BadInputError, r"layer group 0: .*\(30, 20\).*each in one group",
     lambda: equal(lambda model: {"a": [model[0].weight], **by_layer(model)})),
    (BadInputError, r"layer group 2: .*\(10, 30\).*the optimizer holds",
     lambda: equal(held=slice(1))),
    (BadInputError, "layer groups: '2 parameters of the optimizer are in none",
     lambda: equal(lambda model: {"0": list(model[0].parameters())})),
    (BadInputError, r"amsgrad=True.*expected copy or auto",
     lambda: wrapped("exact", amsgrad=True)),
    (BadInputError, r"amsgrad=True.*expected copy or auto",
     lambda: wrapped("sampled", amsgrad=True)),
    (BadInputError, r"optimizer: 'LBFGS'.*without a closure",
     lambda: equal(optimizer=torch.optim.LBFGS)),
    (BadInputError, r"parameter group: '1 parameters'.*from the start",
     lambda: wrapped()[1].add_param_group(LATE)),
    (BadInputError, "state: 'of a run that only measured'; expected one of equal steps",
     lambda: state(of=None, into=1e-2)),
    (BadInputError, "state: 'of equal steps'; expected one of a run that only measured",
     lambda: state(of=1e-2, into=None)),
    (BadInputError, "steps to match: 'no group moved'", lambda: matched_tau(STILL, steps=2)),
    (BadInputError, r"barlow-twins.*'2'; expected at least 3",
     lambda: gathered("encoder", objective="barlow-twins", batch_size=2)),
    (DataError, "simcse needs other texts", lambda: gathered("encoder", eval_examples=1)),
    (BadInputError, r"texts longer than the model's positions: '91'.*length 64",
     lambda: gathered("gpt2", texts=["w1 " * 90] * 4, max_length=128)),
    (DataError, "nothing is left to predict", lambda: gathered(texts=["", ""])),
    (BadInputError, r"no such block in model\.layers: '2'; expected 0 to 1", lambda: placed([2])),
    (UnknownNameError, "q_pro", lambda: placed(None, targets=["q_pro"])),
    (SchemaError, "of another rank than the placement's: '4'", adapters_of_other_ranks),
    (SchemaError, "adapters on other modules than the placement's", adapters_elsewhere),
    (VerificationError, r"take for the head: .*z_score.*; expected score$", head_with_a_namesake),
    (ModelError, "biases in place", switched_off),
    (BadInputError, r"reentrant gradient checkpointing.*use_reentrant\": False", reentrant),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # PEFT's remarks on its own settings.
@pytest.mark.parametrize(("error", "message", "attempt"), REFUSED)
def test_it_is_refused(error, message, attempt):
    with pytest.raises(error, match=message):
        attempt()


def test_a_tracker_that_is_not_installed_is_refused():
    absent = [name for name in ("trackio", "wandb") if find_spec(name) is None]
    if not absent:
        pytest.skip("every tracker is installed")
    with pytest.raises(BadInputError, match=r"to a tracker is not installed.*layerwise\[track\]"):
        tuning.tune("llama", track=absent[0])


def cut_short(folder):
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])


def with_more_targets(folder):
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"q_proj"', '"q_proj", "v_proj"'))


def lora(**options):
    return peft.LoraConfig(target_modules=["q_proj"], **options)


PROMPT = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")


@pytest.mark.filterwarnings("ignore")  # PEFT's remarks on its own settings.
@pytest.mark.parametrize(
    ("base", "config", "damage", "message"),
    [
        ("gpt2", lora(), None, r"does not fit its .* \(\w+Error: Target modules"),
        ("llama", lora(), cut_short, r"cannot be read \(SafetensorError"),
        ("llama", lora(), lambda folder: (folder / "adapter_config.json").write_text("{"),
         r"unreadable adapter_config\.json"),
        ("llama", lora(), lambda folder: (folder / "adapter_model.safetensors").unlink(),
         r"adapter without weights.*adapter_model\.safetensors"),
        ("llama", lora(), with_more_targets, r"does not fit its base model.*weights for .*v_proj"),
        ("llama", PROMPT, None, "adapter"),
    ],
)  # fmt: skip
def test_an_adapter_that_does_not_fit_is_refused(tmp_path, base, config, damage, message):
    adapter = tmp_path / "adapter"
    model = load(saved_model(tmp_path / "llama")).model
    peft.get_peft_model(model, config).save_pretrained(adapter)
    if damage:
        damage(adapter)
    other = load(saved_model(tmp_path / "other", base))
    with pytest.raises(ModelError, match=message):
        attach(other, resolve(str(adapter)))
    if "without" in message:
        with pytest.raises(ModelError, match="adapter without weights"):
            load(str(adapter))


def test_files_of_a_run_that_cannot_be_read_or_written_are_named(tmp_path):
    file = tmp_path / "log.jsonl"
    log = StepLog(norms=dict, meter=None, file=file, entries=[], on_step=print, every=1)
    file.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(SchemaError, match=r"log with a damaged line: .*log\.jsonl"):
        read_log(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(OutputError, match=r"cannot write the log .*log.jsonl.*--resume"):
        log._write({"step": 1})
    tuned = tuning.tune("llama", steps=1)
    (tmp_path / "tune.json").write_bytes(tuned.record.to_json().replace(b'"outcome"', b'"income"'))
    with pytest.raises(SchemaError, match="malformed record"):
        TuneRecord.load(tmp_path)
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write the result .*File exists"):
        save(tuned, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
