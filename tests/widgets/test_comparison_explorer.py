"""The comparison explorer: every choice changes the table as `ranking` says, and words tell what can be told."""

import base64

import pytest

from medssl_nb.viz.comparison import OWN, ranking
from medssl_nb.widgets import ComparisonExplorer
from medssl_nb.widgets.comparison_explorer import ALL, NO_LABELS, PLAIN, told

ARMS = {"alice": "untrained backbone", "view contrast": "untrained U-Net"}
ARMS |= dict.fromkeys(ARMS.values())


def result(name, dice, mm=None):
    """Dice of each arm with seed 0; seed 1 has 0.1 more for Alice. Draws differ by 0.1 for all."""
    runs = []
    for seed in (0, 1):
        for number, (arm, twin) in enumerate(ARMS.items()):
            more = 0.1 * seed * (arm == "alice")
            probe = [
                {"labelled": n, "draw": d, "mean_dice": dice[number] + more + 0.1 * d} for n in (1, 4) for d in (0, 1)
            ]
            marks = mm and {"of_each_template_mm": [mm[number], mm[number] + 2], "copy_mm": 30.0}
            runs.append({"arm": arm, "untrained": twin, "seed": seed, "probe": probe, "landmarks": marks})
    settings = {"draws": 2, "labelled": [1, 4]}
    return {"kind": "side by side", "cohort": {"name": name}, "settings": settings, "runs": runs}


PHANTOM = result("phantom", (0.30, 0.36, 0.10, 0.30), mm=(40, 20, 50, 36))
HIPPOCAMPUS = result("hippocampus", (0.50, 0.70, 0.20, 0.20))


def explorer(**options) -> ComparisonExplorer:
    return ComparisonExplorer([PHANTOM, HIPPOCAMPUS], **options)


def test_it_starts_with_gains_over_the_own_network():
    widget = explorer()
    assert (widget.cohort, widget.measure, widget.labelled) == ("phantom", "probe", 1)
    assert (widget.against, widget.seed, widget.draw) == (OWN, ALL, ALL)
    assert widget.ranked == ranking(PHANTOM, "probe", 1, against=OWN)
    assert widget.winner == "alice"
    expected = "First: alice, 0.25 from 4 runs. Ahead of view contrast by 0.19."
    assert widget.line.value == f"{expected} Its paired interval leaves out zero against every other."


def test_choices_make_another_winner():
    widget = explorer()
    seen = {(widget.winner, widget.line.value)}
    for name, value, winner in (
        ("against", PLAIN, "view contrast"),
        ("seed", 1, "alice"),
        ("seed", 0, "view contrast"),
        ("draw", 1, "view contrast"),
        ("against", "untrained backbone", "view contrast"),
        ("against", "view contrast", "alice"),
        ("measure", "landmarks", "alice"),
        ("against", OWN, "view contrast"),
    ):
        before = widget.image.value
        setattr(widget, name, value)
        assert widget.winner == winner, (name, value)
        assert widget.image.value != before
        seen.add((widget.winner, widget.line.value))
    assert len(seen) == 9
    widget.controls["against"].value = PLAIN
    assert [one.arm for one in widget.ranked] == ["view contrast", "untrained U-Net", "alice", "untrained backbone"]
    assert widget.line.value.startswith("First: view contrast, 22 from 1 run. Ahead of untrained U-Net by 16.")


def test_what_the_next_cohort_lacks_gives_way():
    widget = explorer(measure="landmarks")
    assert widget.labelled == NO_LABELS and widget.controls["labelled"].disabled
    widget.cohort = "hippocampus"
    assert (widget.measure, widget.labelled) == ("probe", 1)
    assert not widget.controls["labelled"].disabled
    assert widget.controls["measure"].options == (("Dice of a linear probe on frozen features", "probe"),)
    widget.labelled, widget.seed = 4, 1
    widget.cohort = "phantom"
    assert (widget.labelled, widget.seed) == (4, 1)  # what is there is kept


def test_a_choice_that_the_next_cohort_has_too_is_kept():
    runs = [{**run, "probe": [one for one in run["probe"] if one["labelled"] > 1]} for run in HIPPOCAMPUS["runs"]]
    fewer = {**HIPPOCAMPUS, "runs": runs}
    widget = ComparisonExplorer([fewer, PHANTOM], labelled=4)
    widget.cohort = "phantom"  # has 1 before 4
    assert widget.controls["labelled"].options == (1, 4) and widget.labelled == 4


def test_one_seed_leaves_nothing_to_choose():
    one = {**PHANTOM, "runs": [run for run in PHANTOM["runs"] if run["seed"] == 0]}
    widget = ComparisonExplorer([one])
    assert widget.controls["seed"].options == (ALL,) and widget.controls["seed"].disabled
    assert widget.controls["draw"].options == (ALL, 0, 1) and widget.winner == "alice"


def test_words_name_those_that_cannot_be_told_apart():
    plain = ranking(PHANTOM, "probe", 1)
    assert told(plain, True).startswith("First: view contrast, 0.41 from 4 runs. Ahead of alice by 0.01.")
    assert told(plain, True).endswith("Cannot be told from it: alice.")
    assert told(ranking(PHANTOM, "probe", 1, seed=0, draw=0), True).endswith(
        "from 1 run. Ahead of alice by 0.06. Too few runs to tell any two apart."
    )
    assert told(ranking(PHANTOM, "probe", 1, against="alice"), True) == "First: view contrast, 0.01 from 4 runs."


def test_the_picture_beside_the_widget_follows_and_is_pure():
    widget = explorer(title="a study", against=PLAIN, measure="landmarks", seed=0)
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "<ComparisonExplorer>"
    first = base64.b64decode(bundle["image/png"])
    same = explorer(title="a study", against=PLAIN, measure="landmarks", seed=0)
    assert first == bytes(widget.image.value) == same._static_png() != explorer()._static_png()
    assert all(control.description for control in widget.controls.values())


def test_names_are_shown_as_text():
    widget = explorer(title="<i>")
    assert "&lt;i&gt;" in widget.children[0].value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cohort": "brain"}, "cohort is the cohort that is shown: one of 'phantom', 'hippocampus'; got 'brain'"),
        ({"measure": "lesions"}, "measure is what is measured: one of 'probe', 'landmarks'; got 'lesions'"),
        ({"labelled": 2}, "labelled is how many labelled cases were used: one of 1, 4; got 2"),
        ({"cohort": "hippocampus", "measure": "landmarks"}, "one of 'probe'; got 'landmarks'"),
        ({"against": "nobody"}, "against is what each method is compared with: one of .*; got 'nobody'"),
        ({"seed": 5}, "seed is the seeds that count: one of 'all', 0, 1; got 5"),
    ],
)
def test_wrong_choices_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        explorer(**options)


@pytest.mark.parametrize(("results", "told_names"), [([], "none"), ([PHANTOM, PHANTOM], "phantom, phantom")])
def test_one_result_for_each_cohort(results, told_names):
    with pytest.raises(ValueError, match=f"one result for each cohort, at least one; got {told_names}"):
        ComparisonExplorer(results)
