"""Rivals take turns, and equal ones are trained once."""

from layerwise.measure.rivals import train_rivals


def test_all_rivals_go_one_way_before_the_next_and_equal_ones_once():
    trained, heard = [], []

    def train(rival, way):
        trained.append((rival, way))
        return f"{rival}{way}"

    def progress(jobs, title, total):
        heard.append((title, total))
        return iter(jobs)

    made = train_rivals("aba", (1, 0), train, title="trials", progress=progress)
    assert made == {"a": {1: "a1", 0: "a0"}, "b": {1: "b1", 0: "b0"}}
    assert trained == [("a", 1), ("b", 1), ("a", 0), ("b", 0)]
    assert heard == [("trials", 4)]
