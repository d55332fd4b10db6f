"""Moving pictures of the widgets for the README: `python tools/gallery.py [NAME ...]`, in a real JupyterLab.

Each picture opens a lesson, runs it, clicks or presses keys as a reader would, and writes docs/gallery/NAME.gif. It
needs a Chromium and takes a lesson's minutes for each picture; run it after a widget or its lesson has changed.
"""

import importlib.util
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = PROJECT / "docs" / "gallery"
WIDTH, MILLISECONDS, COLOURS = 760, 1100, 96  # of a frame
TALLEST = 0.85  # of the width; what lies below is cut off
LESSON_SECONDS = 900  # on a machine that may be busy
FIND = """([name, number]) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const cells = notebook.widgets.map((cell, at) => [cell.model.sharedModel.getSource(), at]);
    return cells.filter(([source]) => new RegExp(`(^|\\\\n|= ?)${name}\\\\(`).test(source))[number][1];
}"""
SHOWN = """(at) => {
    const cell = window.jupyterapp.shell.currentWidget.content.widgets[at].model;
    return cell.executionCount !== null && cell.outputs.length > 0;
}"""
MARK = """(at) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    return notebook.scrollToItem(at, 'start').then(() => { notebook.widgets[at].node.id = 'shown'; });
}"""


class Shot(NamedTuple):
    """A picture: which widget of which lesson, and what is done before each frame after the first."""

    lesson: str
    widget: str
    number: int  # of the cells that make this widget, from 0
    steps: tuple[Callable, ...]


def click(canvas: int, x: float, y: float) -> Callable:
    """Click into the nth canvas of the widget, at a share of its width and height."""

    def act(notebook, area) -> None:
        box = area.locator("canvas").nth(canvas).bounding_box()
        notebook.page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])

    return act


def press(control: str, *keys: str) -> Callable:
    """Press keys while the control with this description has the focus."""
    return lambda notebook, area: notebook.press(area, control, *keys)


SHOTS = {
    "adaptive_masking": Shot(
        "20_adaptive_masking/22_which_patches_are_lesions.ipynb", "PatchClusterExplorer", 1, (click(0, 0.4, 0.4),)
    ),
    "boundary_infomax": Shot(
        "30_boundary_infomax/34_pretrain_and_transfer.ipynb",
        "ClusterExplorer",
        0,
        tuple(press("training step", "ArrowLeft") for _ in range(5)),
    ),
    "local_discrimination": Shot(
        "40_local_discrimination/43_one_shot_landmarks.ipynb",
        "LandmarkExplorer",
        0,
        tuple(press("landmark", "ArrowDown") for _ in range(4)),
    ),
    "alice": Shot(
        "50_alice/52_the_same_place_in_two_patients.ipynb",
        "AlignmentExplorer",
        0,
        tuple(click(0, x, y) for x, y in ((0.35, 0.45), (0.62, 0.42), (0.5, 0.62), (0.7, 0.55))),
    ),
}


def main(names: list[str]) -> int:
    """Make the pictures named, all if none is. Returns 0."""
    if unknown := sorted(set(names) - set(SHOTS)):
        sys.exit(f"there is no picture {unknown[0]}; there are {', '.join(SHOTS)}.")
    with tempfile.TemporaryDirectory() as folder, running_lab(Path(folder)) as open_notebook:
        for name in names or SHOTS:
            frames = list(frames_of(SHOTS[name], open_notebook))
            file = FOLDER / f"{name}.gif"
            save(frames, file)
            print(f"{file.relative_to(PROJECT)}: {len(frames)} frames, {file.stat().st_size / 1e3:.0f} kB", flush=True)
    return 0


@contextmanager
def running_lab(folder: Path) -> Iterator[Callable]:
    """A JupyterLab and a browser, as the browser tests start them; yields a function that opens a notebook."""
    from playwright.sync_api import sync_playwright

    harness = browser_tests()
    lab = harness.Lab(folder)
    try:
        with sync_playwright() as playwright:
            flags = ["--disable-gpu", "--no-sandbox"]
            browser = playwright.chromium.launch(executable_path=harness.find_browser(), args=flags)
            try:
                yield lambda path: opened(path, lab, browser, harness)
            finally:
                browser.close()
    finally:
        lab.stop()


def browser_tests():
    """The helpers of tests/browser: they know how to start a Lab and wait for it."""
    spec = importlib.util.spec_from_file_location("browser_tests", PROJECT / "tests" / "browser" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def opened(path: Path, lab, browser, harness):
    """The notebook at `path`, open in a page of its own."""
    target = lab.notebooks / path.relative_to(PROJECT)  # the same place, so that it finds results/
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.read_bytes())
    results = lab.notebooks / "results"
    if not results.exists():
        results.symlink_to(PROJECT / "results")
    page = browser.new_page(viewport={"width": 1360, "height": 1600})
    page.set_default_timeout(LESSON_SECONDS * 1000)
    page.goto(f"{lab.address}/lab/tree/{target.relative_to(lab.notebooks)}?reset&token={lab.token}")
    notebook = harness.Notebook(page)
    notebook.wait_for_kernel()
    notebook.theme("JupyterLab Light")
    return notebook


def frames_of(shot: Shot, open_notebook: Callable) -> Iterator[bytes]:
    """PNGs of the widget: as it appears, then after each step."""
    notebook = open_notebook(PROJECT / "notebooks" / shot.lesson)
    notebook.page.set_default_timeout(LESSON_SECONDS * 1000)
    at = notebook.page.evaluate(FIND, [shot.widget, shot.number])
    notebook.command("notebook:run-all-cells")  # cells that are broken on purpose may raise, and end the wait early
    notebook.page.wait_for_function(SHOWN, arg=at)
    notebook.wait_for_kernel()
    notebook.page.evaluate(MARK, at)
    area = notebook.page.locator("#shown .jp-OutputArea-output .jupyter-widgets").first
    area.locator("canvas, img").first.wait_for()
    for step in (None, *shot.steps):
        if step:
            step(notebook, area)
        notebook.page.wait_for_timeout(1500)  # Python may have to answer first
        yield area.screenshot()
    notebook.page.close()


def save(frames: list[bytes], file: Path) -> None:
    """Frames as one looping GIF of `WIDTH` pixels."""
    from PIL import Image

    pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    high = min(int(TALLEST * WIDTH), max(picture.height * WIDTH // picture.width for picture in pictures))
    sheets = []
    for picture in pictures:
        small = picture.resize((WIDTH, picture.height * WIDTH // picture.width), Image.Resampling.LANCZOS)
        sheet = Image.new("RGB", (WIDTH, high), "white")
        sheet.paste(small, (0, 0))
        sheets.append(sheet.quantize(COLOURS, dither=Image.Dither.NONE))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheets[0].save(file, save_all=True, append_images=sheets[1:], duration=MILLISECONDS, loop=0, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
