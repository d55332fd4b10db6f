"""A real browser and a real JupyterLab for tests; both are started once for all tests of a process.

Use `open_notebook`: it takes the path of a notebook or a list of cell sources, and returns a `Notebook` to run, click
and read. A test fails if its page asks for anything outside this machine or a script of ours throws.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest

HOW_TO_GET_ONE = (
    "No Chromium or Chrome found: install one, run `python -m playwright install chromium`, or set MEDSSL_BROWSER to "
    "the path of one."
)
SECONDS = 1000  # Playwright counts milliseconds
START_SECONDS = 90
RUN_SECONDS = 180


def find_browser() -> str | None:
    """MEDSSL_BROWSER, else a browser on the path, else the one that Playwright has fetched."""
    if named := os.environ.get("MEDSSL_BROWSER"):
        if not Path(named).is_file():
            pytest.fail(f"MEDSSL_BROWSER names {named}, which is no file.")
        return named
    on_path = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    return next(on_path, None) or _playwrights_own()


def _playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


@pytest.fixture(scope="session")
def chromium() -> str:
    found = find_browser()
    if found is None and (os.environ.get("CI") == "true" or os.environ.get("MEDSSL_REQUIRE_BROWSER")):
        pytest.fail(HOW_TO_GET_ONE)
    if found is None:
        pytest.skip(HOW_TO_GET_ONE)
    return found


@pytest.fixture(scope="session")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    flags = ["--disable-gpu", "--disable-background-networking", "--no-first-run"]
    flags.append("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1")  # nothing outside can be reached
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium's sandbox does not run as root
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield running
        running.close()


class Lab:
    """A JupyterLab of its own: settings, workspaces and notebooks lie in a temporary folder."""

    def __init__(self, folder: Path):
        self.notebooks = folder / "notebooks"
        self.notebooks.mkdir()
        self.token = secrets.token_hex(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        news = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
        news.parent.mkdir(parents=True)
        news.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # else a question covers the page
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.server = subprocess.Popen(
                _server_command(port, self.token, self.notebooks),
                env=_server_environment(folder),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.server.poll() is None:
            try:
                urllib.request.urlopen(f"{self.address}/api?token={self.token}", timeout=2).close()
                return
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.2)
        self.stop()
        pytest.fail(f"JupyterLab did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        self.server.terminate()
        try:
            self.server.wait(15)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()


def _server_command(port: int, token: str, folder: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        f"--ServerApp.root_dir={folder}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]


def _server_environment(folder: Path) -> dict[str, str]:
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    return {**os.environ, **{name: str(folder / place) for name, place in places.items()}}


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    running = Lab(tmp_path_factory.mktemp("lab"))
    yield running
    running.stop()


class Notebook:
    """A notebook open in JupyterLab."""

    def __init__(self, page):
        self.page = page

    def command(self, name: str, **arguments):
        """Run a command of JupyterLab and wait for it."""
        return self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => true)", [name, arguments]
        )

    def wait_for_kernel(self) -> None:
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=START_SECONDS * SECONDS,
        )

    def run_all(self) -> None:
        """Run all cells; fails if one raises."""
        self.page.set_default_timeout(RUN_SECONDS * SECONDS)
        self.command("notebook:run-all-cells")
        self.wait_for_kernel()
        self.page.set_default_timeout(15 * SECONDS)
        errors = self.page.evaluate(
            """() => Array.from(window.jupyterapp.shell.currentWidget.content.model.cells)
                .filter((cell) => cell.type === "code")
                .flatMap((cell) => cell.toJSON().outputs)
                .filter((output) => output.output_type === "error")
                .map((output) => `${output.ename}: ${output.evalue}`)"""
        )  # asked of the model: the page drops cells that are out of view
        assert not errors, errors

    def python(self, code: str) -> str:
        """Run code in the notebook's kernel, in no cell; what it prints."""
        return self.page.evaluate(
            """async (code) => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const future = kernel.requestExecute({ code, store_history: false });
                let text = "";
                future.onIOPub = ({ header, content }) => {
                    if (header.msg_type === "stream") text += content.text;
                    if (header.msg_type === "error") text += content.traceback.join("\\n");
                };
                await future.done;
                return text.trim();
            }""",
            code,
        )

    def theme(self, name: str) -> None:
        """ "JupyterLab Light" or "JupyterLab Dark"."""
        self.command("apputils:change-theme", theme=name)
        light = "true" if name.endswith("Light") else "false"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")

    # ---- explorers: what Python knows, what was drawn, keys for a control ----

    def value(self, expression: str):
        """What the expression is in the kernel, for values whose repr can be read back."""
        return eval(self.python(f"print(repr({expression}))"))

    def set(self, statement: str) -> None:
        assert self.python(statement) == ""
        self.drawn()

    def until_value(self, expression: str, expected) -> None:
        for _ in range(50):
            if (found := self.value(expression)) == expected:
                self.drawn()
                return
            self.page.wait_for_timeout(50)
        assert found == expected

    def until_changed(self, read, before):
        """What `read()` returns as soon as it is no longer `before`."""
        for _ in range(50):
            if (found := read()) != before:
                return found
            self.page.wait_for_timeout(50)
        pytest.fail("the picture did not change")

    def drawn(self) -> None:
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def output(self, number: int):
        """The output area of a code cell."""
        return self.page.locator(".jp-CodeCell").nth(number).locator(".jp-OutputArea").first

    def control(self, area, name: str):
        """The part that takes keys of the ipywidgets control with this description."""
        row = area.locator(".widget-inline-hbox").filter(has_text=re.compile(f"^{name}"))
        return row.locator(".noUi-handle, select, input[type=number]").first

    def press(self, area, name: str, *keys: str) -> None:
        self.control(area, name).focus()
        for key in keys:
            self.page.keyboard.press(key)

    def pixels(self, canvas) -> list:
        return canvas.evaluate("(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]")


@pytest.fixture(scope="module")
def open_notebook(lab, browser):
    """Opens notebooks, each in a page of its own: open_notebook(path_or_cells, width=1280, height=900).

    They stay open until the last test of the file, so that several tests may share one.
    """
    opened = []

    def opener(source: str | Path | Sequence[str], *, width: int = 1280, height: int = 900) -> Notebook:
        name = f"{len(opened)}_{secrets.token_hex(4)}.ipynb"
        copy = lab.notebooks / name
        if isinstance(source, str | Path):
            shutil.copy(source, copy)
        else:
            cells = [nbformat.v4.new_code_cell(text) for text in source]
            for number, cell in enumerate(cells):
                cell.id = f"cell-{number}"
            python = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": python}), copy)
        context = browser.new_context(viewport={"width": width, "height": height})
        page = context.new_page()
        asked, thrown = [], []
        context.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: thrown.append(str(error.stack or error)))
        page.goto(f"{lab.address}/lab/tree/{name}?reset&token={lab.token}")
        notebook = Notebook(page)
        opened.append((context, notebook, asked, thrown))
        notebook.wait_for_kernel()
        return notebook

    yield opener
    for context, notebook, asked, thrown in opened:
        notebook.page.evaluate("() => window.jupyterapp.shell.currentWidget?.sessionContext.shutdown()")
        context.close()
        outside = [url for url in asked if url.split(":")[0] not in ("blob", "data") and lab.address not in url]
        assert not outside, f"the page asked for {outside}"
        ours = [error for error in thrown if "blob:" in error]  # widgets' scripts; JupyterLab's own are its affair
        assert not ours, f"scripts of the page threw: {ours}"
