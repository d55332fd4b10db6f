"""Pictures of clusters: a colour for each of up to forty, and how much each is used.

`show_usage` draws into a notebook, `usage_png` gives PNG bytes: the same input gives the same bytes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from medssl_nb.viz.colours import CLUSTER_COLOURS
from medssl_nb.viz.figures import png, show

_SOFT_INK = "#595959"
_FADED = 0.25

# Beyond the first twelve: each as far as could be (OKLab, hue counting more than lightness) from those before it, no
# two of the forty closer than the closest two of the twelve; none is grey, cyan or the pink of lesions.
# fmt: off
_MORE_COLOURS = (
    "#ff00ff", "#6900c3", "#00a5ff", "#005a69", "#00b40f", "#b41ea5", "#00ffa5", "#ff9600", "#d20000", "#2d4ba5",
    "#b400ff", "#00ff00", "#ff96e1", "#784b00", "#009678", "#6978ff", "#ffd23c", "#b4f0a5", "#c35a00", "#b4005a",
    "#c39669", "#5a00ff", "#2d96b4", "#ff5ad2", "#69c378", "#c369a5", "#f0b4c3", "#781e87",
)
# fmt: on
_ALL_COLOURS = (*CLUSTER_COLOURS, *_MORE_COLOURS)
MOST_CLUSTERS = len(_ALL_COLOURS)


def cluster_colours(num_clusters: int) -> tuple[str, ...]:
    """Colours "#rrggbb" of clusters 0 to num_clusters - 1; the first twelve are those of `CLUSTER_COLOURS`.

    Raises:
        ValueError: none, or more than the 40 that can be told apart.
    """
    if not 1 <= num_clusters <= MOST_CLUSTERS:
        raise ValueError(
            f"num_clusters must be 1 to {MOST_CLUSTERS}, got {num_clusters}: more colours cannot be told apart. Show "
            f"the {MOST_CLUSTERS} largest clusters and merge the rest."
        )
    return _ALL_COLOURS[:num_clusters]


def show_usage(shares, **options) -> None:
    """Show how much each cluster is used, a bar for each; a dotted line is where all would be alike.

    Heights are square roots: one cluster of air takes half of a scan, and organs of 1 % should still be seen.

    Args:
        shares: (K,) share of each cluster, 0 to 1.
        **options:
            picked: clusters in full colour; the others fade. () fades none.
            upper: share at the upper end, the same for pictures that are compared; None is the largest share.
            what: name of the upright axis.
            title: a line above.

    Raises:
        ValueError: shares that are not (K,) numbers from 0 to 1, no such cluster.
    """
    draw, size = _usage_picture(shares, **options)
    show(draw, size)


def usage_png(shares, *, dpi: int = 90, **options) -> bytes:
    """The picture of `show_usage` as PNG bytes."""
    draw, size = _usage_picture(shares, **options)
    return png(draw, size, dpi)


def as_shares(shares, name: str = "shares") -> np.ndarray:
    """(K,) float64 of a list, array or tensor of shares.

    Raises:
        ValueError: another shape, numbers below 0 or above 1, NaN.
    """
    values = np.asarray(shares.detach().cpu().double() if hasattr(shares, "detach") else shares, np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name} holds one number for each cluster, (K,), got shape {values.shape}.")
    if not ((values >= 0) & (values <= 1 + 1e-6)).all():
        raise ValueError(f"{name} must lie from 0 to 1, got {values.min():g} to {values.max():g}.")
    return values


def _usage_picture(
    shares,
    *,
    picked: Sequence[int] = (),
    upper: float | None = None,
    what: str = "share of voxels",
    title: str | None = None,
) -> tuple[Callable, tuple[float, float]]:
    values = as_shares(shares)
    count = len(values)
    colours = cluster_colours(count)
    if unknown := [k for k in picked if k not in range(count)]:
        raise ValueError(f"no such cluster: {unknown}; there are 0 to {count - 1}.")
    upper = max(values.max(), 1 / count) if upper is None else upper
    bright = set(picked) or set(range(count))

    def draw(figure) -> None:
        ax = figure.subplots()
        look = {"width": 0.86, "edgecolor": "#404040", "linewidth": 0.5}
        for k, (share, colour) in enumerate(zip(values, colours, strict=True)):
            ax.bar(k, 100 * share, color=colour, alpha=1 if k in bright else _FADED, **look)
        ax.axhline(100 / count, color=_SOFT_INK, linestyle=":", linewidth=1)
        note = f"dotted: all alike, {100 / count:.3g} %"
        ax.annotate(note, (1, 1), (0, 4), "axes fraction", "offset points", ha="right", fontsize=8.5, color=_SOFT_INK)
        ax.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
        ax.set(xlim=(-0.7, count - 0.3), ylim=(0, 105 * upper))
        ax.set_yticks([tick for tick in (0, 1, 5, 10, 20, 40, 60, 80, 100) if tick <= 105 * upper])
        ax.set_xticks(range(count), labels=[str(k) for k in range(count)])
        ax.tick_params(length=2, width=0.6, labelsize=7.5 if count > 20 else 8.5, colors=_SOFT_INK)
        for k in picked:
            ax.get_xticklabels()[k].set(fontweight="bold", color="black")
        ax.set_xlabel("cluster", color=_SOFT_INK)
        ax.set_ylabel(f"{what} (%,\nsquare-root scale)", color=_SOFT_INK)
        ax.spines[["top", "right"]].set_visible(False)
        if title:
            ax.set_title(title, loc="left", fontsize=10.5, pad=16)

    return draw, (min(7.4, 2.2 + 0.4 * count), 2.3)
