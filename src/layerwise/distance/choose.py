"""Which objectives are compared, and with which of them."""

from collections.abc import Sequence

from layerwise.data.text import TextData
from layerwise.errors import BadInputError
from layerwise.models.load import LoadedModel
from layerwise.objectives import OBJECTIVES, Objective, resolve

__all__ = ["REFERENCES", "choose"]

#: What is compared with where nothing else is asked for: the first that the model can do.
REFERENCES = ("masked-lm", "causal-lm")


def choose(
    loaded: LoadedModel,
    data: TextData,
    *,
    objectives: Sequence[str] | None = None,
    reference: str | None = None,
) -> tuple[Objective, ...]:
    """Return the objectives to compare, the reference first.

    Args:
        loaded: The model.
        data: The text, whose columns decide too.
        objectives: Their names; None takes all that the model can do.
        reference: What they are compared with; None takes masked-lm or causal-lm.

    Raises:
        UnknownNameError: No objective has such a name.
        BadInputError: The model cannot do one of them, or fewer than two are left.
    """
    possible = [name for name in OBJECTIVES if _is_possible(name, loaded, data)]
    asked = list(dict.fromkeys(possible if objectives is None else objectives))
    refused = [
        n for n in (*asked, *filter(None, [reference])) if OBJECTIVES[n].name not in possible
    ]
    if refused:
        msg = f"objectives that {loaded.source} cannot do on this data"
        expected = f"some of {', '.join(possible)}" if possible else "another model or data"
        hint = f"--objectives {','.join(possible)}" if possible else ""
        raise BadInputError(msg, value=", ".join(refused), expected=expected, hint=hint)
    first = reference or _usual(possible, loaded)
    names = list(dict.fromkeys([first, *asked]))
    if len(names) < 2:
        msg = "nothing to compare the reference objective with"
        others = ", ".join(name for name in possible if name != first)
        expected = f"some of {others}" if others else "a model and data for two objectives or more"
        raise BadInputError(msg, value=first, expected=expected)
    return tuple(OBJECTIVES[name] for name in names)


def _is_possible(name: str, loaded: LoadedModel, data: TextData) -> bool:
    try:
        resolve(name, loaded=loaded, data=data)
    except BadInputError:
        return False
    return True


def _usual(possible: Sequence[str], loaded: LoadedModel) -> str:
    """Return the reference objective that nobody named.

    Raises:
        BadInputError: The model can do none of the usual ones.
    """
    found = next((name for name in REFERENCES if name in possible), None)
    if found is None:
        msg = f"no usual reference objective for {loaded.source}, of kind {loaded.kind}"
        expected = f"one of {', '.join(possible)}" if possible else "another model or data"
        hint = f"--reference {possible[0]}" if possible else ""
        raise BadInputError(msg, expected=expected, hint=hint)
    return found
