"""The lessons as a reader meets them: opened in JupyterLab, run from top to bottom, explorers alive."""

from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("lesson", ["00_start_here.ipynb", "10_foundations/11_volumes_and_views.ipynb"])
def test_a_lesson_runs_and_its_explorer_reports_back(open_notebook, lesson):
    notebook = open_notebook(NOTEBOOKS / lesson, width=1400, height=1000)
    notebook.run_all()
    canvas = notebook.page.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    before = notebook.python("print(explorer.crosshair, explorer.clicks)")
    canvas.click(position={"x": 60, "y": 80})
    notebook.page.wait_for_timeout(500)
    after = notebook.python("print(explorer.crosshair, explorer.clicks)")
    assert after != before
    assert (
        notebook.python("print(explorer.value_at_crosshair.intensity == float(image[0][tuple(explorer.crosshair)]))")
        == "True"
    )
