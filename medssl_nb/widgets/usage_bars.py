"""How much each cluster is used: a row of bars in the browser, each to be picked by a click, by keys or from Python."""

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from medssl_nb.viz.clusters import as_shares, cluster_colours, usage_png
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.slice_canvas import Checked


class UsageBars(WithPicture, anywidget.AnyWidget):
    """A bar for each cluster. `ClusterExplorer` joins it with the slices.

    Traits, kept in step with the browser:
        picked: ids of the clusters in full colour, rising; () for all.
        shares: of each cluster, 0 to 1.

    Args:
        shares: (K,).
        upper: share at the upper end of the scale; None is the largest share.
        what: what the shares are of.
        picked: clusters to start with.
    """

    _esm = Path(__file__).with_name("usage_bars.js")
    _css = Path(__file__).with_name("usage_bars.css")

    shares = Checked(()).tag(sync=True)
    colours = traitlets.List(traitlets.Unicode()).tag(sync=True)
    upper = traitlets.Float(1.0).tag(sync=True)
    what = traitlets.Unicode("share of voxels").tag(sync=True)
    picked = Checked(()).tag(sync=True)

    def __init__(self, shares, *, upper: float | None = None, picked: Sequence[int] = (), **traits):
        values = as_shares(shares)
        colours = list(cluster_colours(len(values)))
        upper = max(float(values.max()), 1 / len(values)) if upper is None else float(upper)
        super().__init__(shares=values, colours=colours, upper=upper, **traits)
        self.picked = picked

    @traitlets.validate("shares")
    def _check_shares(self, proposal):
        return tuple(round(float(share), 6) for share in as_shares(proposal["value"]))

    @traitlets.validate("picked")
    def _check_picked(self, proposal):
        ids, count = sorted({int(k) for k in proposal["value"]}), len(self.shares)
        if unknown := [k for k in ids if not 0 <= k < count]:
            raise ValueError(f"no such cluster: {unknown}; there are 0 to {count - 1}. () picks none.")
        return tuple(ids)

    def _static_png(self) -> bytes:
        return usage_png(self.shares, picked=self.picked, upper=self.upper, what=self.what)
