import pytest

from medssl_nb.evaluation.tables import (
    Table,
    comparable,
    curve_table,
    dice_table,
    difference_table,
    hd95_table,
    landmark_table,
    protocol_text,
    unique_runs,
)

MADE = {
    "medssl_nb": "0.1.0",
    "commit": "0123456789abcdef+changes",
    "python": "3.11.7",
    "torch": "2.13.0",
    "monai": "1.6.1",
    "device": "Some Card",
    "cpu": "Some CPU",
    "threads": 1,
    "processes": 2,
    "precision": "32-true",
}


def result_of(runs, kind="transfer", **changes):
    cohort = {
        "name": "phantom",
        "options": {"spacing_mm": 5.0, "test": 4, "shape": [24, 24, 8]},
        "train": 8,
        "validation": 2,
    }
    result = {"kind": kind, "recipe": "mae.demo", "method": "mae", "cohort": {**cohort, "test": 4}, "settings": {}}
    return {**result, "seeds": [0, 1], "runs": runs, "made_with": MADE, "date": "2026-01-31", **changes}


def run_of(start, labelled, draw, seed, dice, hd95=10.0, cases=None, **changes):
    test = {"mean_dice": dice, "mean_hd95_mm": hd95, "dice": {}, "hd95_mm": {}, "cases": cases or {}}
    run = {"start": start, "labelled": labelled, "draw": draw, "seed": seed, "steps": 60, "chosen_step": 60}
    return {**run, "curve": [[15, 0.25], [60, dice]], "test": test, "seconds": 1.0, **changes}


def probe_of(start, labelled, draw, seed, dice):
    return {"start": start, "labelled": labelled, "draw": draw, "seed": seed, "mean_dice": dice}


def cells(table):
    return {row[0]: row[1:] for row in table.rows}


# ---------------------------------------------------------------- Markdown
def test_markdown():
    table = Table("T", ("start", "1 labelled"), (("random", "0.5"), ("a|b", "–")), "What it is.")
    assert str(table).splitlines() == [
        "| start  | 1 labelled |",
        "|--------|------------|",
        "| random | 0.5        |",
        "| a\\|b   | –          |",
        "",
        "What it is.",
    ]
    assert table._repr_markdown_().startswith("**T**\n\n| start ")


# ---------------------------------------------------------------- Dice and distances
def test_dice_by_hand():
    runs = [run_of("random", 1, 0, seed, dice) for seed, dice in ((0, 0.5), (1, 0.6), (2, 0.7))]
    runs += [run_of("view_contrast", 10, 0, 0, 0.8), run_of("view_contrast", 2, 0, 0, 0.75)]
    runs += [run_of("random", "all", 0, 0, 0.9), run_of("alice", 2, 0, 0, 0.1)]
    table = dice_table(result_of(runs))
    assert table.header == ("start", "1 labelled", "2 labelled", "10 labelled", "all labelled")
    assert table.rows == (
        ("random", "0.600 ± 0.100 (3)", "not run", "not run", "0.900 (1)"),
        ("alice", "not run", "0.100 (1)", "not run", "not run"),
        ("view contrast", "not run", "0.750 (1)", "0.800 (1)", "not run"),
    )


def test_every_table_carries_its_protocol():
    runs = [run_of(start, 1, draw, 3, 0.5 + 0.01 * draw) for start in ("random", "mae") for draw in (0, 2, 10)]
    result = result_of(runs, settings={"steps": 60})
    for make in (dice_table, hd95_table, difference_table, curve_table):
        caption = make(result).caption
        for part in (
            "Cohort phantom (shape 24 × 24 × 8, spacing_mm 5): 8 training, 2 validation, 4 test cases",
            "draws 0, 2, 10, seeds 3, steps 60; recipes mae.demo.",
            "Made with medssl_nb 0.1.0 (commit 01234567+changes, Python 3.11.7, torch 2.13.0, monai 1.6.1) "
            "on Some Card (Some CPU, 1 thread), 2 processes, precision 32-true, 2026-01-31.",
        ):
            assert part in caption, make.__name__
    assert "seeds 0, 1; recipes" in protocol_text(result_of([{"x": 1}], "speed")), "runs that do not say their seed"


def test_all_versions_are_named():
    other = result_of(
        [run_of("b", 1, 0, 0, 0.5)], recipe="b.demo", made_with={**MADE, "commit": None}, date="2026-02-01"
    )
    caption = dice_table([result_of([run_of("a", 1, 0, 0, 0.5)]), other]).caption
    assert "recipes b.demo, mae.demo." in caption
    assert "(commit 01234567+changes, " in caption and "; and with medssl_nb 0.1.0 (commit unknown, " in caption
    assert caption.endswith("2026-02-01.")


def test_runs_without_a_score_are_counted():
    runs = [run_of("random", 1, 0, 0, None), run_of("random", 1, 0, 1, 0.5), run_of("mae", 1, 0, 0, None)]
    table = dice_table(result_of(runs))
    assert cells(table) == {"random": ("0.500 (1)",), "mae": ("not defined (1)",)}
    assert "Without a value (no labelled organ to score), and so left out: random 1, mae 1." in table.caption


def test_distances_say_how_many_organs_were_not_found():
    one = {
        "dice": {"liver": 0.7, "spleen": 0.0, "colon": None},
        "hd95_mm": {"liver": 9.0, "spleen": None, "colon": None},
    }
    two = {"dice": {"liver": 0.7, "spleen": 0.3}, "hd95_mm": {"liver": 9.0, "spleen": 4.0}}
    runs = [run_of("random", 1, 0, 0, 0.4, 9.0, {"a": one, "b": two}), run_of("mae", 1, 0, 0, 0.0, None, {"a": one})]
    table = hd95_table(result_of(runs))
    assert cells(table) == {"random": ("9.0 (1)",), "mae": ("not defined (1)",)}
    assert "have no distance and are left out: random 1 of 4, mae 1 of 2." in table.caption
    assert "Without a value (no organ found), and so left out: mae 1." in table.caption


def test_probes_have_the_same_table():
    runs = [probe_of("random", 1, 0, 0, 0.2), probe_of("random", 1, 0, 1, 0.4)]
    table = dice_table(result_of(runs, "probe"))
    assert table.title == "Dice of a probe on frozen features"
    assert cells(table) == {"random": ("0.300 ± 0.141 (2)",)}


def test_a_probe_says_which_and_on_which_cases():
    runs = [probe_of(start, 1, 0, 0, dice) for start, dice in (("random", 0.2), ("mae", 0.4))]
    result = result_of(runs, "probe", settings={"probe": "nearest", "part": "validation"})
    assert dice_table(result).title == "Dice of a nearest probe on frozen features"
    assert dice_table(result).caption.startswith("Validation mean Dice (0 to 1")
    assert difference_table(result).caption.startswith("Gain in validation mean Dice over random")
    assert dice_table({**result, "settings": {}}).caption.startswith("Test mean Dice (0 to 1")


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ({"0": 0, "1": 1}, "view contrast pre-trained for 300 steps, seeds 0, 1; recipes"),
        ({"0": 0, "1": 0}, "view contrast pre-trained for 300 steps, once (seed 0) for all seeds; recipes"),
        ({"0": 0}, "view contrast pre-trained for 300 steps, seeds 0; recipes"),
        ({}, "view contrast pre-trained for 300 steps; recipes"),
    ],
)
def test_captions_say_how_a_start_was_pre_trained(seeds, text):
    settings = {"pretraining": {"profile": {"steps": 300}, "seed_of_each_seed": seeds}}
    result = result_of([run_of("view_contrast", 1, 0, 0, 0.5)], method="view_contrast", settings=settings)
    random = result_of([run_of("random", 1, 0, 0, 0.5)], settings={"pretraining": {"method": "none"}})
    assert text in dice_table([random, result]).caption
    assert "pre-trained" not in dice_table(random).caption


# ---------------------------------------------------------------- paired differences
def test_difference_by_hand():
    runs = [run_of("random", 1, 0, seed, 0.5 + 0.01 * seed) for seed in range(3)]
    runs += [run_of("mae", 1, 0, seed, 0.6 + 0.01 * seed) for seed in range(3)]
    runs += [run_of("random", 2, 0, 0, 0.8), run_of("mae", 2, 0, 0, 0.75), run_of("view_contrast", 2, 0, 0, 0.80001)]
    table = difference_table(result_of(runs))
    assert table.header == ("start", "1 labelled", "2 labelled")
    assert cells(table) == {
        "mae": ("+0.100 [+0.100, +0.100] (3)", "-0.050 (1)"),
        "view contrast": ("no pair", "0.000 (1)"),
    }
    assert "Bootstrap with 10000 resamples of pairs (there are fewer than 5 draws" in table.caption
    assert "A cell without an interval holds one pair or none." in table.caption
    assert "Intervals from fewer than 10 of them, here 3, are too narrow." in table.caption
    assert "(view contrast with random): random 3." in table.caption
    assert "(mae with random)" not in table.caption


def test_pairs_share_labels_draw_and_seed():
    # Gains of 0.1 everywhere; a wrong pairing mixes the seeds, draws and label counts, which differ far more.
    keys = [(labelled, draw, seed) for labelled in (1, 2) for draw in (0, 1) for seed in (0, 1)]
    base = {key: 0.1 + 0.05 * number for number, key in enumerate(keys)}
    runs = [run_of("random", *key, base[key]) for key in keys]
    runs += [run_of("mae", *key, base[key] + 0.1) for key in reversed(keys)]
    assert cells(difference_table(result_of(runs))) == {"mae": ("+0.100 [+0.100, +0.100] (4)",) * 2}
    against_mae = difference_table(result_of(runs), against="mae")
    assert cells(against_mae) == {"random": ("-0.100 [-0.100, -0.100] (4)",) * 2}


def test_five_draws_are_resampled_and_four_are_not():
    def both(draws):
        # Two seeds of a draw gain the same: resampling runs would count every draw twice.
        gains = [0.0, 0.1, 0.05, 0.2, 0.15]
        keys = [(draw, seed) for draw in range(draws) for seed in range(2)]
        runs = [run_of("random", 1, *key, 0.5) for key in keys]
        return result_of([*runs, *(run_of("mae", 1, draw, seed, 0.5 + gains[draw]) for draw, seed in keys)])

    from medssl_nb.evaluation.statistics import paired_difference

    five = difference_table(both(5), resamples=500, seed=3, level=0.9)
    assert "mean [90 % interval]" in five.caption
    assert "Bootstrap with 500 resamples of draws of labelled cases." in five.caption
    assert "here 5, are too narrow" in five.caption
    gains = [gain for gain in (0.0, 0.1, 0.05, 0.2, 0.15) for _ in range(2)]
    draws = [draw for draw in range(5) for _ in range(2)]
    expected = paired_difference(gains, [0] * 10, level=0.9, resamples=500, seed=3, groups=draws)
    assert cells(five)["mae"] == (f"+0.100 [{expected.low:+.3f}, {expected.high:+.3f}] (10)",)
    assert "resamples of pairs" in difference_table(both(4)).caption


def test_what_is_resampled_may_differ_by_column():
    runs = [run_of(s, 1, draw, 0, 0.5 + gain) for s, gain in (("random", 0), ("mae", 0.1)) for draw in range(12)]
    runs += [run_of(s, "all", 0, seed, 0.8) for s in ("random", "mae") for seed in range(12)]
    caption = difference_table(result_of(runs)).caption
    assert "resamples of draws of labelled cases in column 1; of pairs (there are fewer" in caption
    assert "an interval narrower) in column all." in caption
    assert "too narrow" not in caption


def test_unpaired_runs_and_missing_scores_are_counted():
    runs = [run_of("random", 1, 0, seed, 0.5) for seed in (0, 1, 2)] + [run_of("mae", 1, 0, 0, 0.6)]
    runs += [run_of("mae", 1, 0, 1, None), run_of("mae", 1, 0, 7, 0.6), run_of("mae", 4, 0, 0, 0.9)]
    table = difference_table(result_of(runs))
    assert cells(table) == {"mae": ("+0.100 (1)", "no pair")}
    assert "Runs without a partner, and so left out (mae with random): mae 2, random 1." in table.caption
    assert "1 pair of mae left out: a score is missing." in table.caption
    assert "No intervals: a single pair has none." in table.caption


def test_difference_needs_two_starts():
    for runs in ([run_of("random", 1, 0, 0, 0.5)], [run_of("mae", 1, 0, 0, 0.5), run_of("alice", 1, 0, 0, 0.5)]):
        with pytest.raises(ValueError, match="needs runs from 'random' and from another start; got"):
            difference_table(result_of(runs))


# ---------------------------------------------------------------- curves and landmarks
def test_curves():
    runs = [run_of("random", 1, 0, 0, 0.5), run_of("random", 1, 0, 1, 0.7), run_of("mae", "all", 0, 0, None)]
    runs += [run_of("mae", 1, 0, 0, 0.6, curve=[[5, 0.125], [15, 0.25]])]
    table = curve_table(result_of(runs))
    assert table.header == ("start", "step 5", "step 15", "step 60")
    assert table.rows == (
        ("random, 1 labelled", "–", "0.250 ± 0.000 (2)", "0.600 ± 0.141 (2)"),
        ("mae, 1 labelled", "0.125 (1)", "0.250 (1)", "–"),
        ("mae, all labelled", "–", "0.250 (1)", "not defined (1)"),
    )
    with pytest.raises(ValueError, match="none of the 1 runs holds a point"):
        curve_table(result_of([run_of("random", 1, 0, 0, 0.5, curve=[])]))


def test_landmarks_by_hand():
    def found(start, template, seed, mm, copy):
        return {"start": start, "template": template, "seed": seed, "mean_mm": mm, "copy_mm": copy}

    runs = [found("random", "a", 0, 50.0, 20.0), found("random", "b", 0, 70.0, 30.0), found("mae", "a", 0, 15.0, 20.0)]
    runs += [found("mae", "b", 0, 31.0, 30.0), found("mae", "b", 1, None, 30.0)]
    table = landmark_table(result_of(runs, "landmarks"))
    assert table.rows == (
        ("copying the template's position", "25.0 ± 7.1 (2)", "–", "–"),
        ("random", "60.0 ± 14.1 (2)", "+35.0 ± 7.1 (2)", "0 of 2"),
        ("mae", "23.0 ± 11.3 (2)", "-2.0 ± 4.2 (2)", "1 of 2"),
    )
    assert "Without a value (no landmark in common), and so left out: mae 1." in table.caption
    assert "templates a, b, seeds 0, 1; recipes" in table.caption


# ---------------------------------------------------------------- what may stand together
def test_results_of_one_protocol_are_joined_and_repeated_runs_count_once():
    random = run_of("random", 1, 0, 0, 0.5)
    first = result_of([random, run_of("mae", 1, 0, 0, 0.6)], settings={"steps": 60, "pretraining": {"steps": 100}})
    second = result_of([{**random, "seconds": 99.0}, run_of("alice", 1, 0, 0, 0.7)], settings={"steps": 60})
    table = dice_table([first, second])
    assert cells(table) == {"random": ("0.500 (1)",), "alice": ("0.700 (1)",), "mae": ("0.600 (1)",)}
    assert table.caption.endswith("1 run found more than once, with the same scores, counted once.")
    assert "counted once" not in dice_table(first).caption
    assert len(unique_runs([first, second])) == 3
    assert comparable([first, second]) == [[first, second]]


def test_results_that_cannot_be_compared_are_refused_and_grouped_apart():
    random = run_of("random", 1, 0, 0, 0.5)
    first = result_of([random], settings={"steps": 60})
    longer = result_of([run_of("mae", 1, 0, 0, 0.6)], settings={"steps": 90}, recipe="longer")
    again = result_of([run_of("random", 1, 0, 0, 0.51)], settings={"steps": 60})
    elsewhere = result_of([random], cohort={**first["cohort"], "test": 5}, settings={"steps": 60})
    probe = result_of([probe_of("random", 1, 0, 0, 0.5)], "probe", settings={"steps": 60})
    with pytest.raises(ValueError, match=r"mae\.demo and longer were measured in different ways"):
        dice_table([first, longer])
    with pytest.raises(ValueError, match=r"start random, labelled 1, draw 0, seed 0, and their scores differ \(1 such"):
        dice_table([first, again])
    groups = comparable([first, longer, again, elsewhere, probe, first])
    assert groups == [[first, first], [longer], [again], [elsewhere], [probe]]


def test_wrong_kinds_and_nothing():
    with pytest.raises(ValueError, match="kind transfer, got kind 'probe'"):
        hd95_table(result_of([probe_of("random", 1, 0, 0, 0.5)], "probe"))
    with pytest.raises(ValueError, match="kind landmarks, got kind 'transfer'"):
        landmark_table(result_of([run_of("random", 1, 0, 0, 0.5)]))
    with pytest.raises(ValueError, match="at least one result, got none"):
        dice_table([])
    with pytest.raises(ValueError, match=r"there are no runs in mae\.demo"):
        dice_table(result_of([]))


def test_a_setting_that_came_later_and_changes_nothing_keeps_results_comparable():
    older = result_of([run_of("random", 1, 0, 0, 0.4)], settings={"steps": 60})
    same = result_of([run_of("mae", 1, 0, 0, 0.5)], settings={"steps": 60, "clip_norm": None, "class_balance": 0.0})
    other = result_of([run_of("mae", 1, 0, 0, 0.6)], settings={"steps": 60, "clip_norm": 1.0, "class_balance": 0.0})
    assert comparable([older, same, other]) == [[older, same], [other]]
