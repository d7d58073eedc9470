from dataclasses import replace

import pytest

from layerwise.placement.record import PlacedBlock
from layerwise.report import document, frames, text


def reasons(made):
    return document(made).blocks[0].reasons


def test_the_verdict_comes_first(planted_measure):
    for how, words in (
        ({}, "The recommended placement is better than a random one."),
        ({"random": False}, "The recommended placement was not held against random ones."),
    ):
        assert document(planted_measure(**how)).blocks[0].text == words


def test_the_reasons_name_what_failed_and_what_intervals_leave_out(planted_measure):
    made = planted_measure()
    told = reasons(made)
    assert told[:2] == [made.reason, "ski is left out: no <b>attention</b>."]
    assert "over 3 paired seeds, not over the 64 validation examples" in told[-1]
    assert "One seed has no interval" in reasons(planted_measure(seeds=(0,)))[-1]


def test_rates_at_the_ends_of_the_ladder_are_told(planted_measure):
    made = planted_measure()
    (chosen,) = {arm.learning_rate for arm in made.arms if arm.outcome}
    count = sum(arm.outcome is not None for arm in made.arms)

    def told(*ladder):
        return " ".join(reasons(replace(made, ladder=ladder)))

    suited = f"rate, {chosen:g}, suited {count} of {count} arms best: "
    assert f"largest {suited}larger ones" in told(chosen / 10, chosen)
    assert f"smallest {suited}smaller ones" in told(chosen, 10 * chosen)
    assert "suited" not in told(chosen / 10, chosen, 10 * chosen)
    assert f"All arms had one learning rate, {chosen:g}" in told(chosen)


def test_every_arm_is_a_row_with_its_numbers(planted_measure):
    made = planted_measure()
    table, found = document(made).tables()["arms"], frames(made)["arms"].set_index("name")
    measured = [arm for arm in made.arms if arm.outcome]
    assert list(found.index) == [arm.name for arm in measured]
    for arm in measured:
        row = found.loc[arm.name]
        assert (row["improvement"], row["low"]) == (arm.outcome.improvement, arm.outcome.low)
        assert row["step_ratio"] == arm.outcome.step_ratio
    assert [table.rows[n]["name"] for n in table.marked] == ["recommended"]
    assert found.loc["random-0", "verdict"] == "worse"
    assert found.loc["top", "blocks"] == "3, 7–9"
    assert table.columns[2].title == "Fall of loss"
    assert document(planted_measure(quality="bleu")).tables()["arms"].columns[2].title == (
        "Gain of bleu"
    )


def test_trials_and_rates_are_told_arm_by_arm(planted_measure):
    made = planted_measure()
    found, top = frames(made), made.arm("top")
    trials = found["trials"].set_index("name").loc["top"]
    assert list(trials) == [trial.improvement for trial in top.trials]
    assert list(found["ladder"].set_index("name").loc["top"]) == ["0.256", "0.320 ●", "diverged"]


def test_blocks_of_several_stacks_have_their_names(planted_measure):
    made = planted_measure()
    blocks = (PlacedBlock("encoder", 0), PlacedBlock("decoder", 1), PlacedBlock("decoder", 2))
    made = replace(made, arms=(replace(made.arms[0], blocks=blocks), *made.arms[1:]))
    assert frames(made)["arms"]["blocks"][0] == "encoder 0; decoder 1, 2"


def test_the_charts_have_the_arms_once_and_every_seed(planted_measure):
    made = planted_measure()
    copies = [replace(a, same_as="recommended") if a.name == "top" else a for a in made.arms]
    drawn = document(replace(made, arms=tuple(copies))).charts()
    board, time = ([row["head"] for row in drawn[n].rows] for n in ("leaderboard", "time"))
    assert board == [arm.name for arm in made.arms if arm.outcome]
    assert set(board) - set(time) == {"top"}
    assert len(drawn["leaderboard"].faint) == 3 * len(board)
    one = document(planted_measure(seeds=(0,))).charts()["leaderboard"]
    assert (one.low, one.faint) == ("", ())


def test_what_was_spent_and_measured_is_told(planted_measure, unsaid):
    assert not unsaid(
        text(planted_measure(notes=("planted",)), width=200),
        "on reviews.csv (trained on 400, rates chosen on 64, scored on 64 of 528 rows; causal-lm)",
        "4 blocks at rank 8: 1,000 parameters, 40 steps, 3 paired seeds",
        "- note: planted",
    )
    pairs = {
        pair for block in document(planted_measure()).blocks for pair in getattr(block, "pairs", ())
    }
    assert {("Before", "3 loss of the untouched model"), ("Seeds", "0, 1, 2")} <= pairs


@pytest.mark.parametrize("how", [{"seeds": (0,)}, {"random": False}])
def test_the_ladder_is_explained(planted_measure, how):
    told = [getattr(block, "text", "") for block in document(planted_measure(**how)).blocks]
    assert any("on text and a seed (3) that score nobody" in line for line in told)
