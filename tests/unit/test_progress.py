from layerwise.progress import silent


def test_silent_hands_every_item_on_and_says_nothing(capsys):
    assert list(silent(range(3), "work", 3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_silent_takes_items_one_at_a_time():
    taken = []
    items = silent((taken.append(i) for i in range(3)), "work", 3)
    next(items)
    assert len(taken) == 1
