"""A trainer's own code, and the adapters that it makes of its file.

The trainer is installed in a folder of its own. Writes found.json: for each adapted module its rank
and scale, and the names of the weights that train. Of a trainer, only what reads its file and puts
adapters on (or freezes) is called, on a tiny model.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
import yaml
from peft import get_peft_model
from transformers import AutoModelForCausalLM, HfArgumentParser


def trl(file, model):
    from trl import ModelConfig, TrlParser, get_peft_config

    (config,) = TrlParser([ModelConfig]).parse_args_and_config(["--config", file])
    return get_peft_model(model, get_peft_config(config))


def _axolotl(file):
    """The file through the class that checks every configuration, with what it asks for besides."""
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.config import AxolotlInputConfig

    given = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    rest = {"datasets": [{"path": "data", "type": "alpaca"}], "learning_rate": 1e-4}
    rest |= {"micro_batch_size": 1, "gradient_accumulation_steps": 1}
    checked = AxolotlInputConfig(**given, **rest).model_dump(exclude_none=True)
    lost = given.keys() - checked.keys()
    if lost:
        sys.exit(f"keys that Axolotl does not have: {lost}")
    return DictDefault(checked)


def axolotl(file, model):
    from axolotl.loaders.adapter import _build_peft_lora_config

    return get_peft_model(model, _build_peft_lora_config(model, _axolotl(file)))


def axolotl_freeze(file, model):
    from axolotl.utils.freeze import freeze_layers_except

    freeze_layers_except(model, _axolotl(file).unfrozen_parameters)
    return model


def _llamafactory(file):
    """The part of LLaMA-Factory that adapts, without the package's loading of all its trainers."""
    sys.argv = ["llamafactory-cli", file, "cutoff_len=8"]
    from llamafactory.hparams import FinetuningArguments, ModelArguments
    from llamafactory.hparams.parser import read_args

    given = read_args()
    given.pop("cutoff_len")
    parser = HfArgumentParser([ModelArguments, FinetuningArguments])
    arguments = parser.parse_dict(given)  # Refuses keys that it does not have.
    package = importlib.util.find_spec("llamafactory")
    bare = ModuleType("llamafactory.model")
    bare.__path__ = [f"{package.submodule_search_locations[0]}/model"]
    sys.modules[bare.__name__] = bare
    return importlib.import_module("llamafactory.model.adapter"), *arguments


def llamafactory(file, model):
    adapter, model_arguments, tuning = _llamafactory(file)
    return adapter._setup_lora_tuning(model.config, model, model_arguments, tuning, True, False)


def llamafactory_freeze(file, model):
    adapter, _, tuning = _llamafactory(file)
    adapter._setup_freeze_tuning(model, tuning, True, False)
    return model


def _ms_swift(file):
    from dataclasses import dataclass

    from swift.arguments.base_args.model_args import ModelArguments
    from swift.arguments.tuner_args import TunerArguments
    from swift.cli.main import parse_yaml_args

    @dataclass
    class Arguments(TunerArguments):
        """What else belongs to a whole run is left at what it is for a text model."""

        model: str | None = None
        model_revision: str | None = None
        tuner_type: str = "lora"

        def __post_init__(self):
            self.model_meta = SimpleNamespace(model_arch=None, is_multimodal=False)
            self.tuner_backend, self.use_swift_lora, self.resume_from_checkpoint = (
                "peft",
                False,
                None,
            )
            super().__post_init__()

    if not {"model", "model_revision"} <= ModelArguments.__dataclass_fields__.keys():
        sys.exit("keys that ms-swift does not have: model, model_revision")
    argv = [file]
    parse_yaml_args(argv)
    (arguments,) = HfArgumentParser(Arguments).parse_args_into_dataclasses(argv)
    return arguments


def ms_swift(file, model):
    from swift.pipelines.train.tuner import prepare_adapter

    model.model_meta = SimpleNamespace(is_multimodal=False)
    return prepare_adapter(_ms_swift(file), model, task_type="causal_lm")


def ms_swift_freeze(file, model):
    from swift.utils import activate_parameters, freeze_parameters

    arguments = _ms_swift(file)
    freeze_parameters(model, arguments.freeze_parameters_ratio, arguments.freeze_parameters, None)
    activate_parameters(model, arguments.trainable_parameters, arguments.trainable_parameters_regex)
    return model


def unsloth(file, model):
    from transformers import Trainer
    from unsloth.models import llama

    llama.clean_gpu_cache = lambda: None  # There is no accelerator whose memory it could free.
    # It looks whether its loader, which wants a tokenizer, has been at the trainer's loop.
    Trainer._inner_training_loop.__name__ = "_fast_inner_training_loop"
    model.max_seq_length, model._saved_temp_tokenizer = 64, SimpleNamespace(padding_side="right")
    return llama.FastLlamaModel.get_peft_model(model, **json.loads(Path(file).read_text("utf-8")))


def main(installed, out, trainer, file, folder):
    sys.path.insert(0, installed)
    os.chdir(out)
    if trainer == "unsloth":
        importlib.import_module("unsloth")  # It wants to be imported before transformers' models.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = globals()[trainer.replace("-", "_")](file, model)
    adapted = {
        name.removeprefix("base_model.model."): [*module.r.values(), *module.scaling.values()]
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }
    trains = [name for name, weight in model.named_parameters() if weight.requires_grad]
    Path("found.json").write_text(json.dumps({"adapted": adapted, "trains": trains}), "utf-8")
