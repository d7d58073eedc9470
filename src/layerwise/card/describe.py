"""A model and its data, as every record describes them."""

from layerwise.card.record import DataInfo, ModelInfo, QuantisationInfo, StackInfo
from layerwise.data.batches import BatchSet
from layerwise.data.text import TextData
from layerwise.models.linear import parameter_count
from layerwise.models.load import LoadedModel
from layerwise.models.quantisation import quantisation
from layerwise.objectives.record import Objective


def model_info(loaded: LoadedModel) -> ModelInfo:
    """Return what a record says of the model that it is about."""
    kept = quantisation(loaded.model)
    stacks = tuple(
        StackInfo(s.name, len(s.blocks), s.block_class, s.residual) for s in loaded.stacks
    )
    return ModelInfo(
        source=loaded.source,
        architecture=type(loaded.model).__name__,
        parameters=parameter_count(loaded.model),
        stacks=stacks,
        revision=loaded.revision,
        files=loaded.files,
        base=loaded.base,
        quantisation=None if kept is None else QuantisationInfo(**kept),
    )


def data_info(
    data: TextData, batches: BatchSet, objective: Objective, *, max_length: int
) -> DataInfo:
    """Return what a record says of the data that `batches` were made from."""
    return DataInfo(
        source=data.source,
        sha256=data.sha256,
        examples=len(data.examples) - batches.dropped,
        tokens=batches.tokens,
        objective=objective.name,
        truncated=batches.truncated,
        dropped=batches.dropped,
        max_length=max_length,
        columns=data.columns,
    )
