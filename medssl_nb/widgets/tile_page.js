// A page of tiles as Python writes it. Controls beside it keep their arrow keys.

function render({ model, el }) {
  const page = document.createElement("div");
  // JupyterLab takes arrow keys as "next cell" from the drop-downs of ipywidgets, unless told not to.
  const keepArrows = () => {
    const output = el.closest(".jp-OutputArea-output") ?? el;
    for (const select of output.querySelectorAll("select")) select.dataset.lmSuppressShortcuts = "true";
  };
  const show = () => {
    page.innerHTML = model.get("value");
  };
  const watcher = new ResizeObserver(keepArrows); // calls once all is in the page
  watcher.observe(page);
  model.on("change:value", show);
  el.append(page);
  show();
  return () => {
    watcher.disconnect();
    model.off("change:value", show);
    page.remove();
  };
}

export default { render };
