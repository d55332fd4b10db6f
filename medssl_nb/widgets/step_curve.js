// Lines over the steps of a training and a mark at one of them, which a click, a drag or an arrow key moves.
//
// It needs of its model: get, set, on, save_changes.
const [WIDTH, HEIGHT] = [340, 260];
const FRAME = { left: 46, right: 334, top: 10, bottom: 216 };

const short = (value) => String(Number(value.toPrecision(3))).replace("-", "−");
const DASH = { true: "7 4", false: "" };

/** Round numbers from low to high, about five. */
function ticks(low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 4 || 1));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => (high - low) / size <= 6);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, k) => Number(((first + k) * step).toPrecision(9)));
}

function render({ model, el }) {
  const [key, words] = [html("div", "st-key"), html("div", "st-words")];
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}` });
  const root = html("div", "step-curve", key, svg, words);
  root.tabIndex = 0;
  root.setAttribute("role", "slider");
  root.setAttribute("aria-label", "Step of training. Arrow keys move it.");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys
  el.append(root);

  let [ended, held, steps, plot, now, marks] = [false, false];

  const across = (step) => {
    const [first, last] = [steps[0], steps.at(-1)];
    const share = first < last ? (step - first) / (last - first) : 0.5;
    return FRAME.left + 8 + share * (FRAME.right - FRAME.left - 16);
  };
  const up = (value) => FRAME.bottom - (value / plot.top) * (FRAME.bottom - FRAME.top);
  function build() {
    [steps, plot] = [model.get("steps"), model.get("plot")];
    now = make("path", { class: "st-now" });
    marks = plot.lines.map(({ colour }) => make("circle", { fill: colour, r: 5.5 }));
    const line = (name, value) => make("path", { class: name, d: `M${FRAME.left} ${up(value)}H${FRAME.right}` });
    const level = plot.level === null ? [] : [line("st-level", plot.level)]; // none or one
    svg.replaceChildren(axes(), ...level, now, ...plot.lines.flatMap(curve), ...marks);
    const sample = (look) => make("svg", { viewBox: "0 0 26 8" }, make("path", { d: "M0 4H26", ...look }));
    const entry = (name, look) => html("span", "", sample(look), name);
    const named = ({ name, colour, dashed }) => entry(name, { stroke: colour, "stroke-dasharray": DASH[dashed] });
    key.replaceChildren(...plot.lines.map(named), ...level.map(() => entry(plot.level_name, { class: "st-level" })));
    follow();
  }

  function axes() {
    const group = make("g");
    const write = (x, y, text, look) => group.append(make("text", { x, y, "text-anchor": "middle", ...look }, text));
    for (const value of ticks(0, plot.top)) {
      group.append(make("path", { class: "st-grid", d: `M${FRAME.left} ${up(value)}H${FRAME.right}` }));
      write(FRAME.left - 6, up(value) + 4, short(value), { "text-anchor": "end" });
    }
    for (const step of ticks(steps[0], steps.at(-1) + (steps.length < 2))) {
      if (step <= steps.at(-1)) write(across(step), FRAME.bottom + 17, String(step));
    }
    const middle = (FRAME.top + FRAME.bottom) / 2;
    write((FRAME.left + FRAME.right) / 2, HEIGHT - 8, "step of training", { class: "st-name" });
    write(12, middle, plot.what, { class: "st-name", transform: `rotate(-90 12 ${middle})` });
    return group;
  }

  /** The line with gaps where nothing was measured, and a dot at each step while they are few. */
  function curve({ values, colour, dashed }) {
    const place = (value, k) => `${across(steps[k]).toFixed(1)} ${up(value).toFixed(1)}`;
    const known = (k) => (values[k] ?? null) !== null;
    const d = values.map((value, k) => (known(k) ? (known(k - 1) ? "L" : "M") + place(value, k) : "")).join("");
    const few = [...steps.keys()].filter((k) => known(k) && steps.length <= 60);
    const dot = (k) => make("circle", { cx: across(steps[k]), cy: up(values[k]), r: 2.6 });
    const dots = make("g", { class: "st-dots", fill: colour }, ...few.map(dot));
    return [make("path", { class: "st-line", d, stroke: colour, "stroke-dasharray": DASH[dashed] }), dots];
  }

  /** The mark and the words go to the chosen step. */
  function follow() {
    const k = model.get("index");
    const x = across(steps[k]);
    now.setAttribute("d", `M${x} ${FRAME.top}V${FRAME.bottom}`);
    const said = [`step ${steps[k]}`];
    plot.lines.forEach(({ name, values }, n) => {
      marks[n].style.display = values[k] === null ? "none" : "";
      if (values[k] === null) return;
      marks[n].setAttribute("cx", x);
      marks[n].setAttribute("cy", up(values[k]));
      said.push(`${name} ${short(values[k])}`);
    });
    words.textContent = said.join(" · ");
    const value = { min: steps[0], max: steps.at(-1), now: steps[k], text: words.textContent };
    for (const [name, said] of Object.entries(value)) root.setAttribute(`aria-value${name}`, said);
  }

  function choose(index) {
    const k = Math.min(Math.max(index, 0), steps.length - 1);
    if (k === model.get("index")) return;
    model.set("index", k);
    model.save_changes();
    follow();
  }

  /** The step nearest to the pointer. */
  function under(event) {
    const frame = svg.getBoundingClientRect();
    const x = ((event.clientX - frame.left) / frame.width) * WIDTH;
    const away = steps.map((step) => Math.abs(across(step) - x));
    return away.indexOf(Math.min(...away));
  }

  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held = true;
    svg.setPointerCapture(event.pointerId);
    choose(under(event));
  });
  svg.addEventListener("pointermove", (event) => held && choose(under(event)));
  for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, () => (held = false));
  const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -Infinity, End: Infinity };
  root.addEventListener("keydown", (event) => {
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
    choose(model.get("index") + moves[event.key]);
    event.preventDefault();
    event.stopPropagation();
  });
  for (const name of ["steps", "plot"]) model.on(`change:${name}`, () => queueMicrotask(() => !ended && build()));
  model.on("change:index", () => !ended && model.get("index") < steps.length && follow()); // else steps are to come
  build();
  return () => {
    ended = true;
    root.remove();
  };
}

export default { render };
