"""Explorers that run on the site, without a kernel: `python tools/site/site_explorers.py FOLDER`.

Each is an explorer of a lesson, made by the lesson's own cells. Its canvases run their own scripts in the page. What
Python answers in a notebook is asked here beforehand: for every choice in `INPUTS` the explorer is set to it, and what
changes is stored. The page (static/explorers.js) puts the stored answer in place when the reader makes that choice.
"""

import ast
import base64
import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

TOP = Path(__file__).resolve().parents[2]
KINDS = ("VBox", "HBox", "HTML", "Image", "Dropdown", "SelectionSlider", "FloatSlider", "IntSlider", "Checkbox")
KINDS += ("Button", "BoundedIntText")
CONTROLS = KINDS[4:]


@dataclass(frozen=True)
class Live:
    """An explorer of a lesson that runs on the site.

    Attributes:
        name: of its file and its place on the page.
        notebook: path from the top of the repository.
        widget: the name that the notebook stores beside its picture.
        number: which of the explorers with this name in the notebook, from 0.
        title: on the page of explorers.
        words: what to try.
        kernel: what it does beyond that in a notebook only; controls that are not recorded need not be named.
    """

    name: str
    notebook: str
    widget: str
    number: int
    title: str
    words: str
    kernel: str = ""


LIVE = (
    Live(
        "volume",
        "notebooks/00_start_here.ipynb",
        "VolumeExplorer",
        0,
        "Walk through a volume",
        "Drag the cross, scroll through slices, choose a window, find an organ by name.",
    ),
    Live(
        "volume-11",
        "notebooks/10_foundations/11_volumes_and_views.ipynb",
        "VolumeExplorer",
        0,
        "Another patient",
        "Follow the voxel and its millimetres in the line below the pictures.",
    ),
    Live(
        "mask",
        "notebooks/20_adaptive_masking/21_patches_and_masks.ipynb",
        "MaskExplorer",
        0,
        "What is hidden?",
        "Move the hidden share, choose what goes first, and tick what the network sees.",
    ),
    Live(
        "patch-clusters",
        "notebooks/20_adaptive_masking/22_which_patches_are_lesions.ipynb",
        "PatchClusterExplorer",
        0,
        "Which patches are lesions?",
        "Click a point: its patch is outlined in the brain.",
        "In a notebook a click in the brain also picks its point.",
    ),
    Live(
        "patch-peaks",
        "notebooks/20_adaptive_masking/22_which_patches_are_lesions.ipynb",
        "PatchClusterExplorer",
        1,
        "The same brain, clustered by its brightest voxels",
        "Click a point: its patch is outlined in the brain.",
        "In a notebook a click in the brain also picks its point.",
    ),
    Live(
        "ratio",
        "notebooks/20_adaptive_masking/24_ratio_pretrain_transfer.ipynb",
        "RatioCurve",
        0,
        "A mask that grows while training",
        "Move the epoch: when is all of the lesion hidden?",
    ),
    Live(
        "joint",
        "notebooks/30_boundary_infomax/31_clusters_and_mutual_information.ipynb",
        "JointMatrixExplorer",
        0,
        "What two views tell about each other",
        "Click a cell of the matrix: where are the voxels that it counts?",
    ),
    Live(
        "boundary",
        "notebooks/30_boundary_infomax/33_borders_where_the_image_has_edges.ipynb",
        "BoundaryExplorer",
        0,
        "A border moves over an organ",
        "Move the border out and in, and change the window: where is the correlation high?",
        "In a notebook you can also drag the line.",
    ),
)

INPUTS: dict[str, Callable[[Any], list[tuple]]] = {
    "VolumeExplorer": lambda w: [],
    "Row": lambda w: [],
    "MaskExplorer": lambda w: [
        (w.strategy, "value", ["random", "lesions first"]),
        (w.ratio, "value", [round(0.05 * k, 2) for k in range(1, 20)]),
        (w.network_view, "value", [False, True]),
    ],
    "PatchClusterExplorer": lambda w: [(w.scatter, "selected", [-1, *(w.labels >= 0).nonzero()[0].tolist()])],
    "RatioCurve": lambda w: [(w.epoch, "value", list(range(0, w.epochs, 2)))],
    "JointMatrixExplorer": lambda w: [
        (w.controls["broken"], "value", list(w.controls["broken"].options)[:2]),
        (w.matrix, "cell", [(), *itertools.product(range(len(w.joint)), repeat=2)]),
    ],
    "BoundaryExplorer": lambda w: [
        (w.controls["offset"], "value", [k / 2 for k in range(-12, 13)]),
        (w.controls["window"], "value", [3, 5, 9]),
    ],
}


def main(folder: Path) -> None:
    """Write one script for each explorer, and one with what they share, to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    modules: dict[str, dict] = {}
    beyond = {live.name: live.kernel for live in LIVE}
    for name, widget, links in every_explorer(TOP):
        told = {"kernel": beyond.get(name, "")}
        write_script(folder / f"{name}.js", "explorer", name, specification(widget, modules, links) | told)
    write_script(folder / "modules.js", "modules", "", modules)


def write_script(path: Path, what: str, name: str, value: dict) -> None:
    """A script that hands `value` to the page: pages that are opened as files may load scripts, but no data."""
    packed = gzip.compress(json.dumps(value, allow_nan=False, sort_keys=True).encode(), 6, mtime=0)
    text = base64.b64encode(packed).decode()
    path.write_text(f'medsslSite.{what}("{text}", "{name}");\n', encoding="utf-8")


# ---------------------------------------------------------------- the lessons' own explorers
def cells_of(book, widget: str) -> list[int]:
    """Numbers from 0 of the cells that show a widget of this name."""
    return [
        number
        for number, cell in enumerate(book.cells)
        for out in cell.get("outputs", [])
        if out.get("data", {}).get("text/plain") == f"<{widget}>"
    ]


def cell_of(live: Live, top: Path) -> int:
    found = cells_of(nbformat.read(top / live.notebook, 4), live.widget)
    if live.number >= len(found):
        raise ValueError(
            f"{live.notebook} shows {len(found)} {live.widget}, number {live.number} is wanted; mend LIVE in "
            f"{Path(__file__).name}."
        )
    return found[live.number]


def every_explorer(top: Path) -> Iterator[tuple[str, Any, list]]:
    """(name, widget, links) of each, links as (widget, trait, widget, trait)."""
    quiet_pictures()
    for notebook, lives in itertools.groupby(LIVE, key=lambda live: live.notebook):
        wanted = {cell_of(live, top): live.name for live in lives}
        for number, widget in run_cells(top / notebook, list(wanted)):
            yield wanted[number], widget, []
    yield "linked", *linked_patients()


def quiet_pictures() -> None:
    """The lessons' still pictures are not drawn; they are stored in the notebooks."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from medssl_nb import viz

    plt.show = lambda *args, **options: plt.close("all")
    for name in viz.__all__:
        if name.startswith("show_"):
            setattr(viz, name, lambda *args, **options: None)


def run_cells(path: Path, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Run the notebook's code cells up to the last of `wanted`; (cell number, value of its last line) of those."""
    names = {"__name__": "lesson", "display": lambda *shown: None}
    for number, cell in enumerate(nbformat.read(path, 4).cells[: max(wanted) + 1]):
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        last = ast.Expression(tree.body.pop().value) if number in wanted else None
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(tree, f"{path.name}, cell {number}", "exec"), names)
            value = eval(compile(last, f"{path.name}, cell {number}", "eval"), names) if last else None
        if last:
            yield number, value


def linked_patients() -> tuple[Any, list]:
    """Two sequences of one brain side by side, with one crosshair."""
    import ipywidgets

    from medssl_nb.data import load_cohort
    from medssl_nb.widgets import SliceCanvas

    class Row(ipywidgets.HBox):
        pass

    canvases = []
    for sequence in ("T1", "FLAIR"):
        options = {"sequence": sequence, "lesion_share": 1.0, "shape": (64, 76, 64), "spacing_mm": 2.6}
        case = load_cohort("brain", train=1, validation=0, test=1, **options).test[0]
        image, names = case.image(), case.label_names
        look = {"planes": ["axial", "sagittal"], "layout": {"flex": "1 1 300px", "min_width": "0"}, "size": 280}
        canvases.append(SliceCanvas(image, case.label(), label_names=names, title=sequence, opacity=0.25, **look))
    left, right = canvases
    return Row(canvases, layout={"flex_flow": "row wrap"}), [(left, "crosshair", right, "crosshair")]


# ---------------------------------------------------------------- what the page needs of a widget
def specification(widget, modules: dict, links: Sequence[tuple] = ()) -> dict:
    """All of an explorer: its models, what is inside what, links, and the recorded answers."""
    tree = list(inside(widget))
    number = {id(part): k for k, part in enumerate(tree)}
    inputs = INPUTS[type(widget).__name__](widget)
    models = [model_of(part, number, modules) for part in tree]
    return {
        "models": models,
        "links": [[number[id(a)], x, number[id(b)], y] for a, x, b, y in links],
        **recorded(tree, number, inputs),
        "later": later(tree, inputs),
    }


def inside(widget) -> Iterator:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from inside(child)


def model_of(part, number: dict, modules: dict) -> dict:
    """Kind, state and looks of one widget."""
    layout = {name: value for name, value in part.layout.get_state().items() if value and name[0] != "_"}
    model = {"state": state_of(part), "layout": layout}
    if hasattr(part, "_esm"):
        module = {"esm": str(part._esm), "css": str(part._css)}
        name = hashlib.sha256("\0".join(module.values()).encode()).hexdigest()[:10]
        modules[name] = module
        return {**model, "kind": "anywidget", "module": name}
    kind = next((kind.__name__ for kind in type(part).__mro__ if kind.__name__ in KINDS), None)
    if kind is None:
        raise ValueError(f"{type(part).__name__} cannot be shown without a kernel; known are {', '.join(KINDS)}.")
    children = [number[id(child)] for child in getattr(part, "children", ())]
    return {**model, "kind": kind, "children": children}


def state_of(part) -> dict:
    left_out = ("layout", "style", "children", "tabbable", "tooltip")
    own = {name: value for name, value in part.get_state().items() if name not in left_out}
    return {name: packed(value) for name, value in own.items() if name[0] != "_" or name == "_options_labels"}


def packed(value):
    """JSON of a trait's value; bytes become {"bytes": text}."""
    if isinstance(value, bytes | memoryview):
        return {"bytes": base64.b64encode(value).decode()}
    return json.loads(json.dumps(value, default=float))


def recorded(tree: list, number: dict, inputs: Sequence[tuple]) -> dict:
    """Answers to every combination of choices.

    Returns:
        inputs: {model, trait, values} each, as the page sees them; the last one changes fastest in `answers`.
        varying: [model, trait] of all that the choices change.
        answers: for each combination, places in `table`, one for each of `varying`.
        table: the values.
        start: which combination the explorer stands at.
    """
    seen, asked = [], []
    first = [getattr(part, trait) for part, trait, _ in inputs]
    for choice in itertools.product(*(values for _, _, values in inputs)):
        for (part, trait, _), value in zip(inputs, choice, strict=True):
            if getattr(part, trait) != value:
                setattr(part, trait, value)
        states = [state_of(part) for part in tree]
        seen.append(states)
        asked.append([states[number[id(part)]][key_of(part, trait)] for part, trait, _ in inputs])
    for (part, trait, _), value in zip(inputs, first, strict=True):
        setattr(part, trait, value)
    start = [state_of(part)[key_of(part, trait)] for part, trait, _ in inputs]
    if start not in asked:
        raise ValueError(f"the explorer starts at {first}, which is none of the recorded choices: mend INPUTS.")
    choices = [(number[id(part)], key_of(part, trait)) for part, trait, _ in inputs]
    varying = [
        (k, name)
        for k, state in enumerate(seen[0])
        for name, value in state.items()
        if (k, name) not in choices and any(states[k][name] != value for states in seen)
    ]
    table: dict[str, int] = {}
    answers = [[table.setdefault(json.dumps(s[k][name]), len(table)) for k, name in varying] for s in seen]
    values = [list({json.dumps(row[i]): row[i] for row in asked}.values()) for i in range(len(inputs))]
    return {
        "inputs": [{"model": k, "trait": t, "values": v} for (k, t), v in zip(choices, values, strict=True)],
        "varying": varying,
        "answers": answers,
        "table": [json.loads(text) for text in table],
        "start": asked.index(start),
    }


def key_of(part, trait: str) -> str:
    """The trait that the browser knows: a list to choose from sends the place, not the value."""
    return "index" if trait == "value" and hasattr(part, "_options_labels") else trait


def later(tree: list, inputs: Sequence[tuple]) -> list[str]:
    """Controls that only a kernel can answer."""
    live = {id(part) for part, _, _ in inputs}
    controls = [part for part in tree if any(kind.__name__ in CONTROLS for kind in type(part).__mro__)]
    return [part.description for part in controls if id(part) not in live]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(Path(sys.argv[1]))
