// JupyterLab takes arrow keys as "next cell" from the drop-downs of ipywidgets, unless told not to.

/** Tell it so for every drop-down in the output that `el` lies in. */
function keepArrows(el) {
  const output = el.closest(".jp-OutputArea-output") ?? el;
  for (const select of output.querySelectorAll("select")) select.dataset.lmSuppressShortcuts = "true";
}
