"""The columns of a card for people: its signals, what each block costs, and its adapters' size."""

from layerwise.columns import Column
from layerwise.signals import COSTS, SIGNALS

ADAPTER_PARAMETERS = Column("adapter_parameters", "Adapter parameters", short="params",
                            form="count",
                            meaning="Trainable parameters of adapters on all targets of the block.",
                            importance=10)  # fmt: skip


def signal_columns() -> tuple[Column, ...]:
    """Return the column of each signal that is registered, in that order."""
    return tuple(signal.column for signal in SIGNALS.values())


def card_columns() -> tuple[Column, ...]:
    """Return every column of a card; `column.value(row)` and `.interval(row)` read a `LayerRow`."""
    return (*signal_columns(), *(cost.column for cost in COSTS.values()), ADAPTER_PARAMETERS)
