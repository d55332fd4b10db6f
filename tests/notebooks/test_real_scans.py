"""Lesson 11 keeps its word: with two lines changed, every cell works on a real CT."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from medssl_nb.data.locations import find_dataset

LESSON = Path(__file__).parents[2] / "notebooks" / "10_foundations" / "11_volumes_and_views.ipynb"


@pytest.mark.skipif(find_dataset("torso") is None, reason="the torso scans are not in MEDSSL_DATA or the cache")
def test_lesson_11_runs_on_a_real_ct_and_prints_sensible_numbers():
    notebook = nbformat.read(LESSON, 4)
    swaps = {
        'load_cohort("phantom")\ncase': 'load_cohort("torso")\ncase',
        '"phantom_test_003"]\nimage': '"ct_abdomen_01"]\nimage',
    }
    chosen = next(cell for cell in notebook.cells if all(old in cell.source for old in swaps))
    for old, new in swaps.items():
        chosen.source = chosen.source.replace(old, new)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    printed = "\n".join(
        out.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for out in cell.outputs
        if out.output_type == "stream"
    )
    assert "spacing [3. 3. 3.] mm; one voxel 27.0 mm³" in printed
    liver_ml = int(printed.split("liver: ")[1].split("= ")[1].split(" ml")[0].replace(",", ""))
    assert 700 < liver_ml < 3000
    assert printed.count("cases right.") == 3
