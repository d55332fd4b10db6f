"""How long from moving the slice slider to the new picture, measured by a real browser's own clock.

    python benchmarks/bench_slice_canvas.py                    # prints
    python benchmarks/bench_slice_canvas.py --write            # and stores results/slice_canvas_latency.json

A volume explorer with three planes, eight labels and all controls stands on a page without a kernel. Real key presses
move its slider by one slice. Counted from the time stamp of the input event: `drawn` is when the canvases hold the new
picture, `frame` is when the browser begins the frame that carries it, `shown` is when it begins the frame after that,
so that the picture is on the screen. `draw` is the work alone. One frame at 60 Hz is 16.7 ms.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path

import numpy as np

SHAPES = ((64, 64, 64), (128, 128, 128), (181, 217, 181))
STEPS = 120
RESULT = Path(__file__).parents[1] / "results" / "slice_canvas_latency.json"

_LISTEN = """
() => {
  window.times = [];
  let pressed = null;
  const slider = document.querySelector("input[type=range]");
  slider.addEventListener("input", (event) => { pressed ??= event.timeStamp; }, { capture: true });
  document.getElementById("widget").addEventListener("slice-canvas:drawn", (event) => {
    if (pressed === null) return;
    const start = pressed, drawn = performance.now();
    pressed = null;
    const work = event.detail.milliseconds;
    requestAnimationFrame(() => {
      const frame = performance.now();
      requestAnimationFrame(() => {
        window.times.push([drawn - start, frame - start, performance.now() - start, work]);
      });
    });
  });
  slider.focus();
}
"""


def volume_and_labels(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Noise, which compresses badly, and eight boxes of labels, which fill a third of the volume."""
    volume = np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)
    labels = np.zeros(shape, np.uint8)
    for number, corner in enumerate(np.ndindex(2, 2, 2), start=1):
        start = [n // 12 + c * n // 2 for n, c in zip(shape, corner, strict=True)]
        labels[tuple(slice(s, s + n // 3) for s, n in zip(start, shape, strict=True))] = number
    return volume, labels


def measure(page, steps: int) -> np.ndarray:
    """Milliseconds (steps, 4) from input event to picture, to its frame, to the frame after, and of the work itself."""
    page.get_by_label("axial slice z").focus()
    for _ in range(20):  # the first ones compile the script
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(20)
    page.evaluate(_LISTEN)
    pauses = np.random.default_rng(0).uniform(20, 60, steps)  # keys are not pressed in step with the screen
    for step, pause in enumerate(pauses):
        page.wait_for_timeout(pause)
        page.keyboard.press("ArrowRight" if step % 40 < 20 else "ArrowLeft")
        page.wait_for_function(f"() => window.times.length > {step}")
    return np.array(page.evaluate("() => window.times"))


def summary(times: np.ndarray) -> dict[str, dict[str, float]]:
    names = ("drawn", "frame", "shown", "draw")
    return {
        name: {"median_ms": round(float(np.median(column)), 1), "p95_ms": round(float(np.percentile(column, 95)), 1)}
        for name, column in zip(names, times.T, strict=True)
    }


def run(executable: str, steps: int) -> dict:
    from playwright.sync_api import sync_playwright

    from medssl_nb.widgets import VolumeExplorer, standalone_page

    flags = ["--disable-gpu"] + (["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else [])
    results = {}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        for shape in SHAPES:
            volume, labels = volume_and_labels(shape)
            explorer = VolumeExplorer(volume, labels, spacing_mm=(1, 1, 1), window=(-250, 250))
            path = Path(folder) / "page.html"
            path.write_text(standalone_page(explorer), encoding="utf-8")
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.goto(path.as_uri())
            page.wait_for_function("() => document.querySelector('.sc-readout .sc-value')?.textContent")
            name = " x ".join(map(str, shape))
            results[name] = {"packed_mb": round(len(explorer.volume_bytes) / 1e6, 2), **summary(measure(page, steps))}
            print(name, json.dumps(results[name]))
            page.close()
        version = browser.version
        browser.close()
    return {"browser": f"Chromium {version}, headless, no GPU", "steps": steps, "shapes": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--browser", default=os.environ.get("MEDSSL_BROWSER"), help="path of Chromium or Chrome")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--write", action="store_true", help=f"store {RESULT.name}")
    options = parser.parse_args()
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = options.browser or next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        parser.error("no Chromium or Chrome on the path: install one or name it with --browser")
    result = {
        "what": "milliseconds from a slider's input event to the picture in the browser (three planes, 8 labels)",
        "command": "python benchmarks/bench_slice_canvas.py --write",
        "machine": f"{os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}",
        **run(executable, options.steps),
    }
    if options.write:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"wrote {RESULT}")


if __name__ == "__main__":
    main()
