// The scatter of patches: a point for each patch in the plane of two features. A click or an arrow key chooses one.
//
// It needs of its model: get, set, on, save_changes. Points of one cluster are one path (dots are the round ends of
// lines without length), so that ten thousand patches cost a few elements.

const [WIDTH, HEIGHT] = [400, 350];
const FRAME = { left: 52, right: 388, top: 12, bottom: 302 };
const NEAR = 14; // CSS pixels from the pointer to a point
const NOT_SHOWN = 255;

const short = (value) =>
  String(Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3))).replace("-", "−");

/** Round numbers from low to high, about five. */
function ticks(low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 4));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => (high - low) / size <= 6);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, k) => (first + k) * step);
}

/** From values to pixels: a little room around the outermost points. */
function scale(values, from, to) {
  let [low, high] = [Infinity, -Infinity];
  for (const v of values) [low, high] = [Math.min(low, v), Math.max(high, v)];
  const room = low < high ? 0.05 * (high - low) : 0.5;
  if (low > high) [low, high] = [0, 1];
  [low, high] = [low - room, high + room];
  return { low, high, at: (value) => from + ((value - low) / (high - low)) * (to - from) };
}

function render({ model, el }) {
  const root = document.createElement("div");
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}` });
  const words = document.createElement("div");
  root.className = "patch-scatter";
  root.tabIndex = 0;
  root.setAttribute("role", "application");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys
  words.className = "ps-words";
  words.setAttribute("aria-live", "polite");
  root.append(svg, words);
  el.append(root);

  let ended = false;
  let hovered = -1;
  let points, labels, rings, clusters, names, places, shown, mark, hover;

  function build() {
    points = new Float32Array(bytesOf(model.get("points_bytes")).buffer);
    [labels, rings] = [bytesOf(model.get("label_bytes")), bytesOf(model.get("ring_bytes"))];
    [clusters, names] = [model.get("clusters"), model.get("names")];
    shown = [...labels.keys()].filter((i) => labels[i] !== NOT_SHOWN);
    const x = scale(shown.map((i) => points[2 * i]), FRAME.left, FRAME.right);
    const y = scale(shown.map((i) => points[2 * i + 1]), FRAME.bottom, FRAME.top);
    places = Array.from(labels, (_, i) => [x.at(points[2 * i]), y.at(points[2 * i + 1])]);
    [mark, hover] = ["ps-mark", "ps-hover"].map((name) => make("circle", { class: name, r: 8 }));
    svg.replaceChildren(axes(x, y), ...clouds(), ringsOf(), ...numbers(x, y), hover, mark);
    root.setAttribute("aria-label", `${shown.length} patches: ${names[1]} against ${names[0]}. Arrow keys choose one.`);
    follow();
  }

  function axes(x, y) {
    const group = make("g", { class: "ps-axes" });
    for (const value of ticks(x.low, x.high)) {
      const at = x.at(value);
      group.append(make("path", { d: `M${at} ${FRAME.top}V${FRAME.bottom}` }));
      group.append(make("text", { x: at, y: FRAME.bottom + 16, "text-anchor": "middle" }, short(value)));
    }
    for (const value of ticks(y.low, y.high)) {
      const at = y.at(value);
      group.append(make("path", { d: `M${FRAME.left} ${at}H${FRAME.right}` }));
      group.append(make("text", { x: FRAME.left - 6, y: at + 4, "text-anchor": "end" }, short(value)));
    }
    const middle = (FRAME.top + FRAME.bottom) / 2;
    const across = { x: (FRAME.left + FRAME.right) / 2, y: HEIGHT - 10, "text-anchor": "middle", class: "ps-name" };
    const along = { x: 12, y: middle, transform: `rotate(-90 12 ${middle})`, "text-anchor": "middle", class: "ps-name" };
    group.append(make("text", across, names[0]), make("text", along, names[1]));
    return group;
  }

  /** Two paths a cluster, an edge and the colour on it; small clusters lie on top. */
  function clouds() {
    const dots = clusters.map(() => []);
    for (const i of shown) dots[labels[i]].push(`M${places[i][0].toFixed(1)} ${places[i][1].toFixed(1)}h0`);
    const order = [...dots.keys()].sort((a, b) => dots[b].length - dots[a].length);
    return order.flatMap((k) => {
      const look = { d: dots[k].join(""), "stroke-linecap": clusters[k].square ? "square" : "round" };
      return [make("path", { ...look, class: "ps-edge" }), make("path", { ...look, class: "ps-dot", stroke: clusters[k].colour })];
    });
  }

  function ringsOf() {
    const circle = ([x, y]) => `M${(x - 7).toFixed(1)} ${y.toFixed(1)}a7 7 0 1 0 14 0a7 7 0 1 0 -14 0`;
    return make("path", { class: "ps-ring", d: shown.filter((i) => rings[i]).map((i) => circle(places[i])).join("") });
  }

  function numbers(x, y) {
    const known = clusters.map(({ centre }, k) => [centre, k]).filter(([centre]) => centre);
    return known.map(([[cx, cy], k]) => make("text", { class: "ps-number", x: x.at(cx), y: y.at(cy) + 6 }, String(k)));
  }

  /** Marks and words follow what is chosen and what the pointer is on. */
  function follow() {
    const selected = model.get("selected");
    for (const [circle, i] of [[mark, selected], [hover, hovered]]) {
      const seen = i >= 0 && labels[i] !== NOT_SHOWN;
      circle.style.display = seen ? "" : "none";
      if (seen) circle.setAttribute("cx", places[i][0]), circle.setAttribute("cy", places[i][1]);
    }
    words.textContent = about(hovered >= 0 ? hovered : selected);
  }

  function about(i) {
    if (i < 0) return "Click a point, or choose with the arrow keys.";
    if (labels[i] === NOT_SHOWN) return `patch ${i}: not clustered`;
    const values = names.map((name, k) => `${name} ${short(points[2 * i + k])}`).join(", ");
    return `patch ${i}: ${clusters[labels[i]].name}${rings[i] ? ", truly lesion" : ""} · ${values}`;
  }

  function select(i) {
    model.set("selected", i);
    model.save_changes();
    follow();
  }

  /** The shown point nearest to the pointer, -1 if none is near. */
  function under(event) {
    const frame = svg.getBoundingClientRect();
    const pixel = frame.width / WIDTH;
    const [x, y] = [(event.clientX - frame.left) / pixel, (event.clientY - frame.top) / pixel];
    let [best, least] = [-1, NEAR / pixel];
    for (const i of shown) {
      const distance = Math.hypot(places[i][0] - x, places[i][1] - y);
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  /** The next point along x (left, right) or y (up, down); from none, the first. */
  function step(axis, by) {
    const order = [...shown].sort((a, b) => points[2 * a + axis] - points[2 * b + axis] || a - b);
    const here = order.indexOf(model.get("selected"));
    if (order.length > 0) select(order[here < 0 ? 0 : Math.min(Math.max(here + by, 0), order.length - 1)]);
  }

  const keys = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, -1], ArrowUp: [1, 1] };
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (keys[event.key]) step(...keys[event.key]);
    else if (event.key === "Escape") select(-1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  svg.addEventListener("click", (event) => {
    const i = under(event);
    if (i >= 0) select(i);
  });
  const point = (i) => i !== hovered && ((hovered = i), (svg.style.cursor = i < 0 ? "" : "pointer"), follow());
  svg.addEventListener("pointermove", (event) => point(under(event)));
  svg.addEventListener("pointerleave", () => point(-1));
  for (const name of ["points_bytes", "clusters", "names"]) {
    model.on(`change:${name}`, () => queueMicrotask(() => !ended && build()));
  }
  model.on("change:selected", () => !ended && follow());
  build();
  return () => {
    ended = true;
    root.remove();
  };
}

export default { render };
