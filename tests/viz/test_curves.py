import itertools
import subprocess
import sys
from dataclasses import dataclass, field

import matplotlib
import numpy as np
import pytest

from medssl_nb import viz
from medssl_nb.viz.curves import KNOWN_STARTS, STYLES, _running_mean, start_styles


@pytest.fixture
def shown(monkeypatch):
    """Figures that plt.show() would have shown."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    yield figures
    assert plt.get_fignums() == [], "figures are closed after they were shown"
    plt.close("all")


def names(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def line(ax, label):
    return next(line for line in ax.lines if line.get_label() == label)


def note(ax) -> str:
    return ax.texts[0].get_text()


def history_of(steps, **more):
    """A loss that falls by 1 each step, from 10."""
    steps = range(steps)
    return [{"step": i + 1, "losses": {"match": 10.0 - i, "total": 20.0 - i}, "health": {}, **more} for i in steps]


def run_of(start, labelled, draw, seed, dice, curve=((15, 0.2), (60, 0.4))):
    run = {"start": start, "labelled": labelled, "draw": draw, "seed": seed}
    return {**run, "curve": [list(point) for point in curve], "test": {"mean_dice": dice}}


# ---------------------------------------------------------------- styles
def test_styles_stay_apart_without_colour_and_for_every_sight():
    markers, dashes = [style.marker for style in STYLES], [style.dash for style in STYLES]
    assert len(set(markers)) == len(set(dashes)) == len(STYLES) == len(KNOWN_STARTS)


# Linear RGB as people see it who lack one kind of cone (Machado, Oliveira and Fernandes 2009, severity 1).
SIGHT = {
    "normal": np.eye(3),
    "red-blind": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green-blind": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "blue-blind": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear_rgb(colour):
    shares = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_stay_apart(sight):
    from skimage.color import deltaE_ciede2000, rgb2lab

    seen = np.clip([linear_rgb(style.colour) @ np.array(SIGHT[sight]).T for style in STYLES], 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)[None])[0]
    assert min(deltaE_ciede2000(a, b) for a, b in itertools.combinations(lab, 2)) >= 12


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.colour)
def test_lines_are_dark_enough_on_white(style):
    assert 1.05 / (linear_rgb(style.colour) @ [0.2126, 0.7152, 0.0722] + 0.05) >= 2.9


def test_a_start_looks_the_same_in_every_picture_and_no_two_alike():
    assert start_styles(["alice", "random"]) == {"random": STYLES[0], "alice": STYLES[6]}
    some = start_styles(["mine", "alice", "mine"])
    assert some["mine"] != some["alice"] and some["mine"] != STYLES[0]
    many = start_styles([*KNOWN_STARTS, *(f"start {i}" for i in range(8))])
    assert list(many)[:7] == list(KNOWN_STARTS)
    assert len(set(many.values())) == 15


# ---------------------------------------------------------------- losses
def test_losses_with_trivial_lines_and_health(shown):
    history = history_of(10)
    history[4]["health"] = history[9]["health"] = {"spread": 0.5}
    assert viz.show_losses(history, {"match": 2.0794}, title="Demo") is None
    top, below = shown[0].axes
    assert names(top) == ["total", "match", "match if trivial: 2.08"]
    np.testing.assert_array_equal(line(top, "total").get_ydata(), 20.0 - np.arange(10))
    np.testing.assert_array_equal(line(top, "match").get_xdata(), np.arange(1, 11))
    trivial = line(top, "match if trivial: 2.08")
    assert set(trivial.get_ydata()) == {2.0794} and trivial.get_linestyle() == "--"
    assert trivial.get_color() == line(top, "match").get_color() != line(top, "total").get_color()
    assert line(top, "match").get_marker() != line(top, "total").get_marker()
    assert note(top) == "dashed: what a collapsed model scores"
    np.testing.assert_array_equal(line(below, "spread").get_xdata(), [5, 10])
    assert (top.get_ylabel(), below.get_xlabel(), below.get_title(loc="left")) == (
        "loss (no unit)",
        "step",
        "Health dial",
    )
    assert below.get_position().height < top.get_position().height / 2


def test_no_health_no_dial_and_health_can_be_chosen(shown):
    viz.show_losses(history_of(3))
    assert len(shown[0].axes) == 1 and shown[0].axes[0].get_xlabel() == "step"
    history = history_of(3, health={"spread": 0.5, "use": 0.1})
    viz.show_losses(history, health=["use"])
    assert names(shown[1].axes[1]) == ["use"]
    viz.show_losses(history, health=[])
    assert len(shown[2].axes) == 1


def test_records_of_the_loop_are_taken_too(shown):
    @dataclass
    class Record:
        step: int
        losses: dict
        health: dict = field(default_factory=dict)

    viz.show_losses(Record(i, {"total": i / 2}) for i in (1, 2, 3))
    np.testing.assert_array_equal(line(shown[0].axes[0], "total").get_ydata(), [0.5, 1.0, 1.5])


def test_terms_that_begin_late_and_values_that_are_not_finite(shown):
    history = history_of(4)
    history[1]["losses"]["total"] = float("nan")
    history[3]["losses"]["late"] = 1.0
    viz.show_losses(history)
    ax = shown[0].axes[0]
    assert names(ax) == ["total", "match", "late"]
    assert list(line(ax, "late").get_xdata()) == [4]
    assert note(ax) == "1 values not finite, not drawn"


def test_running_mean():
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0])
    np.testing.assert_allclose(_running_mean(values, 3), [1.5, 1.5, 3.0, 4.5, 4.5])
    np.testing.assert_allclose(_running_mean(values, 1), values)
    np.testing.assert_allclose(_running_mean(np.array([1.0, 3.0]), 9), [2.0, 2.0])


def test_long_histories_are_smoothed_and_say_so(shown):
    viz.show_losses({"step": i, "losses": {"total": float(i % 2)}} for i in range(100))
    ax = shown[0].axes[0]
    assert note(ax) == "line: mean of 5 steps; pale: each step"
    assert np.ptp(line(ax, "total").get_ydata()[2:-2]) < 0.3
    assert np.ptp(ax.lines[0].get_ydata()) == 1 and ax.lines[0].get_alpha() == 0.3


def test_losses_refuse_what_is_not_there():
    with pytest.raises(ValueError, match="holds no steps"):
        viz.show_losses([])
    with pytest.raises(ValueError, match="trivial names pull, the history has the losses total, match"):
        viz.show_losses(history_of(2), {"pull": 1.0})
    with pytest.raises(ValueError, match="health names use; what the history measured is: none"):
        viz.losses_png(history_of(2), health=["use"])


# ---------------------------------------------------------------- transfer
def test_transfer_curves_by_hand(shown):
    runs = [
        run_of("random", 1, 0, 0, 0.4, [(15, 0.1), (60, 0.5)]),
        run_of("random", 1, 0, 1, 0.4, [(15, 0.3), (60, 0.5)]),
    ]
    runs += [run_of("alice", 1, 0, 0, 0.4), run_of("alice", "all", 0, 0, 0.4), run_of("alice", 2, 0, 0, 0.4)]
    runs += [run_of("alice", 8, 0, 0, 0.4, [])]
    assert viz.show_transfer_curves(runs, title="Phantom") is None
    axes = shown[0].axes
    assert [ax.get_title(loc="left") for ax in axes] == ["1 labelled case", "2 labelled cases", "all labelled cases"]
    assert names(axes[0]) == ["random (2 runs)", "alice (1 run)"]
    np.testing.assert_allclose(line(axes[0], "random (2 runs)").get_ydata(), [0.2, 0.5])
    assert line(axes[0], "random (2 runs)").get_color() == STYLES[0].colour
    band = axes[0].collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [0.2 - 0.02**0.5, 0.5], atol=1e-9)
    assert len(axes[0].collections[1].get_paths()) == 0, "one run has no spread"
    assert note(axes[0]) == "mean ± 1 sd over draws and seeds"
    assert axes[0].get_xlabel() == "step of fine-tuning" and list(axes[0].get_xticks()) == [15, 60]
    assert axes[0].get_ylabel() == "validation mean Dice (0 to 1)"


def test_five_label_counts_take_two_rows(shown):
    viz.show_transfer_curves(run_of("random", labelled, 0, 0, 0.4) for labelled in (1, 2, 4, 8, "all"))
    axes = shown[0].axes
    assert len(axes) == 5
    assert [ax.get_position().y0 > 0.45 for ax in axes] == [True, True, True, False, False]
    assert axes[3].get_ylabel() != ""


def test_values_of_a_curve_that_are_not_defined(shown):
    viz.show_transfer_curves(
        [run_of("a", 1, 0, 0, 0.4, [(1, None), (2, 0.5)]), run_of("a", 1, 0, 1, 0.4, [(1, None), (2, 0.7)])]
    )
    ax = shown[0].axes[0]
    np.testing.assert_allclose(line(ax, "a (2 runs)").get_ydata(), [np.nan, 0.6])
    assert note(ax) == "2 values not defined, left out"


def test_transfer_curves_refuse_other_steps_and_nothing():
    runs = [run_of("a", 1, 0, 0, 0.4), run_of("a", 1, 0, 1, 0.4, [(30, 0.1)])]
    with pytest.raises(ValueError, match=r"one line \(a, 1 labelled\) .* \[15, 60\] and \[30\]"):
        viz.show_transfer_curves(runs)
    with pytest.raises(ValueError, match="no run with a curve"):
        viz.transfer_curves_png([run_of("a", 1, 0, 0, 0.4, [])])


# ---------------------------------------------------------------- few labels
def test_few_label_by_hand(shown):
    runs = [run_of("random", labelled, 0, seed, 0.2 + 0.1 * seed) for labelled in (1, 4) for seed in (0, 1)]
    runs += [run_of("random", "all", 0, 0, 0.9), run_of("alice", 1, 0, 0, 0.6), run_of("alice", 1, 0, 1, None)]
    assert viz.show_few_label(runs) is None
    (ax,) = shown[0].axes
    assert names(ax) == ["random (5 runs)", "alice (1 run)", "ceiling: all labels, random: 0.900"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "4", "all"]
    assert list(ax.get_xticks()) == [0, 2, 3.2], "doublings are one apart"
    assert set(line(ax, "ceiling: all labels, random: 0.900").get_ydata()) == {0.9}
    joined = next(one for one in ax.lines if one.get_linestyle() == "--" and len(one.get_xdata()) == 2)
    np.testing.assert_allclose(joined.get_ydata(), [0.25, 0.25], err_msg="all is not joined to the numbers")
    bars = [bar.get_segments()[0][:, 1] for bar in ax.collections]
    np.testing.assert_allclose(bars, [[0.2, 0.3], [0.2, 0.3]], err_msg="one run has no bar")
    assert note(ax) == "dots: runs · bars: 95 % interval of the mean · 1 run without a score left out"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("labelled cases", "test mean Dice (0 to 1)")


def test_draws_are_resampled_where_there_are_five(shown):
    from medssl_nb.evaluation.statistics import mean_and_interval

    gains = [0.0, 0.1, 0.05, 0.2, 0.15]
    for draws in (5, 4):
        keys = [(draw, seed) for draw in range(draws) for seed in range(2)]
        viz.show_few_label(run_of("a", 1, draw, seed, gains[draw]) for draw, seed in keys)
        groups = [draw for draw, _ in keys] if draws == 5 else None
        expected = mean_and_interval([gains[draw] for draw, _ in keys], groups=groups)
        (bar,) = shown[-1].axes[0].collections
        np.testing.assert_allclose(bar.get_segments()[0][:, 1], [expected.low, expected.high])


def test_probes_have_no_ceiling(shown):
    viz.show_few_label([{"start": "random", "labelled": "all", "draw": 0, "seed": 0, "mean_dice": 0.5}])
    assert names(shown[0].axes[0]) == ["random (1 run)"]


def test_few_label_needs_a_score():
    with pytest.raises(ValueError, match="none of 1 runs has a test Dice"):
        viz.few_label_png([run_of("a", 1, 0, 0, None)])


# ---------------------------------------------------------------- bytes
@pytest.mark.parametrize(
    ("draw", "one", "other"),
    [
        (viz.losses_png, history_of(5), history_of(6)),
        (viz.transfer_curves_png, [run_of("a", 1, 0, 0, 0.4)], [run_of("b", 1, 0, 0, 0.4)]),
        (viz.few_label_png, [run_of("a", 1, 0, s, 0.4 + s / 9) for s in (0, 1)], [run_of("a", 1, 0, 0, 0.5)]),
    ],
)
def test_same_input_same_bytes_whatever_the_notebook_has_set(draw, one, other):
    first = draw(one, title="twice")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20}):
        assert draw(one, title="twice") == first
    assert first.startswith(b"\x89PNG") and b"Software" not in first and b"tIME" not in first
    assert draw(other, title="twice") != first


def test_importing_loads_no_matplotlib():
    code = "import sys, medssl_nb.viz.curves; sys.exit('matplotlib' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
