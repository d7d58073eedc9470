"""How a model comes by quantised weights: as it is saved, or as it is loaded; and what they are."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch.distributed.tensor import DTensor

from layerwise.compat.transformers import dequantising
from layerwise.errors import BadInputError, ModelError, UnknownNameError
from layerwise.extras import absent
from layerwise.models.linear import (
    packed_modules,
    parameter_count,
    passes_gradient,
    plain_parts,
    scales_of,
    weight_of,
    widths,
)

#: What a full checkpoint can be loaded as, and how many bits that is.
QUANTISATIONS = {"nf4": 4, "int8": 8}
#: What has to be installed, by what transformers calls a quantisation.
_LIBRARIES = {
    "aqlm": ("aqlm",),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed_tensors",),
    "eetq": ("eetq",),
    "gptq": ("gptqmodel", "optimum"),
    "hqq": ("hqq",),
    "quanto": ("optimum",),
    "torchao": ("torchao",),
}
#: Those that an extra of layerwise brings.
_EXTRA = {"bitsandbytes", "compressed-tensors"}
_FULL = "the model before it was quantised"


def refuse_unknown(name: str | None) -> None:
    """Refuse what no checkpoint can be loaded as.

    Raises:
        UnknownNameError: There is no such quantisation.
        ModelError: bitsandbytes is not installed.
    """
    if name is not None:
        if name not in QUANTISATIONS:
            kind = "quantisation"
            raise UnknownNameError(kind, value=name, known=QUANTISATIONS)
        _refuse_missing("bitsandbytes")


def _refuse_missing(method: str) -> None:
    missing = absent(*_LIBRARIES.get(method, ()))
    if missing:
        packages = " ".join(name.replace("_", "-") for name in missing)
        message = "quantisation whose library is not installed"
        ours = "'layerwise[quantised]'" if method in _EXTRA else packages
        hint = f"pip install {ours}, or {_FULL}"
        raise ModelError(message, value=method, expected=packages, hint=hint)


def saved_method(config: Any) -> str | None:
    """Return what transformers calls the quantisation that `config` says weights are saved in.

    None where they are plain.

    Raises:
        ModelError: It is none that is known, or its library is not installed.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as KNOWN

    saved = getattr(config, "quantization_config", None)
    if saved is None:
        return None
    plain = _plain(saved)
    of_bits = any(plain.get(key) is True for key in ("load_in_4bit", "load_in_8bit"))
    method = "bitsandbytes" if of_bits else plain.get("quant_method")
    method = getattr(method, "value", method)
    known = {"bitsandbytes", *KNOWN}
    if not isinstance(method, str) or method not in known:
        message = "quantization_config that says no known quant_method"
        raise ModelError(message, value=saved, expected=", ".join(sorted(known)))
    _refuse_missing(method)
    return method


def _plain(config: Any) -> Mapping[str, Any]:
    """Return a quantization_config as the mapping that it is in a file; empty for anything else."""
    plain: Mapping[str, Any] = getattr(config, "to_dict", dict)()
    return config if isinstance(config, Mapping) else plain


def refuse_plain_files(folder: Path, method: str | None) -> None:
    """Refuse weight files that hold no codes, where `method` says that they do.

    Raises:
        ModelError: So it is.
    """
    files = sorted(folder.glob("*.safetensors"))
    if method is None or not files:
        return
    plain = {"F64", "F32", "F16", "BF16"}
    for file in files:
        with safe_open(file, framework="pt") as held:
            if any(held.get_slice(name).get_dtype() not in plain for name in held.keys()):  # noqa: SIM118
                return
    message = "quantization_config beside weights that are plain"
    hint = "remove it from config.json"
    raise ModelError(message, value=method, expected="codes in the weight files", hint=hint)


def loading_options(config: Any, quantise: str | None, *, skip: list[str], dtype: Any) -> Any:
    """Return what makes transformers load the weights of `config` quantised; changes `config`.

    Weights that no gradient passes through are dequantised as they are loaded.

    Args:
        config: The model's configuration.
        quantise: What plain weights are to be quantised to; None leaves them.
        skip: Modules that stay plain.
        dtype: What is computed in.

    Raises:
        ModelError: The weights are quantised already, or their library is missing.
    """
    from transformers import BitsAndBytesConfig

    method = saved_method(config)
    if method is None and quantise is None:
        return {}
    if method is not None and quantise is not None:
        message = "model that is quantised already"
        raise ModelError(message, value=method, expected="full weights", hint="drop --quantize")
    if method is not None:
        saved = _plain(config.quantization_config)
        config.quantization_config = {**saved, **dequantising(method)}
        return {}
    four = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype if isinstance(dtype, torch.dtype) else torch.bfloat16,
    }
    how = four if quantise == "nf4" else {"load_in_8bit": True}
    return {"quantization_config": BitsAndBytesConfig(**how, llm_int8_skip_modules=skip)}


def quantisation(model: Any) -> dict[str, Any] | None:
    """Return what the weights of `model` are kept as; None where none of them are codes.

    That is the ``method`` (whose library reads them), the ``kind`` of code, its ``bits`` and
    whether they are ``saved`` so, not made so as they were loaded.
    """
    packed = packed_modules(model)
    if not packed:
        return None
    module: Any = next(iter(packed.values()))
    plain = _plain(getattr(getattr(model, "config", None), "quantization_config", None))
    weight = getattr(module, "weight", None)
    classes = (type(module), *([] if weight is None else [type(weight)]))
    library = next((c.__module__ for c in classes if not c.__module__.startswith("torch.")), "")
    named = plain.get("quant_method")
    method = str(getattr(named, "value", named) or library.partition(".")[0])
    bits = int(plain.get("bits") or _bits(module))
    kind = getattr(weight, "quant_type", None) or ("int8" if method == "bitsandbytes" else "")
    quantizer = getattr(model, "hf_quantizer", None)
    return {
        "method": method,
        "kind": kind or f"{method} {bits} bits",
        "bits": bits,
        "saved": bool(getattr(quantizer, "pre_quantized", False)),
    }


def _bits(module: Any) -> int:
    """Return how many bits a number of `module`'s weight takes, scales aside."""
    own = chain(module.parameters(recurse=False), module.buffers(recurse=False))
    largest = max(part.nbytes for tensor in own for part in plain_parts(tensor))
    return max(1, round(8 * largest / parameter_count(module)))


def quantisation_note(model: Any, *, method: str | None) -> list[str]:
    """Say what the weights of a `model` that was loaded are kept as; `method` they are saved in."""
    packed = packed_modules(model)
    if not packed:
        dtype = str(model.dtype).removeprefix("torch.")
        said = f"its {method} weights were dequantised to {dtype} as they were loaded"
        return [] if method is None else [f"{said}: what runs on their codes has no backward"]
    found = quantisation(model) or {}
    note = f"the weights of {len(packed)} modules are kept in {found['kind']}"
    if found["kind"] == "int8":
        # bitsandbytes says so at every call of every module.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        note += ", which computes with inputs rounded to float16"
    return [note]


def decompress(model: Any) -> list[str]:
    """Let compressed-tensors unpack a `model` in hand as its first forward would; say so.

    Until then such a module has no weight of any kind.
    """
    compressor: Any = getattr(getattr(model, "hf_quantizer", None), "compressor", None)
    packed = packed_modules(model)
    if not packed or not hasattr(compressor, "decompress_model"):
        return []
    compressor.decompress_model(model)
    return [f"the compressed weights of {len(packed)} modules were decompressed, as a forward does"]


def keep_arranged(model: nn.Module) -> tuple[str, ...]:
    """Keep 4-bit weights of bitsandbytes as they are saved; say of how many that had to be undone.

    On some CPUs a forward without gradient puts them in an order of its own, with coarser scales,
    in which they no longer dequantise and no gradient passes.
    """
    module: Any
    undone = 0
    for module in packed_modules(model).values():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
            state: Any = getattr(module.weight, "quant_state", None)
            if getattr(state, "packing_format_for_cpu", False):
                undone += 1
                module.state_dict()  # Saving undoes it, but for scales that are not codes too.
                scales = state.absmax
                state.absmax = scales.T.reshape(-1).float() if scales.ndim == 2 else scales
    told = f"{undone} weights that an earlier forward had put in another order were put back"
    return (f"{told}, with coarser scales",) if undone else ()


def refuse_untrainable(model: Any) -> None:
    """Refuse quantised weights beside which transformers' Trainer does not train adapters.

    Raises:
        BadInputError: Its quantizer says so of the model's.
    """
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None and packed_modules(model) and not quantizer.is_trainable:
        message = "quantised weights that transformers does not train adapters on"
        value = (quantisation(model) or {})["kind"]
        expected = "others, such as nf4, int8, torchao's 8 bits or GPTQ"
        raise BadInputError(
            message, value=value, expected=expected, hint=f"{_FULL}, --quantize nf4"
        )


def refuse_without_gradient(model: nn.Module) -> None:
    """Refuse a model through whose weights no gradient passes here.

    They are not in this process's memory; or are codes, of which one module of each kind is tried.

    Raises:
        ModelError: There are such weights.
    """
    away = [name for name, p in model.named_parameters() if p.is_meta]
    if away:
        message = f"{len(away)} weights that are offloaded, or on the meta device"
        hint = "a device_map without offloading"
        raise ModelError(message, value=away[0], expected="weights in memory", hint=hint)
    if any(isinstance(p, DTensor) for p in model.parameters()):
        message = "model whose weights are sharded over processes"
        raise ModelError(message, value=type(model).__name__, expected="the whole model in each")
    kinds = {(type(m), type(getattr(m, "weight", None))): m for m in packed_modules(model).values()}
    for (kind, weight), module in kinds.items():
        why = ""
        try:
            if passes_gradient(module):
                continue
        except (NotImplementedError, RuntimeError, ValueError, ImportError) as error:
            why = f" ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        message = f"quantised weights that no gradient passes through here{why}"
        value = f"{weight.__name__} of {kind.__name__}"
        expected = "codes of weights alone, computed with in floating point"
        raise ModelError(message, value=value, expected=expected, hint=f"{_FULL}, --quantize nf4")


def refuse_full_training(model: nn.Module, what: str) -> None:
    """Refuse `what` trains whole weights of a model that keeps codes in their place.

    Raises:
        BadInputError: It keeps codes.
    """
    found = quantisation(model)
    if found is not None:
        message = f"full fine-tuning of weights in {found['kind']}, which are codes"
        raise BadInputError(
            message, value=what, expected="LoRA", hint="layerwise tune --condition lora"
        )


@contextmanager
def scales_kept(model: nn.Module) -> Iterator[None]:
    """Keep the scales of 8-bit weights by bitsandbytes, whatever is done to their modules inside.

    A copy of a module before its first forward, or a move after, parts them from the codes.
    """
    coded: Any
    held = {}
    for coded in packed_modules(model).values():
        if (scales := scales_of(coded)) is not None:
            held[coded.weight.data_ptr()] = coded.weight.data, scales
    yield
    for coded in packed_modules(model).values() if held else ():
        if coded.weight.data_ptr() in held:
            coded.state.CB, coded.state.SCB = held[coded.weight.data_ptr()]
            coded.weight.CB = coded.weight.SCB = None


def unpack(model: nn.Module) -> int:
    """Put plain linear modules in place of those of `model` that keep codes; return how many."""
    packed = packed_modules(model)
    for name, module in packed.items():
        shape, weight = widths(module), weight_of(module)
        assert shape is not None, "packed modules are linear"  # noqa: S101
        bias = getattr(module, "bias", None)
        with torch.device("meta"):
            plain = nn.Linear(shape.in_features, shape.out_features, bias=bias is not None)
        plain.weight = nn.Parameter(weight.to(_dtype(model)), requires_grad=False)
        if bias is not None:
            plain.bias = nn.Parameter(bias.detach().to(weight.device), requires_grad=False)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, plain.train(module.training))
    for flag in ("is_loaded_in_4bit", "is_loaded_in_8bit", "is_quantized", "hf_quantizer"):
        vars(model).pop(flag, None)
    return len(packed)


def _dtype(model: nn.Module) -> torch.dtype:
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next((dtype for dtype in floats if dtype.itemsize > 1), torch.float32)
