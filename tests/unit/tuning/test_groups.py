"""Layer groups under adapters: called as in the model that the adapters are on."""

from layerwise.models.stack import all_refs
from layerwise.tuning.groups import REST, layer_groups
from layerwise.tuning.lora import adapted, placed_on


def test_adapters_leave_the_groups_their_names(tiny):
    loaded = tiny.build("llama")
    plain = [group.name for group in layer_groups(loaded.model, loaded.stacks)]
    changed = adapted(loaded, placed_on(loaded, [1]))
    groups = layer_groups(changed.model, changed.stacks)
    assert [group.name for group in groups] == plain
    assert plain == [*(ref.name for ref in all_refs(loaded.stacks)), REST]


def test_a_group_s_module_is_where_its_block_is_now(tiny):
    loaded = tiny.build("llama")
    changed = adapted(loaded, placed_on(loaded, [1]))
    for group in layer_groups(changed.model, changed.stacks)[:-1]:
        block = changed.model.get_submodule(group.module)
        assert block is changed.model.get_base_model().get_submodule(group.name)
