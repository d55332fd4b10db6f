// Cosines of regions: rows and columns are clusters, each with its colour beside it. A click or an arrow key picks a cell.
//
// It needs of its model: get, set, on, save_changes. Looks are those of matrix_canvas.css.
const [WIDTH, HEIGHT] = [340, 372];
const AREA = { left: 56, top: 54, side: 278, strip: 7 }; // of the cells; width of the clusters' colours beside them

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
const short = (value) => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2).replace("-", "−");

/** A picture of codes in the palette's colours, one pixel each. */
function picture(codes, palette, columns, place) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, codes.length / columns];
  const data = new ImageData(columns, canvas.height);
  codes.forEach((code, k) => data.data.set([...palette.subarray(3 * code, 3 * code + 3), 255], 4 * k));
  canvas.getContext("2d").putImageData(data, 0, 0);
  return make("image", { ...place, href: canvas.toDataURL(), preserveAspectRatio: "none", class: "mc-cells" });
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
  let cosines, clusters, unit, mark, hover;

  function build() {
    cosines = new Float32Array(bytesOf(model.get("cosine_bytes")).buffer);
    clusters = Math.round(Math.sqrt(cosines.length));
    unit = AREA.side / clusters;
    const palette = bytesOf(model.get("palette"));
    const size = { width: unit, height: unit };
    const frame = (name) => make("g", { class: name }, make("rect", { ...size, class: "mc-edge" }), make("rect", size));
    [hover, mark] = ["mc-hover", "mc-mark"].map(frame);
    const place = { x: AREA.left, y: AREA.top, width: AREA.side, height: AREA.side };
    const cells = picture(bytesOf(model.get("code_bytes")), palette, clusters, place);
    svg.replaceChildren(cells, dots(), ...axes(), scale(palette), hover, mark);
    const what = `${clusters} clusters. ${model.get("names").join(" against ")}`;
    root.setAttribute("aria-label", `Cosines of ${what}. Arrow keys move to a cell, Escape leaves it.`);
    follow();
  }

  /** A dot on the nearest column of each row. */
  function dots() {
    const group = make("g", { class: "rm-nearest", fill: "#ffffff", stroke: "#000000", "stroke-width": 0.8 });
    const r = Math.min(Math.max(0.2 * unit, 1.7), 4);
    model.get("nearest").forEach((j, i) => {
      if (j >= 0) group.append(make("circle", { r, cx: AREA.left + (j + 0.5) * unit, cy: AREA.top + (i + 0.5) * unit }));
    });
    return group;
  }

  /** Names, numbers (of many every fifth) and colours of the clusters. */
  function axes() {
    const every = clusters <= 16 ? 1 : 5;
    const write = (x, y, text, look) => make("text", { x, y, "text-anchor": "middle", ...look }, String(text));
    const { left, top, side, strip } = AREA;
    const [[rows, columns], middle] = [model.get("names"), top + side / 2];
    const parts = [write(left + side / 2, 14, columns, { class: "mc-name" })];
    parts.push(write(14, middle, rows, { class: "mc-name", transform: `rotate(-90 14 ${middle})` }));
    model.get("colours").forEach((fill, k) => {
      const [x, y] = [left + k * unit, top + k * unit];
      parts.push(make("rect", { fill, x, y: top - strip - 2, width: unit, height: strip }));
      parts.push(make("rect", { fill, x: left - strip - 2, y, width: strip, height: unit }));
      if (k % every) return;
      parts.push(write(left - strip - 6, y + unit / 2 + 4, k, { "text-anchor": "end" }));
      parts.push(write(x + unit / 2, top - strip - 7, k));
    });
    return parts;
  }

  function scale(palette) {
    const [x, y, width] = [AREA.left + 46, AREA.top + AREA.side + 14, 100];
    const strip = picture(Uint8Array.from({ length: 256 }, (_, k) => k), palette, 256, { x, y, width, height: 8 });
    const group = make("g", {}, strip, make("text", { x: x - 10, y: y + 8, "text-anchor": "end" }, "cosine"));
    for (const value of [-1, 0, 1]) {
      const place = { x: x + (width * (value + 1)) / 2, y: y + 22, "text-anchor": "middle" };
      group.append(make("text", place, String(value).replace("-", "−")));
    }
    group.append(make("text", { x: x + width + 14, y: y + 8 }, "○ nearest in the row"));
    return group;
  }

  function follow() {
    const cell = model.get("cell");
    for (const [frame, place] of [[mark, cell], [hover, hovered]]) {
      frame.style.display = place.length ? "" : "none";
      frame.setAttribute("transform", `translate(${AREA.left + place[1] * unit || 0} ${AREA.top + place[0] * unit || 0})`);
    }
    const [i, j] = hovered.length ? hovered : cell;
    words.textContent = i === undefined ? "Click a cell, or move with the arrow keys." : `row ${i}, column ${j}: cosine ${short(cosines[i * clusters + j])}`;
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
  for (const name of ["cosine_bytes", "names"]) model.on(`change:${name}`, () => queueMicrotask(() => !ended && build()));
  model.on("change:cell", () => !ended && follow());
  build();
  return () => {
    ended = true;
    root.remove();
  };
}

export default { render };
