"""A browser for pages opened as files, found as tests/browser finds it, in a thread of its own.

Playwright allows one browser for each thread, and the tests of the notebooks have theirs in the main one.
"""

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SECONDS = 1000  # Playwright counts milliseconds
FLAGS = ["--disable-gpu", "--disable-background-networking", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND"]


@pytest.fixture
def in_browser():
    """in_browser(look) gives look(open_page); fails if a page asks for anything else than files or throws."""
    return _in_browser


def _in_browser(look):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_looking, look).result()


def _looking(look):
    from playwright.sync_api import sync_playwright

    shared = _fixtures_of_notebooks()
    path = shared.find_browser()
    if path is None and (os.environ.get("CI") == "true" or os.environ.get("MEDSSL_REQUIRE_BROWSER")):
        pytest.fail(shared.HOW_TO_GET_ONE)
    if path is None:
        pytest.skip(shared.HOW_TO_GET_ONE)
    asked, wrong = [], []
    flags = [*FLAGS, "--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)

        def open_page(file: Path, *, query: str = "", width: int = 1280, colour_scheme: str = "light"):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colour_scheme)
            page.set_default_timeout(90 * SECONDS)
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
            page.goto(file.as_uri() + query)
            return page

        result = look(open_page)
        browser.close()
    assert [url for url in asked if url.split(":")[0] not in ("file", "blob", "data")] == []
    assert wrong == []
    return result


def _fixtures_of_notebooks():
    place = Path(__file__).parents[1] / "browser" / "conftest.py"
    spec = importlib.util.spec_from_file_location("browser_of_notebooks", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
