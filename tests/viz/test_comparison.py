"""Rankings worked out by hand, and pictures that hold what they rank."""

import io

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest

from medssl_nb import viz
from medssl_nb.viz.comparison import (
    OWN,
    arm_styles,
    few_label_panels_png,
    measured,
    ranking,
    ranking_png,
    run_scores,
    show_few_label_panels,
    show_ranking,
)
from medssl_nb.viz.curves import STYLES


def run(arm, untrained, seed, dice, mm=None, **more):
    probe = [{"labelled": n, "draw": d, "mean_dice": dice + 0.1 * d + 0.02 * n} for n in (1, 4) for d in (0, 1)]
    marks = mm and {"of_each_template_mm": [mm, mm + 2], "copy_mm": 30.0}
    return {"arm": arm, "untrained": untrained, "seed": seed, "probe": probe, "landmarks": marks, **more}


def result(name="phantom", **more):
    return {
        "kind": "side by side",
        "cohort": {"name": name},
        "settings": {"draws": 2},
        "runs": [
            run("alice", "untrained backbone", 0, 0.30, 40.0, clusters={"share": 0.2}, **more),
            run("alice", "untrained backbone", 1, 0.40, 38.0, clusters={"share": 0.4}, **more),
            run("view contrast", "untrained U-Net", 0, 0.35, 20.0, clusters={"share": 0.5}, **more),
            run("view contrast", "untrained U-Net", 1, 0.35, 22.0, clusters={"share": 0.5}, **more),
            run("untrained backbone", None, 0, 0.10, 50.0, clusters={"share": 0.1}, **more),
            run("untrained backbone", None, 1, 0.20, 50.0, clusters={"share": 0.1}, **more),
            run("untrained U-Net", None, 0, 0.30, 36.0, clusters={"share": 0.1}, **more),
            run("untrained U-Net", None, 1, 0.20, 36.0, clusters={"share": 0.1}, **more),
        ],
    }


@pytest.fixture
def shown(monkeypatch):
    """Figures that plt.show() would have shown."""
    plt.switch_backend("Agg")
    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    yield figures
    assert plt.get_fignums() == [], "figures are closed after they were shown"


# ---------------------------------------------------------------- numbers
def test_what_a_result_holds():
    assert measured(result()) == {"probe": (1, 4), "landmarks": (None,), "clusters": (None,)}
    tuned = {"finetuned": [{"labelled": 4, "draw": 0, "mean_dice": 0.7}]}
    lesions = {"lesions": [{"labelled": 4, "draw": 0, "average_precision": 0.2, "chance": 0.001}]}
    full = result(**tuned, **lesions)
    assert list(measured(full)) == ["probe", "finetuned", "landmarks", "lesions", "clusters"]
    assert run_scores(full, "finetuned", 4)["alice"] == {(0, 0): 0.7, (1, 0): 0.7}
    assert run_scores(full, "lesions")["alice"] == {(0, 0): 0.2, (1, 0): 0.2}


def test_scores_of_each_run():
    alice = run_scores(result(), "probe", 4)["alice"]
    assert alice == pytest.approx({(0, 0): 0.38, (0, 1): 0.48, (1, 0): 0.48, (1, 1): 0.58})
    assert run_scores(result(), "landmarks")["alice"] == {(0, 0): 40.0, (0, 1): 42.0, (1, 0): 38.0, (1, 1): 40.0}
    assert run_scores(result(), "clusters")["alice"] == {(0, None): 0.2, (1, None): 0.4}


def test_gains_over_the_own_network_are_paired():
    first, second = ranking(result(), "probe", 1, against=OWN)
    assert (first.arm, second.arm) == ("alice", "view contrast")
    assert first.values == pytest.approx([0.2] * 4) and (first.low, first.high) == pytest.approx((0.2, 0.2))
    assert second.values == pytest.approx([0.05, 0.05, 0.15, 0.15]) and second.mean == pytest.approx(0.1)
    assert second.runs == ((0, 0), (0, 1), (1, 0), (1, 1))
    assert 0.049 < second.low < 0.1 < second.high < 0.151


def test_another_reference_turns_the_table_round():
    (only,) = ranking(result(), "probe", 1, against="view contrast")
    assert (only.arm, only.mean) == ("alice", pytest.approx(0.0))
    means = {one.arm: one.mean for one in ranking(result(), "probe", 1, against="untrained backbone")}
    assert means == pytest.approx({"alice": 0.2, "view contrast": 0.2})  # a tie, which "its own network" was not


def test_fewer_mm_are_better():
    gains = ranking(result(), "landmarks", against=OWN)
    assert [(one.arm, one.mean) for one in gains] == [("view contrast", 15.0), ("alice", 11.0)]
    plain = ranking(result(), "landmarks")
    assert [one.arm for one in plain] == ["view contrast", "untrained U-Net", "alice", "untrained backbone"]
    assert plain[0].mean == pytest.approx(22.0)  # 20, 22, 22, 24


def test_seeds_and_draws_may_be_chosen():
    (first, _) = ranking(result(), "probe", 1, against=OWN, seed=1, draw=0)
    assert first.values == pytest.approx([0.2]) and first.low is None
    assert ranking(result(), "probe", 1, seed=0)[0].arm == "view contrast"
    assert ranking(result(), "probe", 1, seed=1)[0].arm == "alice"
    clusters = ranking(result(), "clusters", draw=1)  # have no draws: all are kept
    assert clusters[0].values == (0.5, 0.5) and clusters[0].low is None


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("probe", 2), {}, r"phantom was not measured by 'probe' with 2; it has probe \(1, 4\); landmarks; clusters"),
        (("finetuned", 1), {}, "was not measured by 'finetuned'"),
        (("landmarks", 1), {}, "was not measured by 'landmarks' with 1"),
        (("probe", 1), {"against": "nobody"}, "against is None, .* or one of alice, .*; got 'nobody'"),
        (("probe", 1), {"seed": 7}, "no run of phantom has seed 7 and draw None"),
    ],
)
def test_what_cannot_be_ranked_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        ranking(result(), *arguments, **options)


# ---------------------------------------------------------------- styles
def test_every_arm_has_a_look_of_its_own():
    arms = [
        *("masked autoencoding", "view contrast", "boundary infomax", "local discrimination", "adaptive masking"),
        *("anatomical embedding", "alice", "untrained U-Net", "untrained transformer", "untrained pyramid"),
        "untrained backbone",
    ]
    styles = arm_styles(arms)
    assert len({(style.colour, style.marker) for style in styles.values()}) == len(arms) == len(styles)
    assert len({styles[arm].colour for arm in arms[:7]}) == 7
    assert {styles[arm].colour for arm in arms[7:]} == {STYLES[0].colour}
    assert styles["alice"] == viz.curves.start_styles(["alice"])["alice"]


# ---------------------------------------------------------------- pictures
def test_a_ranking_shows_runs_means_and_intervals(shown):
    ranked = ranking(result(), "probe", 1, against=OWN)
    show_ranking(ranked, axis="gain", title="a title", lines={"no gain": 0.0})
    (ax,) = shown[0].axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["alice", "view contrast"]
    assert ax.get_ylim() == (1.5, -0.5) and ax.get_xlabel() == "gain"
    dots, mean = ax.lines[2], ax.lines[3]
    assert list(dots.get_xdata()) == list(ranked[1].values) and list(mean.get_xdata()) == [ranked[1].mean]
    assert [bar.get_segments()[0][:, 0].tolist() for bar in ax.collections][1] == [ranked[1].low, ranked[1].high]
    assert ax.texts[0].get_text() == " no gain" and list(ax.lines[-1].get_xdata()) == [0.0, 0.0]
    assert shown[0].get_suptitle().startswith("a title\ndots: runs")


def test_rankings_stand_side_by_side(shown):
    both = {name: ranking(result(), "probe", 1, seed=seed) for name, seed in (("seed 0", 0), ("seed 1", 1))}
    show_ranking(both, axis="Dice")
    assert [ax.get_title(loc="left") for ax in shown[0].axes] == ["seed 0", "seed 1"]
    assert [ax.get_yticklabels()[0].get_text() for ax in shown[0].axes] == ["view contrast", "alice"]


def test_panels_show_each_method_beside_its_own_network(shown):
    show_few_label_panels(result(), title="phantom")
    first, second = shown[0].axes
    assert [ax.get_title(loc="left") for ax in shown[0].axes] == ["alice", "view contrast"]
    untrained, trained = first.lines[2:]
    assert untrained.get_linestyle() == "--" and trained.get_linestyle() == "-"
    np.testing.assert_allclose(trained.get_ydata(), [0.42, 0.48])  # 0.35 + 0.05 + 0.02 n
    np.testing.assert_allclose(untrained.get_ydata(), [0.22, 0.28])
    assert [label.get_text() for label in second.get_xticklabels()] == ["1", "4"]
    assert len(first.collections) == 4  # four intervals


def test_pictures_are_pure():
    ranked = ranking(result(), "landmarks")
    one = ranking_png(ranked, axis="mm", lines={"copying": 30.0})
    assert one == ranking_png(ranked, axis="mm", lines={"copying": 30.0}) != ranking_png(ranked, axis="mm")
    panels = few_label_panels_png(result())
    assert panels == few_label_panels_png(result())
    assert matplotlib.image.imread(io.BytesIO(panels)).shape[1] == 756


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="there is nothing to rank"):
        ranking_png([], axis="mm")
    with pytest.raises(ValueError, match="there is nothing to rank"):
        ranking_png({"a": []}, axis="mm")
    with pytest.raises(ValueError, match="phantom holds no Dice by labels under 'finetuned'"):
        few_label_panels_png(result(), "finetuned")
