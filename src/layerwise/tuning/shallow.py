"""A backward pass that ends at the lowest adapter, under gradient checkpointing too."""

from typing import Any

from transformers import TrainerCallback

from layerwise.errors import BadInputError

# What transformers and PEFT call the hooks that make the embeddings' output require a gradient.
_FORCING = ("make_inputs_require_grads", "make_inputs_require_grad")


def stop_at_lowest(model: Any) -> None:
    """Let the backward pass of an adapted model stop at its lowest adapter.

    With gradient checkpointing, libraries make the embeddings' output require a gradient, since
    reentrant checkpointing drops gradients otherwise. It takes the backward down to the input,
    whatever is adapted. Non-reentrant checkpointing needs no such thing.

    Raises:
        BadInputError: Checkpointing is on and reentrant; adapters would get no gradient.
    """
    for module in model.modules():
        how = getattr(module, "_gradient_checkpointing_func", None)
        options = getattr(how, "keywords", {})
        if getattr(module, "gradient_checkpointing", False) and options.get("use_reentrant", True):
            hint = 'gradient_checkpointing_kwargs={"use_reentrant": False}'
            message = "reentrant gradient checkpointing"
            raise BadInputError(message, expected="non-reentrant checkpointing", hint=hint)
    for module in model.modules():
        if hasattr(module, "_require_grads_hook"):
            module.disable_input_require_grads()
    # Whoever asks twice for such hooks, as TRL and Trainer together do, can take back the second
    # alone: the first ones' handles are lost.
    for module in model.modules():
        hooks = module._forward_hooks
        for key in [k for k, hook in hooks.items() if getattr(hook, "__name__", "") in _FORCING]:
            del hooks[key]


class ShallowBackward(TrainerCallback):  # type: ignore[misc]  # transformers carries no types
    """Has a Trainer, TRL's included, stop its backward at the lowest adapter: `stop_at_lowest`.

    >>> from transformers import Trainer
    >>> import layerwise as lw
    >>> trainer = Trainer(model, callbacks=[lw.ShallowBackward()])  # doctest: +SKIP
    """

    def on_train_begin(
        self, _args: Any, _state: Any, _control: Any, model: Any = None, **_: Any
    ) -> None:
        """Undo what Trainer did to the embeddings when it switched checkpointing on."""
        stop_at_lowest(model)
