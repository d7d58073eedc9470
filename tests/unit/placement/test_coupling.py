"""What a card says of the coupling of its blocks."""

from dataclasses import replace

import numpy as np
import pytest

from layerwise.card.record import LayerCard
from layerwise.placement.advise import advise
from layerwise.placement.coupling import coupling
from layerwise.signals.coupling import block_coupling, set_coupling
from layerwise.signals.gain import DRAWS, flipped


def gram(shared, blocks=12):
    rng = np.random.default_rng(0)
    own, common = rng.normal(size=(blocks, 10, 40)), rng.normal(size=(1, 10, 40))
    found = (1 - shared) * own + shared * common
    return np.einsum("lnd,lmd->lnm", found, found)


@pytest.mark.parametrize(("shared", "told"), [(0.0, False), (0.8, True)])
def test_coupling_is_told_where_it_leaves_the_null(small_card, shared, told):
    card = small_card(gram=gram(shared))
    found = coupling(card)
    assert found.told is told
    assert found.finding.startswith("Blocks can stand in" if told else "Coupling is not told")


def test_figures_are_those_of_the_formulas(small_card, tmp_path):
    own = gram(0.5)
    card = small_card(gram=own)
    card = replace(card, advice=advise(card))
    card = replace(card, coupling=coupling(card))
    null = [flipped(own, card.capture.seed, i) for i in range(DRAWS)]
    for at in card.coupling.blocks:
        assert at.kappa == pytest.approx(block_coupling(own, at.damping).kappa)
        highest = np.max([block_coupling(g, at.damping).kappa for g in null], axis=0)
        assert at.kappa_by_chance == pytest.approx(highest)
    names = {each.name for each in card.coupling.sets}
    assert {"advised", "top", "last"} <= names
    for each in card.coupling.sets:
        assert each.gain == pytest.approx(set_coupling(own, each.layers, each.damping).gain)
        assert each.rho_by_chance == pytest.approx(
            max(set_coupling(g, each.layers, each.damping).rho for g in null)
        )
    assert card.advice.layers in {e.layers for e in card.coupling.sets if e.name == "advised"}
    card.save(tmp_path)
    assert LayerCard.load(tmp_path).coupling == card.coupling
    assert card.coupling.finding.split(":")[0] in " ".join(str(card).split())


def test_a_card_that_cannot_tell_has_none(small_card):
    assert coupling(small_card(gram=None)) is None
    assert coupling(small_card(gram=gram(0.0, blocks=1)[:, :, :], blocks=1)) is None
