"""What a measurement says in words; see story_measure."""

from dataclasses import replace

import pytest
from layerwise.report.old.story_measure import (
    against_text,
    arm_blocks,
    gained,
    improvement_text,
    ladder_text,
    measure_headline,
    measure_reasons,
    place_text,
    share_text,
)

from layerwise.placement.record import PlacedBlock


def test_the_headline_is_the_verdict(planted_measure):
    better = "The recommended placement is better than a random one."
    assert measure_headline(planted_measure()) == better
    few = "Too few seeds to tell the recommended placement from a random one."
    assert measure_headline(planted_measure(seeds=(0, 1))) == few
    none = "The recommended placement was not held against random ones."
    assert measure_headline(planted_measure(random=False)) == none


def test_the_reasons_name_what_failed_and_what_intervals_leave_out(planted_measure):
    told = measure_reasons(planted_measure())
    assert told[1] == "ski is left out: no <b>attention</b>."
    assert "over 3 paired seeds, not over the 64 validation examples" in told[-1]
    assert "One seed has no interval" in measure_reasons(planted_measure(seeds=(0,)))[-1]


def test_rates_at_the_ends_of_the_ladder_are_told(planted_measure):
    made = planted_measure()
    (chosen,) = {arm.learning_rate for arm in made.arms if arm.outcome}
    count = sum(arm.outcome is not None for arm in made.arms)

    def told(*ladder):
        return " ".join(measure_reasons(replace(made, ladder=ladder)))

    suited = f"rate, {chosen:g}, suited {count} of {count} arms best: "
    assert f"largest {suited}larger ones" in told(chosen / 10, chosen)
    assert f"smallest {suited}smaller ones" in told(chosen, 10 * chosen)
    assert "suited" not in told(chosen / 10, chosen, 10 * chosen)
    assert f"All arms had one learning rate, {chosen:g}" in told(chosen)


def test_what_it_is_in(planted_measure):
    assert gained(planted_measure()) == "fall of loss"
    assert gained(planted_measure(quality="bleu")) == "gain of bleu"


def test_an_arm_in_cells(planted_measure):
    made = planted_measure()
    assert arm_blocks(made.arm("top")) == "3, 7–9"
    assert place_text(made.arm("all")) == "–"
    assert place_text(made.arm("top")) == "1"
    assert improvement_text(made.arm("ski")) == against_text(None) == ""
    assert against_text(made.arm("random-0").against).endswith(", worse")
    assert ladder_text(made.arm("top"), made.ladder) == ["0.256", "0.320 ●", "diverged"]
    assert (share_text(None), share_text(0.5)) == ("–", "50 %")


def test_blocks_of_several_stacks_have_their_names(planted_measure):
    blocks = (PlacedBlock("encoder", 0), PlacedBlock("decoder", 1), PlacedBlock("decoder", 2))
    arm = replace(planted_measure().arm("top"), blocks=blocks)
    assert arm_blocks(arm) == "encoder 0; decoder 1, 2"


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_an_improvement_has_its_interval_where_there_is_one(planted_measure, seeds):
    text = improvement_text(planted_measure(seeds=seeds).arm("top"))
    assert ("(" in text) == (len(seeds) > 1)
