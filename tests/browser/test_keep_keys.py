"""Drop-downs of ipywidgets in JupyterLab: arrow keys change them, and do not lead to the next cell."""

import pytest

pytestmark = pytest.mark.browser

CELL = """
import ipywidgets
from medssl_nb.widgets import KeepKeys
choice = ipywidgets.Dropdown(options=["a", "b", "c"], description="choice")
ipywidgets.VBox([choice, KeepKeys()])
"""


def test_arrow_keys_stay_with_the_drop_down(open_notebook):
    notebook = open_notebook([CELL, "1 + 1"])
    notebook.run_all()
    area = notebook.output(0)
    notebook.page.wait_for_selector("select[data-lm-suppress-shortcuts=true]")
    notebook.press(area, "choice", "ArrowDown")
    notebook.until_value("choice.value", "b")
    notebook.press(area, "choice", "ArrowDown")
    notebook.until_value("choice.value", "c")
