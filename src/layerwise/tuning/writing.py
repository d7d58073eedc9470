"""A model or adapter, with its tokenizer, as a folder that can be loaded again."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerwise.errors import LayerwiseError, OutputError, one_line
from layerwise.files import remove
from layerwise.models.heads import head_modules
from layerwise.models.load import LoadedModel
from layerwise.models.reading import quiet
from layerwise.objectives.forward import without_adapter
from layerwise.resources import unwritable
from layerwise.tuning.adapters import has_adapters


@contextmanager
def writable(what: str, where: Path, *, expected: str = "room on the disk") -> Iterator[None]:
    """Let writing that fails inside be one error that says so of `what`.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        yield
    except Exception as error:
        if not unwritable(error):
            raise
        hint = "free space, then --resume"
        message = f"cannot write {what} ({one_line(error, limit=120)})"
        raise OutputError(message, value=where, expected=expected, hint=hint) from error


def write_model(loaded: LoadedModel, folder: Path) -> None:
    """Write the weights of `loaded`, or its adapters alone, and its tokenizer into `folder`.

    Raises:
        OSError: There is no room, or no permission.
        SafetensorError: Likewise.
    """
    is_adapter = has_adapters(loaded.model)
    # PEFT would ask the hub, each time, if the embeddings are the base's own.
    options = {"save_embedding_layers": False} if is_adapter else {}
    with quiet():
        loaded.model.save_pretrained(folder, **options)
        if loaded.tokenizer is not None:
            try:
                loaded.tokenizer.save_pretrained(folder)
            except Exception as error:
                if type(error) is not Exception:  # The writer in Rust has no type of its own.
                    raise
                raise OSError(str(error)) from error
        if not is_adapter and hasattr(loaded.model.config, "vision_config"):
            with suppress(LayerwiseError):  # Text alone may have been read, with no processor here.
                loaded.processor().save_pretrained(folder)
        base = without_adapter(loaded.model)
        if is_adapter and head_modules(base):  # The base that is loaded need not have a head.
            config = copy.deepcopy(base.config)
            config.architectures = [type(base).__name__]
            config.save_pretrained(folder)
    for card in folder.glob("README.md"):  # PEFT's template of a model card, all of it to fill in.
        remove(card, inside=folder)
