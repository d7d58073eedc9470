"""Profiles along training: right, and without a trace in the training that they watch."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback, TrainingArguments

from layerwise.compat.transformers import checkpointing
from layerwise.errors import BadInputError, DataError, ModelError, UnknownNameError
from layerwise.models.head_kind import model_kind
from layerwise.models.load import LoadedModel
from layerwise.models.stack import find_stacks
from layerwise.objectives.forward import without_adapter
from layerwise.profile.callback import DepthCallback
from layerwise.profile.probe_reading import ProbeReading
from layerwise.profile.states import make_probe_set
from layerwise.tuning.adapters import disabled
from support.profiles import PROBES

# PEFT looks at a property that transformers has given another name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")


def lora(model):
    torch.manual_seed(1)
    config = LoraConfig(r=2, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
    return get_peft_model(model, config)


@pytest.fixture
def model(tiny):
    """Makes a small LLM whose training draws random numbers."""

    def made(name="llama"):
        found = tiny.build(name).model
        found.config.attention_dropout = 0.1
        for module in found.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.1
        return found

    return made


@pytest.fixture
def train(tmp_path, tiny_text):
    """Trains a model for some steps with callbacks; the trainer after."""

    def run(model, *callbacks, steps=5, resume=None, **options):
        torch.manual_seed(7)
        ids = torch.randint(11, 60, (16, 9), generator=torch.Generator().manual_seed(3))
        arguments = {
            "output_dir": str(tmp_path / "trainer"),
            "max_steps": steps,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "logging_strategy": "no",
        }
        trainer = Trainer(
            model=model,
            args=TrainingArguments(**(arguments | options)),
            train_dataset=[{"input_ids": row, "labels": row} for row in ids],
            processing_class=tiny_text.tokenizer(),
            callbacks=list(callbacks),
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return run


def by_hand(reading, tokenizer, model):
    """The states of `model`."""
    loaded = LoadedModel(
        model=model, tokenizer=tokenizer, source="by hand", kind=model_kind(model),
        stacks=find_stacks(model),
    )  # fmt: skip
    return reading.states(loaded)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adapted", "options"),
    [
        (False, {}),
        (True, {}),
        (False, {"bf16": True}),
        (True, checkpointing(wanted=True)),
        (False, {"gradient_accumulation_steps": 2, **checkpointing(wanted=True)}),
    ],
    ids=["plain", "lora", "bf16", "lora-checkpointing", "accumulation-checkpointing"],
)
@pytest.mark.parametrize("signals", [False, True])
def test_training_with_it_gives_the_weights_of_training_without(
    model, train, tuning, adapted, options, signals
):
    wrap = lora if adapted else lambda m: m
    without = train(wrap(model()), **options)
    callback = DepthCallback(probes=PROBES, every=2, signals=signals)
    watched = train(wrap(model()), callback, **options)
    assert tuning.same(tuning.weights(without), tuning.weights(watched))
    assert [found.step for found in callback.history] == [0, 2, 4, 5]
    assert callback.profile.slope != 0.0


class Disturb(TrainerCallback):
    """Draws a random number."""

    def on_step_end(self, *_, **__):
        torch.rand(1)


def test_the_training_that_is_watched_depends_on_random_numbers(model, train, tuning):
    """Else the test above could not fail by them."""
    first, second = (tuning.weights(train(model(), *c)) for c in ((), (Disturb(),)))
    assert not tuning.same(first, second)


class State(TrainerCallback):
    """What training goes on from, before and after another callback has had its turn."""

    def __init__(self):
        self.seen = []

    def on_step_end(self, _args, _state, _control, model=None, **_):
        self.seen.append(
            (
                torch.get_rng_state().tolist(),
                np.random.get_state()[1].tolist(),  # noqa: NPY002  # the generator that others use
                [module.training for module in model.modules()],
                [(p.requires_grad, p.grad is None) for p in model.parameters()],
                [len(module._forward_hooks) for module in model.modules()],
                torch.get_num_threads(),
                model.config.use_cache,
            )
        )


def test_nothing_is_other_after_a_record(model, train):
    before, after = State(), State()
    # Of two callbacks of one class a Trainer keeps both, and says so.
    train(lora(model()), before, DepthCallback(probes=PROBES, every=1), after)
    assert len(before.seen) == 5
    assert before.seen == after.seen


@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "lora"])
def test_it_is_zero_at_first_and_then_what_a_profile_of_both_ends_says(
    model, train, tiny_text, adapted
):
    subject = lora(model()) if adapted else model()
    tokenizer = tiny_text.tokenizer()
    reading = ProbeReading(make_probe_set(PROBES, source="given"), readout="residual")
    before = by_hand(reading, tokenizer, subject)
    callback = DepthCallback(probes=PROBES, every=3, readout="residual")
    trainer = train(subject, callback)
    start, middle, end = (found.profile for found in callback.history)
    assert {depth.procrustes for depth in start.depths} == {0.0}
    assert (start.slope, start.width) == (0.0, ())
    assert 0.0 < middle.depths[-1].procrustes != end.depths[-1].procrustes > 0.0
    after = by_hand(reading, tokenizer, trainer.model.eval())
    whole = reading.profile(before, after, provenance=end.provenance)
    assert whole.readouts == end.readouts
    assert (end.readout, end.slope) == ("residual", whole.slope)


def test_under_lora_it_begins_at_the_base(model, train, tiny_text):
    base = model()
    reading = ProbeReading(make_probe_set(PROBES, source="given"))
    states = by_hand(reading, tiny_text.tokenizer(), base)
    callback = DepthCallback(probes=PROBES)
    train(lora(base), callback)
    with disabled(base):
        again = by_hand(reading, tiny_text.tokenizer(), base)
    np.testing.assert_array_equal(states.pooled["residual"], again.pooled["residual"])
    assert {depth.procrustes for depth in callback.history[0].profile.depths} == {0.0}


@pytest.fixture
def watched(model, train, tmp_path):
    """A training with a record every other step: the callback, the log's and the file's lines."""
    file = tmp_path / "depths.jsonl"
    file.write_text("of an earlier run\n")
    callback = DepthCallback(probes=PROBES, every=2, signals=True, file=file)
    assert list(callback.frame().columns[:2]) == ["step", "readout"]
    logged = train(model(), callback).state.log_history
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return callback, [entry for entry in logged if "depth_slope" in entry], lines


def test_the_frame_has_every_block_of_every_record(watched):
    callback, _, _ = watched
    frame = callback.frame()
    assert len(frame) == 4 * 3 * 3
    assert set(frame.columns) >= {"step", "readout", "index", "relative", "procrustes", "cka"}
    last = frame[(frame.step == 5) & (frame.readout == "hf")]
    assert list(last.procrustes) == [b.procrustes for b in callback.profile.blocks]
    assert (frame[frame.step == 0].procrustes == 0).all()


def test_records_go_to_the_file_as_they_come_and_to_the_log(watched):
    callback, logged, lines = watched
    records = [(found.step, found.profile.slope) for found in callback.history]
    assert [step for step, _ in records] == [0, 2, 4, 5]
    assert [(line["step"], line["slope"]) for line in lines] == records
    assert [len(line["depths"]) for line in lines] == [7] * 4
    assert [(entry["step"], entry["depth_slope"]) for entry in logged] == records


@pytest.mark.parametrize(("frame", "tokens"), [(None, 4), ("causal", 5), ("processor", 4)])
def test_its_own_tokenizer_or_processor_goes_before_the_trainer_s(
    model, train, tiny_text, frame, tokens
):
    own = {
        None: None,
        "causal": tiny_text.tokenizer(frame="causal"),
        "processor": SimpleNamespace(tokenizer=tiny_text.tokenizer()),
    }[frame]
    callback = DepthCallback(own, probes=PROBES, log=False)
    trainer = train(model(), callback, steps=1)
    assert callback.profile.probes.tokens == tokens * len(PROBES)
    assert callback.signals is None
    assert not any("depth_slope" in entry for entry in trainer.state.log_history)


class Tracker(TrainerCallback):
    """A tracker that keeps what comes to it, as it was when it came."""

    def __init__(self):
        self.seen, self.listens = [], False

    def on_train_begin(self, *_, **__):
        self.listens = True

    def on_log(self, _args, state, _control, logs=None, **_):
        assert self.listens
        self.seen.append((state.global_step, dict(logs)))

    def on_train_end(self, *_, **__):
        self.listens = False

    def steps(self, name):
        return [step for step, logs in self.seen if name in logs]


class Records(DepthCallback):
    """Named by its class, as trainers do that take callbacks by their path."""

    def __init__(self):
        super().__init__(probes=PROBES, every=2, signals=True)


def test_each_record_comes_to_every_tracker_beside_what_was_logged_without(model, train):
    logged = {"logging_strategy": "steps", "logging_steps": 2}
    alone, first, last = Tracker(), Tracker(), Tracker()
    train(model(), alone, **logged)
    trainer = train(model(), first, Records, last, **logged)
    (callback,) = (c for c in trainer.callback_handler.callbacks if isinstance(c, Records))
    assert first.seen == last.seen
    assert first.steps("depth_slope") == [0, 2, 4, 5]
    assert [e for e in first.seen if "loss" in e[1]] == [e for e in alone.seen if "loss" in e[1]]
    step, logs = first.seen[-2]
    profile, signals = callback.profile, callback.history[-1].signals
    assert step == 5
    assert (logs["depth_slope"], logs["depth_slope_low"]) == (profile.slope, profile.slope_low)
    assert {i: logs[f"depth_procrustes_{i}"] for i in range(3)} == {
        d.index: d.procrustes for d in profile.depths
    }
    assert [logs[f"depth_attention_entropy_{i}"] for i in range(3)] == pytest.approx(
        signals.attention_entropy
    )
    assert "depth_activation_gradient_2" in logs
    assert all(type(value) is float for name, value in logs.items() if name.startswith("depth"))
    json.dumps(trainer.state.log_history)


def test_tensorboard_draws_it(model, train, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(model(), DepthCallback(probes=PROBES, every=2), report_to="tensorboard")
    (file,) = tmp_path.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file)).Reload()
    assert [e.step for e in events.Scalars("train/depth_slope")] == [0, 2, 4, 5]


def test_a_trainer_s_own_log_is_not_asked(model, train, monkeypatch):
    """TRL's and Axolotl's empty their running means there, and GRPO's prints completions."""
    asked = []
    monkeypatch.setattr(Trainer, "log", lambda _, logs, *__: asked.append(logs))
    tracker = Tracker()
    train(model(), tracker, DepthCallback(probes=PROBES, every=2))
    assert not any("depth_slope" in logs for logs in asked)
    assert tracker.steps("depth_slope") == [0, 2, 4, 5]


# What torch.compile imports calls what torch has deprecated.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")
@pytest.mark.parametrize("part", ["whole", "blocks"])
def test_a_compiled_model_is_read_as_it_is_written_and_its_steps_are_not_listened_to(
    model, tiny_text, part
):
    def fails(*_):
        raise AssertionError("compiled")

    subject = model()
    plain, callback = DepthCallback(probes=PROBES), DepthCallback(probes=PROBES, signals=True)
    begin(plain, subject, tiny_text.tokenizer())
    if part == "whole":
        subject = torch.compile(subject, backend=fails)
    else:
        for block in subject.model.layers:
            block.compile(backend=fails)
    begin(callback, subject, tiny_text.tokenizer())
    for key, states in plain._before.pooled.items():
        np.testing.assert_array_equal(callback._before.pooled[key], states)
    assert callback.signals is None
    assert callback.notes == ["no signals of the steps: compiled blocks do not tell what passes by"]


class StopAt(TrainerCallback):
    """Stops training early."""

    def on_step_end(self, _args, state, control, **_):
        control.should_training_stop = state.global_step == 3


def test_a_training_that_stops_early_is_recorded_to_its_end(model, train):
    callback, tracker = DepthCallback(probes=PROBES, every=2), Tracker()
    train(model(), tracker, callback, StopAt())
    assert [found.step for found in callback.history] == [0, 2, 3]
    assert tracker.steps("depth_slope") == [0, 2, 3]


def test_a_second_training_begins_anew(model, train):
    callback = DepthCallback(probes=PROBES, every=2)
    subject = model()
    train(subject, callback)
    train(subject, callback, steps=2)
    assert [found.step for found in callback.history] == [0, 2]
    assert callback.history[0].profile.slope == 0.0


def test_a_resumed_training_says_what_it_counts_from(model, train, tmp_path, caplog):
    saved = {"save_strategy": "steps", "save_steps": 2}
    train(model(), steps=2, **saved)
    callback = DepthCallback(probes=PROBES, every=2)
    with caplog.at_level(logging.WARNING):
        train(model(), callback, resume=str(tmp_path / "trainer" / "checkpoint-2"), **saved)
    assert [found.step for found in callback.history] == [2, 4, 5]
    assert callback.history[0].profile.slope == 0.0
    assert callback.notes == ["training was resumed: changes count from step 2, not from 0"]
    assert "changes count from step 2" in caplog.text


@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "lora"])
def test_with_a_file_a_resumed_training_goes_on_counting_from_its_start(
    model, train, tmp_path, adapted
):
    saved = {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"}
    wrap, checkpoint = lora if adapted else lambda m: m, str(tmp_path / "trainer" / "checkpoint-2")
    file, whole = tmp_path / "depths.jsonl", tmp_path / "whole.jsonl"
    train(wrap(model()), DepthCallback(probes=PROBES, every=2, file=whole), **saved)
    train(wrap(model()), DepthCallback(probes=PROBES, every=2, file=file), steps=2, **saved)
    callback = DepthCallback(probes=PROBES, every=2, file=file)
    train(wrap(model()), callback, resume=checkpoint, **saved)
    assert callback.notes == []
    found, expected = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in (file, whole)
    )
    assert [line["step"] for line in found] == [0, 2, 4, 5]
    assert found == expected
    others = DepthCallback(probes=PROBES[1:], every=2, file=file)
    train(wrap(model()), others, resume=checkpoint, **saved)
    assert others.notes == ["training was resumed: changes count from step 2, not from 0"]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 2, 4, 5]
    file.with_suffix(".start.safetensors").write_bytes(b"cut")
    train(wrap(model()), callback, resume=checkpoint, **saved)
    assert callback.notes == others.notes


class Spoil(TrainerCallback):
    """Puts a number that is not finite into the model after a step, and takes it out again."""

    def __init__(self, parameter, at):
        self.weight, self.kept, self.at = parameter, None, at

    def on_step_end(self, _args, state, _control, **_):
        if state.global_step == self.at:
            self.kept = self.weight.data.clone()
            self.weight.data.fill_(float("nan"))

    def on_step_begin(self, _args, state, _control, **_):
        if state.global_step == self.at:
            self.weight.data.copy_(self.kept)


@pytest.mark.parametrize(("at", "steps"), [(2, [0, 4, 5]), (5, [0, 2, 4])])
def test_a_record_that_fails_is_noted_once_and_training_goes_on(model, train, caplog, at, steps):
    subject = model()
    callback = DepthCallback(probes=PROBES, every=2)
    with caplog.at_level(logging.WARNING):
        train(subject, Spoil(subject.model.layers[1].mlp.up_proj.weight, at), callback)
    assert [found.step for found in callback.history] == steps
    (note,) = callback.notes
    assert note.startswith(f"step {at} is missing: representation that is not finite at block 1")
    assert note in caplog.text


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"every": 0}, BadInputError, "steps between records: '0'; expected at least 1"),
        ({"readout": "last"}, UnknownNameError, "unknown readout: 'last'"),
        ({"probes": PROBES[:3]}, DataError, "too few probes: '3'"),
    ],
)
def test_what_it_cannot_do_is_refused_before_training(options, error, match):
    with pytest.raises(error, match=match):
        DepthCallback(**options)


def begin(callback, model, tokenizer=None):
    state = SimpleNamespace(global_step=0, log_history=[], epoch=0.0)
    arguments = SimpleNamespace(device="cpu")
    callback.on_train_begin(arguments, state, None, model=model, processing_class=tokenizer)


def test_a_training_without_a_tokenizer_or_with_deepspeed_s_sharded_weights_is_refused(
    model, tiny_text
):
    subject = model()
    with pytest.raises(ModelError, match=r"no tokenizer for the probes.*DepthCallback\(tokenizer"):
        begin(DepthCallback(probes=PROBES), subject)
    next(subject.parameters()).ds_id = 0  # What ZeRO stage 3 marks each parameter with.
    with pytest.raises(ModelError, match="sharded over processes: 'DeepSpeed ZeRO stage 3'"):
        begin(DepthCallback(probes=PROBES), subject, tiny_text.tokenizer())


@pytest.fixture
def sharded():
    """Shards a model and its blocks, in a group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))

    def shard(model, blocks):
        for block in blocks:
            fully_shard(block, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    yield shard
    dist.destroy_process_group()


@pytest.mark.parametrize("wrap", [lambda model: model, lora])
def test_weights_that_fsdp2_spreads_are_gathered_for_a_record_and_spread_again(
    model, tiny_text, sharded, wrap
):
    torch.manual_seed(0)
    whole, spread = wrap(model()), wrap(model())
    spread.load_state_dict(whole.state_dict())
    spread = sharded(spread, without_adapter(spread).model.layers)
    trains = [p.requires_grad for p in spread.parameters()]
    expected, found = DepthCallback(probes=PROBES), DepthCallback(probes=PROBES)
    begin(expected, whole, tiny_text.tokenizer())
    begin(found, spread, tiny_text.tokenizer())
    for key, states in expected._before.pooled.items():
        np.testing.assert_allclose(found._before.pooled[key], states, rtol=1e-5, atol=1e-6)
    assert all(isinstance(p, DTensor) for p in spread.parameters())
    assert [p.requires_grad for p in spread.parameters()] == trains
    spread(input_ids=torch.ones(2, 3, dtype=torch.long)).logits.square().mean().backward()
    assert [p.grad is not None for p in spread.parameters()] == trains


def test_a_model_whose_blocks_alone_are_sharded_is_refused(model, tiny_text, sharded):
    subject = model()
    sharded(subject.model.layers[0], [])
    with pytest.raises(ModelError, match=r"over processes: 'tensor parallel'.*FSDP2, or"):
        begin(DepthCallback(probes=PROBES), subject, tiny_text.tokenizer())


def test_a_replica_s_inner_model_is_what_is_shown_the_probes(model, tiny_text):
    callback = DepthCallback(probes=PROBES)
    subject = model()
    begin(callback, nn.DataParallel(subject), tiny_text.tokenizer())
    assert callback.profile.before.architecture == type(subject).__name__


def test_what_autocast_is_laid_around_a_bare_encoder_does_not_reach_a_record(tiny_text):
    """A model without a head is its own body, and accelerate leaves its forward under autocast."""
    encoder = tiny_text.model("encoder")
    reading = ProbeReading(make_probe_set(PROBES, source="given"))
    plain = by_hand(reading, tiny_text.tokenizer(frame="bert"), encoder).pooled["residual"]
    encoder._original_forward = encoder.forward
    encoder.forward = torch.autocast("cpu", dtype=torch.bfloat16)(encoder.forward)
    laid = encoder.forward
    again = by_hand(reading, tiny_text.tokenizer(frame="bert"), encoder).pooled["residual"]
    np.testing.assert_array_equal(plain, again)
    assert encoder.forward is laid


# --- Signals of the training steps ------------------------------------------------------------


def test_the_steps_between_records_are_averaged(watched):
    callback, _, lines = watched
    first, *others = [found.signals for found in callback.history]
    assert first is None  # Before the first step.
    assert [found.steps for found in others] == [2, 2, 1]
    whole = callback.signals
    assert whole.steps == 5
    assert whole.blocks == tuple(f"model.layers.{i}" for i in range(3))
    for name in ("attention_entropy", "activation_gradient"):
        parts = [np.array(getattr(found, name)) * found.steps for found in others]
        assert getattr(whole, name) == pytest.approx(sum(parts) / 5)
        assert min(getattr(whole, name)) > 0
    assert "signals" not in lines[0]
    assert lines[1]["signals"]["attention_entropy"] == list(others[0].attention_entropy)
    assert list(whole.frame()) == ["block", "attention_entropy", "activation_gradient"]


@pytest.mark.parametrize("options", [{}, checkpointing(wanted=True)])
def test_under_lora_every_step_is_heard_once(tiny, train, options):
    """A forward passes through the wrapper and the body; checkpointing runs blocks twice."""
    found = []
    for wrap, own in ((lora, options), (lambda model: model, {})):
        callback = DepthCallback(probes=PROBES, every=1, signals=True)
        trainer = train(wrap(tiny.build("llama").model), callback, steps=1, **own)
        found.append(callback.signals)
        logged = {key for entry in trainer.state.log_history for key in entry}
        assert {"depth_attention_entropy_0", "depth_activation_gradient_0"} <= logged
    adapted, base = found  # B is zero: the first step's numbers are the base's.
    assert adapted.blocks == base.blocks
    assert adapted.attention_entropy == pytest.approx(base.attention_entropy, rel=1e-5)
    assert adapted.activation_gradient == pytest.approx(base.activation_gradient, rel=1e-4)


def test_nothing_is_left_behind_also_where_training_fails(model, train):
    class Failing(TrainerCallback):
        def on_step_end(self, *_, **__):
            message = "stop"
            raise RuntimeError(message)

    subject, callback = model(), DepthCallback(probes=PROBES, signals=True)
    train(subject, callback, steps=1)
    hooks = [m for m in subject.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert hooks == []
    with pytest.raises(RuntimeError, match="stop"):
        train(subject, callback, Failing(), steps=2)
    train(subject, callback, steps=2)
    assert callback.signals.steps == 2
    assert [m for m in subject.modules() if m._forward_hooks or m._forward_pre_hooks] == []


def test_attention_that_cannot_be_heard_is_told(model, train):
    subject = model()
    subject.set_attn_implementation("eager")
    callback = DepthCallback(probes=PROBES, signals=True)
    train(subject, callback, steps=1)
    assert callback.signals.attention_entropy == (None,) * 3
    assert min(callback.signals.activation_gradient) > 0
    assert "no attention entropy: attention runs in eager" in callback.notes[0]
