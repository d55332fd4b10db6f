// Bars of how much each cluster is used. A click or an arrow key picks one, with Shift more; Escape picks none.
//
// It needs of its model: get, set, on, save_changes.

function make(tag, className, attributes = {}, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Heights are square roots: beside one cluster of air, organs of 1 % should still be seen. */
const height = (share, upper) => Math.sqrt(Math.min(share / upper, 1));
const percent = (share) => `${Number((100 * share).toPrecision(100 * share < 10 ? 2 : 3))} %`;

function render({ model, el }) {
  const row = make("div", "ub-row", { role: "listbox", "aria-multiselectable": "true", "aria-orientation": "horizontal" });
  const top = make("span", "ub-top");
  const words = make("div", "ub-words");
  const root = make("div", "usage-bars", {}, make("div", "ub-frame", {}, make("div", "ub-scale", {}, top, "0"), row), words);
  el.append(root);

  let ended = false;
  let near = -1; // the bar under the pointer or with the focus
  let bars = [];

  function build() {
    const count = model.get("shares").length;
    bars = model.get("colours").slice(0, count).map((colour, k) => {
      const fill = make("span", "ub-fill");
      fill.style.backgroundColor = colour;
      const bar = make("button", "ub-bar", { type: "button", role: "option" }, make("span", "ub-well", {}, fill), make("span", "ub-id", {}, String(k)));
      bar.tabIndex = k === 0 ? 0 : -1;
      bar.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys
      bar.addEventListener("click", (event) => choose(k, event.shiftKey || event.ctrlKey || event.metaKey));
      bar.addEventListener("focus", () => (stop(k), point(k)));
      bar.addEventListener("blur", () => point(-1));
      bar.addEventListener("pointerenter", () => point(k));
      bar.addEventListener("pointerleave", () => point(-1));
      return Object.assign(bar, { fill });
    });
    const even = make("div", "ub-even", { "aria-hidden": "true" });
    even.style.setProperty("--share", height(1 / count, model.get("upper")));
    row.replaceChildren(even, ...bars);
    row.style.maxWidth = `${Math.min(60 * count, 900)}px`;
    root.classList.toggle("ub-many", count > 20);
    follow();
  }

  /** Heights, marks and words follow the traits. */
  function follow() {
    const [shares, upper, picked] = [model.get("shares"), model.get("upper"), new Set(model.get("picked"))];
    if (shares.length !== bars.length) return build();
    top.textContent = percent(upper);
    row.setAttribute("aria-label", `${model.get("what")} of ${bars.length} clusters. Arrow keys pick one, with Shift more, Escape none.`);
    root.classList.toggle("ub-picking", picked.size > 0);
    bars.forEach((bar, k) => {
      bar.fill.style.height = `${100 * height(shares[k], upper)}%`;
      bar.classList.toggle("ub-unused", shares[k] === 0);
      bar.setAttribute("aria-selected", picked.has(k));
      bar.setAttribute("aria-label", `cluster ${k}: ${percent(shares[k])}`);
    });
    const help = `${model.get("what")} (square-root scale); dotted: all alike, ${percent(1 / bars.length)}`;
    words.textContent = near < 0 ? help : `cluster ${near}: ${percent(shares[near])}, ${model.get("what")}`;
  }

  function point(k) {
    near = k;
    follow();
  }

  /** One stop for the Tab key: the bar last visited. */
  function stop(k) {
    bars.forEach((bar, i) => (bar.tabIndex = i === k ? 0 : -1));
  }

  function pick(ids) {
    model.set("picked", [...ids].sort((a, b) => a - b));
    model.save_changes();
    follow();
  }

  /** This one alone, or none if it was alone; `more`: add it or take it away. */
  function choose(k, more) {
    const picked = new Set(model.get("picked"));
    const there = picked.has(k);
    if (more) return pick(there ? [...picked].filter((i) => i !== k) : [...picked, k]);
    pick(there && picked.size === 1 ? [] : [k]);
  }

  row.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const here = bars.indexOf(document.activeElement);
    const places = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: bars.length - 1 };
    if (event.key === "Escape") pick([]);
    else if (event.key in places) {
      const k = Math.min(Math.max(places[event.key], 0), bars.length - 1);
      bars[k].focus();
      pick(event.shiftKey ? new Set([...model.get("picked"), k]) : [k]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  for (const name of ["colours", "upper"]) model.on(`change:${name}`, () => queueMicrotask(() => !ended && build()));
  for (const name of ["shares", "picked", "what"]) model.on(`change:${name}`, () => !ended && follow());
  build();
  return () => {
    ended = true;
    root.remove();
  };
}

export default { render };
