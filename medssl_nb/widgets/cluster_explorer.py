"""Which voxels fell into which cluster, and how did that grow? Cluster maps of one volume, step by step of training."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape, unescape
from itertools import pairwise
from typing import NamedTuple

import ipywidgets
import numpy as np

from medssl_nb.viz.arrays import as_labels, names_by_id
from medssl_nb.viz.clusters import as_shares, cluster_colours
from medssl_nb.viz.patches import join_pngs
from medssl_nb.viz.planes import plane_of
from medssl_nb.widgets.browser_state import contour_state
from medssl_nb.widgets.packing import inner_voxels, pack
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.slice_canvas import SliceCanvas
from medssl_nb.widgets.usage_bars import UsageBars

NONE, ALL = "none", "all"
_LINE = 44  # letters above the picture of one plane


class ClusterExplorer(WithPicture, ipywidgets.VBox):
    """Clusters on the slices, how much each is used, and which organ each lies in, step by step of training.

    Clusters are matched from step to step, last step first (`stable_clusters`), so that a colour and a number mean the
    same all the time: the number a cluster has in the last step. Of picked clusters alone the voxels are coloured, and
    the bars of the others fade; the crosshair moves into them if the slices shown hold none of them.
    Without a browser: set `.step`, `.picked` and `.organ`, read `.line.value`.

    Args:
        volume: (X, Y, Z) or (1, X, Y, Z).
        steps: the same volume in the order of training, one step or more: dictionaries with "step" (number, rising),
            "clusters" (X, Y, Z), whole numbers from 0, and how much each cluster is used: "usage" (K,), or the mean of
            "probs" (K, X, Y, Z), or else the share of voxels.
        label: label map of the same grid, to outline organs and to say which organ a cluster lies in; 0 is background.
        label_names: {id: name} or a list whose place is the id.
        num_clusters: K, 1 to 40; None takes it from "usage" or "probs", else the largest number of all steps and 1.
        step: what to show first; None is the last step.
        picked: ids of clusters to start with, () for all.
        organ: what to outline first: "none", "all" or the name of an organ.
        title: a line above.
        opacity: of the colours over the image.
        spacing_mm, window, planes, size: as in `SliceCanvas`.

    Raises:
        ValueError: no steps, a step that lacks something, numbers of clusters or shapes that do not agree.
    """

    def __init__(
        self,
        volume,
        steps: Sequence[Mapping],
        *,
        label=None,
        label_names: Mapping[int, str] | Sequence[str] | None = None,
        spacing_mm: Sequence[float] | None = None,
        window=None,
        num_clusters: int | None = None,
        step: int | None = None,
        picked: Iterable[int] = (),
        organ: str = NONE,
        title: str = "",
        opacity: float = 0.6,
        planes: Sequence[str] | None = ("axial", "coronal"),
        size: int = 320,
    ):
        look = {"spacing_mm": spacing_mm, "window": window, "planes": planes, "size": size, "title": title}
        self.canvas = ClusterCanvas(volume, opacity=opacity, **look)
        self._steps = _checked_steps(steps, self.canvas, num_clusters)
        self.num_clusters = len(self._steps[0].shares)
        self._label = None if label is None else as_labels(label, self.canvas.volume, "label")
        self._names = _organ_names(self._label, label_names)
        self.canvas.name_clusters(self.num_clusters)

        last = self._steps[-1]
        upper = max(float(one.shares.max()) for one in self._steps)
        self.bars = UsageBars(last.shares, upper=max(upper, 1 / self.num_clusters), what=last.what)
        self.step_slider = ipywidgets.SelectionSlider(
            options=[one.step for one in self._steps],
            value=last.step,
            description="training step",
            style={"description_width": "8em"},
            layout={"width": "30em", "max_width": "100%"},
        )
        self.organ_choice = ipywidgets.Dropdown(
            options=[NONE, *([ALL, *list(self._names.values())[1:]] if self._names else [])],
            description="outline",
            layout={"width": "15em"},
        )
        self.all_button = ipywidgets.Button(description="all clusters", tooltip="pick none: show all clusters")
        self.line = ipywidgets.HTML(layout={"min_height": "58px"})  # two lines, so that bars stay under the pointer

        self.step_slider.observe(self._show_step, names="value")
        self.organ_choice.observe(self._show_organ, names="value")
        self.bars.observe(self._show_picked, names="picked")
        self.all_button.on_click(self._pick_none)
        self._show_step()
        if step is not None:
            self.step = step
        self.organ, self.picked = organ, picked
        controls = [self.step_slider] * (len(self._steps) > 1) + [self.organ_choice] * bool(self._names)
        row = ipywidgets.HBox([*controls, self.all_button], layout={"flex_flow": "row wrap"})
        super().__init__(children=[row, self.line, self.bars, self.canvas])

    # ---- what Python and the reader both set ----

    @property
    def step(self) -> int:
        """Step of training that is shown."""
        return self.step_slider.value

    @step.setter
    def step(self, step: int) -> None:
        if step not in self.step_slider.options:
            raise ValueError(f"no such step: {step}; there are {list(self.step_slider.options)}.")
        self.step_slider.value = step

    @property
    def picked(self) -> tuple[int, ...]:
        """Clusters in full colour, () for all."""
        return self.bars.picked

    @picked.setter
    def picked(self, ids: Iterable[int]) -> None:
        self.bars.picked = tuple(ids)

    @property
    def organ(self) -> str:
        """Whose outline is drawn: "none", "all" or the name of an organ."""
        return self.organ_choice.value

    @organ.setter
    def organ(self, name: str) -> None:
        if name not in self.organ_choice.options:
            more = "" if self._names else " Give label=... and label_names=... to outline organs."
            raise ValueError(f"no such organ: {name!r}; there are {', '.join(self.organ_choice.options)}.{more}")
        self.organ_choice.value = name

    # ---- what can be read ----

    @property
    def clusters(self) -> np.ndarray:
        """(X, Y, Z) cluster of each voxel in the step shown, numbered as in the last step."""
        return self._shown.codes.astype(np.int64) - 1

    @property
    def usage(self) -> np.ndarray:
        """(K,) how much each cluster is used in the step shown, numbered as in the last step."""
        return self._shown.shares

    @property
    def clusters_used(self) -> float:
        """exp of the entropy of the usage: 1 if all is in one cluster, K if all are used alike."""
        import torch

        from medssl_nb.evaluation import clusters_used

        return clusters_used(torch.from_numpy(self.usage))

    @property
    def _shown(self) -> "_Step":
        return self._steps[self.step_slider.index]

    # ---- what follows what ----

    def _show_step(self, change=None) -> None:
        self.canvas.show_clusters(self._shown.codes)
        self.bars.shares = self._shown.shares
        self.line.value = self._words()

    def _show_picked(self, change=None) -> None:
        ids = self.picked or range(self.num_clusters)
        self.canvas.visible_labels = tuple(k + 1 for k in ids)
        if self.picked:
            self.canvas.bring_into_view(np.isin(self.canvas.codes, self.canvas.visible_labels))
        self.line.value = self._words()

    def _show_organ(self, change=None) -> None:
        number = self._organ_id()
        if number is None:
            self.canvas.outline(None if self.organ == NONE else self._label, self._names)
        else:
            inside = self._label == number
            self.canvas.outline(inside, {1: self.organ})
            self.canvas.bring_into_view(inside)
        self.line.value = self._words()

    def _pick_none(self, button=None) -> None:
        self.picked = ()

    def _organ_id(self) -> int | None:
        return next((i for i, name in self._names.items() if name == self.organ and i != 0), None)

    # ---- words ----

    def _words(self) -> str:
        used = f"{self.clusters_used:.1f} of {self.num_clusters} clusters used (exp of the usage entropy)"
        parts = [f"step {self.step}: {used}"]
        if self.picked:
            parts.append(self._picked_words())
        if (number := self._organ_id()) is not None and (not self.picked or np.isin(self.clusters, self.picked).any()):
            parts.append(self._organ_words(self._label == number))
        return escape("; ".join(parts))

    def _picked_words(self) -> str:
        one = len(self.picked) == 1
        inside = np.isin(self.clusters, self.picked)
        name = f"cluster{'' if one else 's'} {', '.join(map(str, self.picked))}"
        if not inside.any():
            return f"{name}: no voxel"
        words = f"{name}: {_percent(inside.mean())} of voxels"
        if self._label is not None:
            counts = np.bincount(self._label[inside])
            number = int(counts.argmax())
            words += f", {_percent(counts[number] / inside.sum())} of {'it' if one else 'them'} {self._names[number]}"
        return words

    def _organ_words(self, organ: np.ndarray) -> str:
        """How much of the organ the picked clusters hold, or which clusters hold most of it."""
        if self.picked:
            share = np.isin(self.clusters[organ], self.picked).mean()
            return f"{_percent(share)} of {self.organ} is in {'it' if len(self.picked) == 1 else 'them'}"
        shares = np.bincount(self.clusters[organ], minlength=self.num_clusters) / organ.sum()
        most = [k for k in np.argsort(-shares, kind="stable")[:3] if shares[k] > 0]
        return f"{self.organ}: " + ", ".join(f"{_percent(shares[k])} in cluster {k}" for k in most)

    def _static_png(self) -> bytes:
        return join_pngs([self.canvas.picture(unescape(self.line.value)), self.bars._static_png()])


class StableClusters(NamedTuple):
    """Cluster maps whose numbers mean the same in all steps."""

    maps: list  # of each step, tensor like the one given, int64
    names: list  # of each step, int64 (K,): the number that each cluster of that step now has


def stable_clusters(maps: Sequence, num_clusters: int) -> StableClusters:
    """Number the clusters of each step as those of the next one that they share most voxels with, last step first.

    Args:
        maps: of each step whole numbers from 0 to num_clusters - 1, all of one shape.
        num_clusters: K.

    Raises:
        ValueError: no maps, shapes that differ, numbers outside their range.
    """
    import torch

    from medssl_nb.methods.boundary_infomax import match_clusters

    if len(maps) == 0:
        raise ValueError("stable_clusters got no maps; give at least one.")
    tensors = [torch.as_tensor(one) for one in maps]
    counts = {"num_clusters": num_clusters, "num_references": num_clusters}
    names = [torch.arange(num_clusters)]
    stable = [names[0][tensors[-1].long()]]
    for earlier in reversed(tensors[:-1]):
        names.append(match_clusters(earlier, stable[-1], **counts, mode="one_to_one"))
        stable.append(names[-1][earlier.long()])
    return StableClusters(stable[::-1], names[::-1])


class _Step(NamedTuple):
    """One step of training, clusters numbered as in the last step."""

    step: int
    codes: np.ndarray  # uint8 (X, Y, Z): cluster + 1
    shares: np.ndarray  # (K,)
    what: str  # the shares are


class ClusterCanvas(SliceCanvas):
    """A slice canvas with a cluster map, whose names and colours stay while voxels change, and outlines of organs."""

    def __init__(self, volume, **options):
        self.codes: np.ndarray | None = None
        super().__init__(volume, label_style="fill", controls=("slices", "readout", "overlay"), **options)
        self.volume = self._volume

    def name_clusters(self, count: int) -> None:
        # one table for all steps, empty clusters too: so that the browser takes over voxels and builds nothing anew
        colours = cluster_colours(count)
        rows = [{"id": k + 1, "name": f"cluster {k}", "colour": colours[k], "centre": [0, 0, 0]} for k in range(count)]
        self._label_names = {row["id"]: row["name"] for row in rows}
        self._take_over({"label_table": rows, "visible_labels": tuple(self._label_names)})

    def show_clusters(self, codes: np.ndarray) -> None:
        """codes: uint8 (X, Y, Z), cluster + 1."""
        self.codes = self._label = codes
        self.label_bytes = pack(codes)

    def outline(self, contour: np.ndarray | None, names: Mapping[int, str]) -> None:
        """Draw outlines of a mask (cyan, which no cluster is) or of a label map (colours of organs)."""
        self._contour = None if contour is None else np.asarray(contour, np.int64)
        state = contour_state(self._contour, names)
        for row in state["contour_table"]:
            row["name"] = names[row["id"]]
        self._take_over(state)

    def bring_into_view(self, inside: np.ndarray) -> None:
        """Move the crosshair into what is marked (X, Y, Z), unless a plane shown holds some of it."""
        fixed = [plane_of(name).fixed for name in self.planes]
        if inside.any() and not any(inside.take(self.crosshair[axis], axis).any() for axis in fixed):
            self.crosshair = inner_voxels(inside.astype(np.uint8), 1)[0]

    def picture(self, line: str) -> bytes:
        """PNG of what is shown, with a line above; the same state gives the same bytes."""
        from medssl_nb.viz.slices import layers_png

        title = "\n".join([self.title] * (self.title != "") + textwrap.wrap(line, _LINE * len(self.planes)))
        return layers_png(self._layers(), self.crosshair, planes=self.planes, title=title)

    def _layers(self):
        layers = super()._layers()
        clusters, *outlines = layers.overlays
        colours = {row["id"]: row["colour"] for row in self.label_table}
        colours = {i: colours[i] for i in self.visible_labels}
        overlays = [replace(clusters, names={}, colours=colours)]  # no names: the bars are the legend
        for overlay in outlines:
            rows = {row["id"]: row for row in self.contour_table}
            names, looks = ({i: row[key] for i, row in rows.items()} for key in ("name", "colour"))
            overlays.append(replace(overlay, names=names, colours=looks))
        return replace(layers, overlays=tuple(overlays))


def _checked_steps(steps: Sequence[Mapping], canvas: ClusterCanvas, num_clusters: int | None) -> list[_Step]:
    import torch

    if len(steps) == 0:
        raise ValueError("steps is empty: give at least one dictionary with step and clusters.")
    for one in steps:
        if missing := [name for name in ("step", "clusters") if name not in one]:
            raise ValueError(f"a step lacks {', '.join(missing)}; it has {', '.join(map(str, one)) or 'nothing'}.")
    numbers = [int(one["step"]) for one in steps]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise ValueError(f"steps must rise from one to the next, got {numbers}; sort them by step.")
    maps = [as_labels(one["clusters"], canvas.volume, "clusters") for one in steps]
    usages = [_usage_of(one, canvas.volume.shape) for one in steps]
    count = _number_of_clusters(maps, usages, num_clusters)
    stable = stable_clusters([torch.from_numpy(one.astype(np.int64)) for one in maps], count)
    checked = []
    for number, clusters, names, usage in zip(numbers, stable.maps, stable.names, usages, strict=True):
        codes = (clusters.numpy() + 1).astype(np.uint8)
        if usage is None:
            shares, what = np.bincount(codes.ravel(), minlength=count + 1)[1:] / codes.size, "share of voxels"
        else:
            shares, what = np.empty(count), "mean probability"
            shares[names.numpy()] = usage
        checked.append(_Step(number, codes, shares, what))
    return checked


def _usage_of(one: Mapping, shape: tuple[int, ...]) -> np.ndarray | None:
    """(K,) of "usage" or "probs", None where neither is given."""
    usage, probs = one.get("usage"), one.get("probs")
    if usage is None and probs is None:
        return None
    if usage is None:
        import torch

        from medssl_nb.methods.boundary_infomax import cluster_usage

        probs = torch.as_tensor(probs).detach()
        if probs.ndim != 4 or tuple(probs.shape[1:]) != shape:
            raise ValueError(
                f"probs must be (K, X, Y, Z) on the grid {shape}, got {tuple(probs.shape)}: take one case."
            )
        usage = cluster_usage(probs[None])
    shares = as_shares(usage, "usage")
    if abs(shares.sum() - 1) > 1e-2:
        raise ValueError(f"usage must sum to 1, got {shares.sum():.4g} in step {one['step']}; take the mean, no sum.")
    return shares


def _number_of_clusters(maps: list[np.ndarray], usages: list, given: int | None) -> int:
    told = {len(usage) for usage in usages if usage is not None} | ({given} if given is not None else set())
    if len(told) > 1:
        raise ValueError(f"numbers of clusters do not agree: usage, probs and num_clusters say {sorted(told)}.")
    if len({usage is None for usage in usages}) > 1:
        raise ValueError("some steps have usage or probs and some have neither; give them for all steps or for none.")
    largest = max(int(one.max()) for one in maps)
    count = told.pop() if told else largest + 1
    if largest >= count:
        raise ValueError(f"clusters must lie from 0 to {count - 1}, got {largest}: there are {count} clusters.")
    cluster_colours(count)  # refuses more than can be told apart
    return count


def _organ_names(label: np.ndarray | None, label_names) -> dict[int, str]:
    """Name of each id in the label map, background first; {} where there is no label map."""
    if label is None:
        return {}
    ids = [int(i) for i in np.unique(label) if i != 0]
    names = {0: "background"} | names_by_id(label_names, ids)
    organs = list(names.values())[1:]
    if len(set(organs) | {NONE, ALL}) < len(organs) + 2:
        raise ValueError(f'organs need different names, other than "{NONE}" and "{ALL}"; got {organs}.')
    return names


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"
