"""Layer groups under adapters: called as in the model that the adapters are on."""

from layerwise.models.stack import all_refs
from layerwise.tuning.groups import REST, layer_groups
from layerwise.tuning.lora import adapted, placed_on, prepared


def test_adapters_leave_the_groups_their_names_and_blocks(tiny):
    loaded = tiny.build("llama")
    plain = [group.name for group in layer_groups(loaded.model, loaded.stacks)]
    changed = adapted(loaded, placed_on(loaded, [1]))
    groups = layer_groups(changed.model, changed.stacks)
    assert [group.name for group in groups] == plain
    assert plain == [*(ref.name for ref in all_refs(loaded.stacks)), REST]
    for group in groups[:-1]:
        block = changed.model.get_submodule(group.module)
        assert block is changed.model.get_base_model().get_submodule(group.name)


def test_groups_know_what_lies_above_the_blocks(tuning):
    loaded, _ = prepared(tuning.loaded("bert"), None)
    *_, rest = layer_groups(loaded.model, loaded.stacks)
    assert set(rest.above) < set(rest.parameters)
    assert {n.split(".")[2] for n in rest.above} == {"cls"}
