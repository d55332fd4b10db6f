// A page of tiles as Python writes it. Controls beside it keep their arrow keys.

function render({ model, el }) {
  const page = document.createElement("div");
  const show = () => {
    page.innerHTML = model.get("value");
  };
  const watcher = new ResizeObserver(() => keepArrows(el)); // calls once all is in the page
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
