"""Tables of all methods under one protocol, from results made by hand."""

import pytest

from medssl_nb.evaluation.side_by_side import gains_table, side_by_side_table


def run(arm, untrained, seed, dice, **more):
    probe = [{"labelled": n, "draw": d, "mean_dice": dice + 0.1 * (n == 4)} for n in (1, 4) for d in (0, 1)]
    return {"arm": arm, "untrained": untrained, "seed": seed, "probe": probe, **more}


def marks(mm):
    return {"landmarks": {"mean_mm": mm, "copy_mm": 36.4}}


def result(name="phantom", runs=None):
    own = {"clusters": {"share": 0.25}, "meters": {"effective_rank": 7.0}}
    runs = runs or [
        run("alice", "untrained backbone", 0, 0.3, **own, **marks(20.0), cost={"seconds": 61.2}),
        run("alice", "untrained backbone", 1, 0.5, **own, **marks(30.0), cost={"seconds": 61.2}),
        run("untrained backbone", None, 0, 0.1, **own, **marks(45.0), cost=None),
    ]
    return {
        "kind": "side by side",
        "recipe": "random.demo",
        "method": "four methods",
        "cohort": {"name": name, "options": {}, "train": 8, "validation": 2, "test": 2},
        "settings": {"labelled": [1, 4], "finetuned": [1, 4], "draws": 2, "clusters": 12},
        "seeds": [0, 1],
        "runs": runs,
        "made_with": {},
        "date": "2026-01-01",
    }


def test_a_row_for_each_arm_and_a_column_for_what_was_measured():
    table = side_by_side_table(result())
    assert table.header == ("arm", "1 labelled", "4 labelled", "landmarks, mm", "clusters", "rank", "seconds")
    trained, untrained = table.rows
    # four values 0.3, 0.3, 0.5, 0.5: mean 0.4, standard deviation sqrt(4 * 0.01 / 3) = 0.115
    assert trained == ("alice", "0.400 ± 0.115", "0.500 ± 0.115", "25.0 ± 7.1", "0.25 ± 0.00", "7.0 ± 0.0", "61 ± 0")
    assert untrained == ("untrained backbone", "0.100 ± 0.000", "0.200 ± 0.000", "45.0", "0.25", "7.0", "–")
    assert "Copying the coordinates: 36.4 mm" in table.caption and "8 training" in table.caption
    assert "12 k-means clusters" in table.caption and "fine-tuned" not in table.caption


def test_pieces_that_no_arm_has_take_no_column():
    runs = [run("alice", "x", 0, 0.3, clusters={"share": 0.1}, meters={"effective_rank": 2.0}, landmarks=None)]
    table = side_by_side_table(result(runs=runs))
    assert table.header == ("arm", "1 labelled", "4 labelled", "clusters", "rank") and "Copying" not in table.caption
    tuned = [{"labelled": 4, "draw": 0, "mean_dice": 0.6}]
    table = side_by_side_table(result(runs=[{**runs[0], "finetuned": tuned}]))
    assert table.header[3:5] == ("fine-tuned, 1", "fine-tuned, 4") and table.rows[0][3:5] == ("–", "0.600")
    ranked = [{"labelled": 4, "draw": 0, "average_precision": 0.25, "chance": 0.002}]
    found = result(runs=[{**runs[0], "lesions": ranked}])
    found["settings"]["lesions_by_brightness"] = 0.19
    table = side_by_side_table(found)
    assert table.header[3] == "lesions" and table.rows[0][3] == "0.250"
    assert "chance 0.0020, by brightness alone 0.190" in table.caption


def test_gains_are_against_the_same_network_untrained():
    without = result("hippocampus", [run("alice", "untrained backbone", 0, 0.7)])
    table = gains_table([result(), without], labelled=4)
    assert table.header == ("method", "phantom: Dice", "phantom: mm", "hippocampus: Dice")
    assert table.rows == (("alice", "0.500 (+0.300)", "25.0 (-20.0)", "0.800"),)  # no untrained twin there
    assert "4 labelled cases, over 2 draws;" in table.caption
    assert table.caption.endswith("Seeds of pre-training: 2 (phantom), 1 (hippocampus).")


def test_what_cannot_be_a_table_is_refused():
    with pytest.raises(ValueError, match="kind 'side by side', got 'probe'"):
        side_by_side_table({**result(), "kind": "probe"})
    with pytest.raises(ValueError, match="phantom holds no runs"):
        side_by_side_table({**result(), "runs": []})
    with pytest.raises(ValueError, match=r"studies/four_methods.py measures"):
        gains_table([])
    with pytest.raises(ValueError, match=r"probes with \[1, 4\] labels, not 2"):
        gains_table([result()], labelled=2)
