// Distributions of samples: a row of colours for each, their mean below, the chosen one as bars above.
//
// A click or an arrow key chooses a sample. It needs of its model: get, set, on, save_changes.
const [WIDTH, LEFT, WIDE] = [520, 48, 462];
const [BARS, ROWS, MEAN] = [{ top: 6, high: 84 }, 102, 12]; // bars above; first row; height of the mean
const TICKS = [0, 0.05, 0.25, 1];

const percent = (share) => `${Number((100 * share).toPrecision(share < 0.1 ? 2 : 3))} %`;
const up = (share) => BARS.top + BARS.high * (1 - Math.sqrt(share)); // as the colours: the root runs evenly

/** Numbers below `count` that are written, nine at most. */
function some(count) {
  const every = 2 ** Math.max(0, Math.ceil(Math.log2(count / 9)));
  return Array.from({ length: Math.ceil(count / every) }, (_, k) => k * every);
}

function render({ model, el }) {
  const [key, words, svg] = [html("div", "dm-key"), html("div", "dm-words"), make("svg")];
  words.setAttribute("aria-live", "polite");
  const root = html("div", "distribution-map", key, svg, words);
  root.tabIndex = 0;
  root.setAttribute("role", "application");
  el.append(root);
  // JupyterLab takes arrow keys as "next cell", from ipywidgets' drop-downs too, unless told not to.
  const around = () => (el.closest(".jp-OutputArea-output") ?? el).querySelectorAll("select");
  const watcher = new ResizeObserver(() => [root, ...around()].forEach((part) => (part.dataset.lmSuppressShortcuts = "true")));
  watcher.observe(root); // calls once all is in the page
  const [palette, colours] = [bytesOf(model.get("palette")), model.get("colours")];
  const named = html("b", "");
  const entry = (name, colour, shape) => html("span", shape, Object.assign(html("i", ""), { style: `--colour:${colour}` }), name);
  key.append(named, entry("teacher", colours[0], "dm-bar"), entry("student", colours[1], "dm-stroke"));

  let [ended, hovered, outputs, samples, high, teacher, student, cells, mean, frame] = [false, []];
  const image = (y, height) => make("image", { x: LEFT, y, width: WIDE, height, preserveAspectRatio: "none", class: "dm-cells" });
  const [bars, line] = [make("path", { fill: colours[0] }), make("path", { class: "dm-line", stroke: colours[1] })];

  /** All that depends on how many there are. */
  function build() {
    [cells, mean] = [image(ROWS, high), image(ROWS + high + 5, MEAN)];
    const box = { x: LEFT, width: WIDE, height: high / samples };
    frame = make("g", { class: "dm-frame" }, make("rect", { ...box, class: "dm-edge" }), make("rect", box));
    const text = (x, y, said, look) => make("text", { x, y, ...look }, String(said));
    const [right, middle] = [{ "text-anchor": "end" }, { "text-anchor": "middle" }];
    const rows = some(samples).map((k) => text(LEFT - 6, ROWS + ((k + 0.5) * high) / samples + 4, k, right));
    const columns = some(outputs).map((k) => text(LEFT + ((k + 0.5) * WIDE) / outputs, ROWS + high + MEAN + 19, k, middle));
    const lines = (share) => [make("path", { class: "dm-grid", d: `M${LEFT} ${up(share)}h${WIDE}` }), text(LEFT - 6, up(share) + 4, percent(share), right)];
    const turned = { ...middle, class: "dm-name", transform: `rotate(-90 12 ${ROWS + high / 2})` };
    const names = [text(12, ROWS + high / 2, "sample", turned), text(LEFT - 6, ROWS + high + 15, "mean", right)];
    names.push(text(LEFT + WIDE / 2, ROWS + high + MEAN + 36, "output", { ...middle, class: "dm-name" }));
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${ROWS + high + MEAN + 42}`);
    svg.replaceChildren(...TICKS.flatMap(lines), bars, line, cells, mean, ...rows, ...columns, ...names, frame);
    root.setAttribute("aria-label", `Distributions of ${samples} samples over ${outputs} outputs. Up and down choose a sample.`);
  }

  /** Other distributions. */
  function load() {
    const before = [outputs, samples].join();
    outputs = model.get("outputs");
    [teacher, student] = ["teacher_bytes", "student_bytes"].map((name) => new Float32Array(bytesOf(model.get(name)).buffer));
    samples = teacher.length / outputs;
    high = Math.min(Math.max(9 * samples, 70), 290);
    if (before !== [outputs, samples].join()) build();
    const codes = bytesOf(model.get("code_bytes"));
    const columns = codes.length / (samples + 1); // the last row is the mean
    cells.setAttribute("href", painted(codes.subarray(0, samples * columns), columns, palette));
    mean.setAttribute("href", painted(codes.subarray(samples * columns), columns, palette));
    follow();
  }

  /** Bars, frame and words go to the chosen sample. */
  function follow() {
    const chosen = model.get("sample");
    const of = (shares) => shares.subarray(chosen * outputs, (chosen + 1) * outputs);
    const wide = WIDE / outputs;
    bars.setAttribute("d", [...of(teacher)].map((p, j) => `M${LEFT + j * wide} ${up(0)}V${up(p)}h${wide}V${up(0)}z`).join(""));
    line.setAttribute("d", `M${LEFT} ${up(0)}` + [...of(student)].map((p) => `V${up(p)}h${wide}`).join(""));
    frame.setAttribute("transform", `translate(0 ${ROWS + (chosen * high) / samples})`);
    named.textContent = `sample ${chosen}`;
    const best = of(teacher).indexOf(Math.max(...of(teacher)));
    const [i, j] = hovered.length ? hovered : [chosen, best];
    const told = [teacher, student].map((shares) => percent(shares[i * outputs + j]));
    words.textContent = `sample ${i}${hovered.length ? "," : ": most for"} output ${j}: teacher ${told[0]}, student ${told[1]}`;
  }

  function choose(sample) {
    const k = Math.min(Math.max(sample, 0), samples - 1);
    if (k !== model.get("sample")) {
      model.set("sample", k);
      model.save_changes();
    }
    follow();
  }

  /** [sample, output] under the pointer, [] outside. */
  function under(event) {
    const box = svg.getBoundingClientRect();
    const pixel = box.width / WIDTH;
    const i = Math.floor((((event.clientY - box.top) / pixel - ROWS) / high) * samples);
    const j = Math.floor((((event.clientX - box.left) / pixel - LEFT) / WIDE) * outputs);
    return i >= 0 && i < samples && j >= 0 && j < outputs ? [i, j] : [];
  }

  const point = (cell) => String(cell) !== String(hovered) && ((hovered = cell), follow());
  svg.addEventListener("pointermove", (event) => point(under(event)));
  svg.addEventListener("pointerleave", () => point([]));
  svg.addEventListener("click", (event) => under(event).length && choose(under(event)[0]));
  const moves = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  root.addEventListener("keydown", (event) => {
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
    choose(model.get("sample") + moves[event.key]);
    event.preventDefault();
    event.stopPropagation();
  });
  for (const name of ["teacher", "student"]) model.on(`change:${name}_bytes`, () => queueMicrotask(() => !ended && load()));
  model.on("change:sample", () => !ended && follow());
  load();
  return () => {
    ended = true;
    watcher.disconnect();
    root.remove();
  };
}

export default { render };
