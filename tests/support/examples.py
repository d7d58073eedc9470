"""Examples of a few words each, and the batches that an objective makes of them."""

from layerwise.data import Example, TextData
from layerwise.objectives import OBJECTIVES


def of(*examples):
    """Text data of `examples`; texts alone may be strings. Its columns are what the first has."""
    made = tuple(Example(e) if isinstance(e, str) else e for e in examples)
    roles = ["messages"] if made[0].messages else ["text"]
    roles += [role for role in ("prompt", "label") if getattr(made[0], role) is not None]
    return TextData("test", "", made, {role: role for role in roles}, len(made))


def words(count, start=0):
    """A text of `count` words, from the `start`-th on."""
    return " ".join(f"w{(start + i) % 50}" for i in range(count))


def batches(name, tokenizer, data, **options):
    """Return what the objective `name` makes of `data`, some texts or `TextData`."""
    data = data if isinstance(data, TextData) else of(*data)
    options = {"batch_size": 8, "max_length": 64, "seed": 0, "kind": "masked"} | options
    return OBJECTIVES[name].make_batches(tokenizer, data, **options)
