"""Which objectives are compared, and with which of them."""

from collections.abc import Sequence
from contextlib import suppress

from layerwise.data.text import TextData
from layerwise.errors import BadInputError
from layerwise.models.load import LoadedModel
from layerwise.objectives import OBJECTIVES, Objective, resolve

#: What is compared with where nothing else is asked for: the first that the model can do.
REFERENCES = ("masked-lm", "causal-lm")


def choose(
    loaded: LoadedModel,
    data: TextData,
    *,
    objectives: Sequence[str] | None = None,
    reference: str | None = None,
) -> tuple[Objective, ...]:
    """Return the objectives to compare, the reference first; the columns of `data` decide too.

    Without names, all that the model can do; without a reference, the first of `REFERENCES`.

    Raises:
        UnknownNameError: No objective has such a name.
        BadInputError: The model cannot do one of them, or fewer than two are left.
    """
    possible = []
    for name in OBJECTIVES:
        with suppress(BadInputError):
            possible.append(resolve(name, loaded=loaded, data=data).name)
    asked = list(dict.fromkeys(possible if objectives is None else objectives))
    refused = [
        n for n in (*asked, *filter(None, [reference])) if OBJECTIVES[n].name not in possible
    ]
    if refused:
        msg = f"objectives that {loaded.source} cannot do on this data"
        expected = f"some of {', '.join(possible)}" if possible else "another model or data"
        hint = f"--objectives {','.join(possible)}" if possible else ""
        raise BadInputError(msg, value=", ".join(refused), expected=expected, hint=hint)
    first = reference or next((name for name in REFERENCES if name in possible), None)
    if first is None:
        msg = f"no usual reference objective for {loaded.source}, of kind {loaded.kind}"
        expected = f"one of {', '.join(possible)}" if possible else "another model or data"
        hint = f"--reference {possible[0]}" if possible else ""
        raise BadInputError(msg, expected=expected, hint=hint)
    names = list(dict.fromkeys([first, *asked]))
    if len(names) < 2:
        msg = "nothing to compare the reference objective with"
        others = ", ".join(name for name in possible if name != first)
        expected = f"some of {others}" if others else "a model and data for two objectives or more"
        raise BadInputError(msg, value=first, expected=expected)
    return tuple(OBJECTIVES[name] for name in names)
