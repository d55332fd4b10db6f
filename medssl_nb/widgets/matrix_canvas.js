// A joint matrix with its marginals: rows are clusters of view A, columns of view B. A click or an arrow key picks a cell.
const [WIDTH, HEIGHT] = [440, 450];
const AREA = { left: 44, top: 68, side: 310, bar: 46 }; // of the cells; length of the longest bar

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function make(tag, attributes = {}, ...children) {
  const element = set(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes);
  element.append(...children);
  return element;
}

const bytesOf = (view) => new Uint8Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const short = (value) => (value === 0 ? "0" : value < 1e-4 ? value.toExponential(1) : String(Number(value.toPrecision(3))));

/** A picture of codes in the palette's colours, one pixel each. */
function picture(codes, palette, columns, place) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, codes.length / columns];
  const data = new ImageData(columns, canvas.height);
  codes.forEach((code, k) => data.data.set([...palette.subarray(3 * code, 3 * code + 3), 255], 4 * k));
  canvas.getContext("2d").putImageData(data, 0, 0);
  return make("image", { ...place, href: canvas.toDataURL(), preserveAspectRatio: "none" });
}

function render({ model, el }) {
  const [root, words] = [document.createElement("div"), document.createElement("div")];
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}` });
  set(root, { class: "matrix-canvas", tabindex: 0, role: "application" });
  set(words, { class: "mc-words", "aria-live": "polite" });
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys
  root.append(svg, words);
  el.append(root);

  let [ended, hovered] = [false, []];
  let joint, clusters, unit, mark, hover;

  function build() {
    joint = new Float32Array(bytesOf(model.get("joint_bytes")).buffer);
    clusters = Math.round(Math.sqrt(joint.length));
    unit = AREA.side / clusters;
    const palette = bytesOf(model.get("palette"));
    const place = { x: AREA.left, y: AREA.top, width: AREA.side, height: AREA.side, class: "mc-cells" };
    const size = { width: unit, height: unit };
    const frame = (name) => make("g", { class: name }, make("rect", { ...size, class: "mc-edge" }), make("rect", size));
    [hover, mark] = ["mc-hover", "mc-mark"].map(frame);
    svg.replaceChildren(picture(bytesOf(model.get("code_bytes")), palette, clusters, place), usage(), ...axes(), scale(palette), hover, mark);
    root.setAttribute("aria-label", `Joint matrix of ${clusters} clusters. Arrow keys move to a cell, Escape leaves it.`);
    follow();
  }

  /** Bars of row sums at the right and column sums above; a dashed line where all clusters would be used alike. */
  function usage() {
    const sums = [0, 1].map(() => new Float64Array(clusters));
    joint.forEach((share, k) => ((sums[0][Math.floor(k / clusters)] += share), (sums[1][k % clusters] += share)));
    const most = Math.max(...sums[0], ...sums[1], 1 / clusters);
    const long = (share) => (AREA.bar * share) / most;
    const [right, low, even, wide] = [AREA.left + AREA.side + 6, AREA.top - 6, long(1 / clusters), 0.8 * unit];
    const [inA, inB] = model.get("usage_colours");
    const start = (k) => (k + 0.1) * unit;
    return make(
      "g",
      { class: "mc-usage" },
      ...[...sums[0]].map((s, i) => make("rect", { x: right, y: AREA.top + start(i), width: long(s), height: wide, fill: inA })),
      ...[...sums[1]].map((s, j) => make("rect", { x: AREA.left + start(j), y: low - long(s), width: wide, height: long(s), fill: inB })),
      make("path", { d: `M${right + even} ${AREA.top}v${AREA.side}M${AREA.left} ${low - even}h${AREA.side}` }),
      make("text", { x: right, y: AREA.top - 8 }, "used in A"),
      make("text", { x: AREA.left, y: 12 }, `used in B · longest bar ${Number((100 * most).toPrecision(2))} % · dashed: all alike`),
    );
  }

  function axes() {
    const every = clusters <= 16 ? 1 : 5;
    const write = (x, y, text, look) => make("text", { x, y, "text-anchor": "middle", ...look }, String(text));
    const [x, y, low] = [AREA.left + AREA.side / 2, AREA.top + AREA.side / 2, AREA.top + AREA.side];
    const texts = [write(x, low + 31, "cluster in view B", { class: "mc-name" })];
    texts.push(write(14, y, "cluster in view A", { class: "mc-name", transform: `rotate(-90 14 ${y})` }));
    for (let k = 0, at = unit / 2; k < clusters; k += every, at += every * unit) {
      texts.push(write(AREA.left - 5, AREA.top + at + 4, k, { "text-anchor": "end" }), write(AREA.left + at, low + 14, k));
    }
    return texts;
  }

  /** The colours and their shares: the root of the share runs evenly. */
  function scale(palette) {
    const [x, y, width] = [AREA.left + 95, HEIGHT - 26, 160];
    const strip = picture(Uint8Array.from({ length: 256 }, (_, k) => k), palette, 256, { x, y, width, height: 8, class: "mc-cells" });
    const group = make("g", {}, strip, make("text", { x: x - 8, y: y + 8, "text-anchor": "end" }, "share of voxels"));
    for (const part of [0, 0.5, 1]) {
      const place = { x: x + part * width, y: y + 21, "text-anchor": "middle" };
      group.append(make("text", place, short(part * part * model.get("top"))));
    }
    return group;
  }

  function follow() {
    const cell = model.get("cell");
    for (const [frame, place] of [[mark, cell], [hover, hovered]]) {
      frame.style.display = place.length ? "" : "none";
      frame.setAttribute("transform", `translate(${AREA.left + place[1] * unit || 0} ${AREA.top + place[0] * unit || 0})`);
    }
    const [i, j] = hovered.length ? hovered : cell;
    const none = "Click a cell, or move with the arrow keys.";
    words.textContent = i === undefined ? none : `A ${i}, B ${j}: ${short(joint[i * clusters + j])}`;
  }

  function choose(cell) {
    model.set("cell", cell);
    model.save_changes();
    follow();
  }

  /** The cell under the pointer, [] outside. */
  function under(event) {
    const frame = svg.getBoundingClientRect();
    const pixel = frame.width / WIDTH;
    const j = Math.floor(((event.clientX - frame.left) / pixel - AREA.left) / unit);
    const i = Math.floor(((event.clientY - frame.top) / pixel - AREA.top) / unit);
    return Math.min(i, j) >= 0 && Math.max(i, j) < clusters ? [i, j] : [];
  }

  const keys = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [move, cell] = [keys[event.key], model.get("cell")];
    const inside = (k) => Math.min(Math.max(k, 0), clusters - 1);
    if (move) choose(cell.length ? cell.map((k, axis) => inside(k + move[axis])) : [0, 0]);
    else if (event.key === "Escape") choose([]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  svg.addEventListener("click", (event) => under(event).length && choose(under(event)));
  const point = (cell) => String(cell) !== String(hovered) && ((hovered = cell), follow());
  svg.addEventListener("pointermove", (event) => point(under(event)));
  svg.addEventListener("pointerleave", () => point([]));
  model.on("change:joint_bytes", () => queueMicrotask(() => !ended && build()));
  model.on("change:cell", () => !ended && follow());
  build();
  return () => {
    ended = true;
    root.remove();
  };
}

export default { render };
