"""Where the tokens are in what a module reads and gives."""

from collections.abc import Iterator, Mapping
from typing import Any

from layerwise.shapes import Float, Tensor


def floating(value: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors in a module's arguments or output, in order."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping | tuple | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from floating(item)


def hidden_in(args: Any, kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the hidden states among a block's arguments: by their name, or the first tensor."""
    named = kwargs.get("hidden_states")
    if named is not None:
        return next(floating(named), None)
    return next((x for x in floating((args, kwargs)) if x.ndim > 2), None)


def by_token(
    x: Tensor, n: int, t: int, *, tokens_first: bool = False
) -> Float[Tensor, "n t d"] | None:
    """Return `x` with a row for each of `t` tokens of `n` examples; None where it has none.

    The two axes are found by their sizes, side by side: examples then tokens, as in most models
    and also behind parallel streams, else tokens then examples. All that a token has beside them
    (several streams, say) is one row. Some modules have all tokens on one axis.

    Args:
        x: What a module read or gave; its last axis is never one of the two.
        n: Examples of the batch.
        t: Tokens of each.
        tokens_first: How to read it where `n` is `t`, or there is one axis for both.
    """
    sizes = [tuple(x.shape[i : i + 2]) for i in range(x.ndim - 2)]
    if (n, t) in sizes and not (tokens_first and n == t):
        i = sizes.index((n, t))
        return x.movedim((i, i + 1), (0, 1)).flatten(2)
    if (t, n) in sizes:
        i = sizes.index((t, n))
        return x.movedim((i + 1, i), (0, 1)).flatten(2)
    if x.numel() != n * t * x.shape[-1]:
        return None
    return x.reshape(t, n, -1).transpose(0, 1) if tokens_first else x.reshape(n, t, -1)
