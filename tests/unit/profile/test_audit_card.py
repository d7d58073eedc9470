"""What a card would have placed, beside where an adapter is."""

from dataclasses import replace

import pytest

from layerwise.card.record import ModelInfo, StackInfo
from layerwise.errors import SchemaError
from layerwise.placement.compare import refuse_another_model
from layerwise.placement.cost import placement_cost
from layerwise.placement.place import choose
from layerwise.placement.record import PlacedBlock
from layerwise.profile.audit import compare_with_card
from layerwise.profile.audit_record import Audit, BlockAudit, ModuleAudit, Spectrum

STACK = "model.layers"


def audited(indices, *, stack=STACK, norm=lambda i: 1.0 + i, rank=8):
    """An audit of an adapter on the blocks `indices`, one module each."""
    update = Spectrum(1.0, 1.0, 1.0, 1.0, 1, 1, 1)
    return Audit(
        kinds=("LORA",),
        modules=tuple(
            ModuleAudit(f"{stack}.{i}.attn.q", stack, i, rank, 80, False, update) for i in indices
        ),
        blocks=tuple(
            BlockAudit(stack, i, 1, 0, rank, 80, norm(i), 1, 0.0, norm(i) / 10.0) for i in indices
        ),
        parameters=80 * len(indices),
        dead=(),
        stable_rank=1.0,
        effective_rank=1.0,
        energy_rank_90=1.0,
        utilisation=0.5,
        enough_rank=1,
        wasted_share=0.0,
        frobenius_norm=1.0,
    )


def indices(blocks):
    return [block.index for block in blocks]


def test_an_adapter_on_some_blocks_is_held_against_as_many(small_card):
    card = small_card(12)
    found = compare_with_card(audited([0, 1, 9]), card).card
    wanted = choose(card, layers=3)
    assert indices(found.blocks) == list(wanted.rows)
    assert found.policy == wanted.policy
    assert found.shared == len({0, 1, 9} & set(wanted.rows))
    assert indices(found.missed) == sorted(set(wanted.rows) - {0, 1, 9})
    assert indices(found.elsewhere) == sorted({0, 1, 9} - set(wanted.rows))
    assert found.step_ratio == wanted.cost.step_ratio
    assert found.adapter_step_ratio == placement_cost(card, [0, 1, 9], rank=8).step_ratio


def test_an_adapter_on_all_blocks_is_held_against_what_the_card_advises(small_card):
    card = small_card(12)
    found = compare_with_card(audited(range(12)), card)
    assert indices(found.card.blocks) == list(choose(card).rows)
    assert found.card.missed == ()
    assert found.card.adapter_step_ratio == pytest.approx(1.0)
    assert [b.index for b in found.blocks if b.carded] == indices(found.card.blocks)


def test_the_share_of_the_norm_is_of_squares(small_card):
    found = compare_with_card(audited(range(12)), small_card(12)).card
    squares = {i: (1.0 + i) ** 2 for i in range(12)}
    inside = sum(squares[i] for i in indices(found.blocks))
    assert found.norm_share == pytest.approx(inside / sum(squares.values()))


def test_residual_norm_and_update_are_ranked_alike_or_not(small_card):
    card = small_card(8)
    norms = card.column("residual_norm")
    alike = compare_with_card(audited(range(8), norm=lambda i: norms[i]), card).card
    against = compare_with_card(audited(range(8), norm=lambda i: 9.0 - norms[i]), card).card
    assert (alike.spearman, against.spearman) == (1.0, -1.0)
    assert compare_with_card(audited([0, 1]), card).card.spearman is None
    assert (
        compare_with_card(audited(range(8)), small_card(8, residual_norm=None)).card.spearman
        is None
    )


def test_a_card_without_timings_knows_no_cost(small_card):
    found = compare_with_card(audited(range(6)), small_card(6, forward_seconds=None)).card
    assert (found.step_ratio, found.adapter_step_ratio) == (None, None)


def test_an_adapter_outside_all_blocks_shares_nothing(small_card):
    nowhere = replace(audited([0]), blocks=())
    found = compare_with_card(nowhere, small_card(6)).card
    assert (found.shared, found.norm_share, found.adapter_step_ratio) == (0, 0.0, None)
    assert set(found.missed) == {PlacedBlock(STACK, i) for i in indices(found.blocks)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"revision": "xyz"}, "other weights of this model: 'revision abc'.* revision xyz"),
        ({"source": "org/other"}, "another model: 'org/model .*expected org/other"),
        ({"parameters": 7}, "another model: .*1,000 parameters.* 7 parameters"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_card_of_another_model_is_refused(small_card, change, message):
    stacks = (StackInfo(STACK, 12, "Block", "sequential"),)
    base = ModelInfo("org/model", "Model", 1000, stacks, revision="abc")
    refuse_another_model(base, small_card(12).model)
    with pytest.raises(SchemaError, match=f"a card of {message}"):
        refuse_another_model(replace(base, **change), small_card(12).model)
