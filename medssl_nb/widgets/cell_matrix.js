// A square matrix of which a click or an arrow key picks a cell. What stands around the cells is the widget's own, which
// hands it to `cellMatrix`. Looks are those of matrix_canvas.css.
//
// It needs of its model: get, set, on, save_changes.
const CELL_MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

const write = (x, y, text, look) => make("text", { x, y, "text-anchor": "middle", ...look }, String(text));

/** A picture of codes in the palette's colours. */
function picture(codes, columns, palette, place) {
  return make("image", { ...place, class: "mc-cells", href: painted(codes, columns, palette), preserveAspectRatio: "none" });
}

/** All colours of the palette, from left to right. */
function strip(palette, x, y, width) {
  return picture(Uint8Array.from({ length: 256 }, (_, k) => k), 256, palette, { x, y, width, height: 8 });
}

/** Of many clusters every fifth has its number written. */
const numbered = (clusters) => (clusters <= 16 ? 1 : 5);

/**
 * The `render` of a matrix widget.
 *
 * size: width and height of the drawing. area: {left, top, side} of the cells.
 * bytes: trait that holds the values, float32, row by row. redrawn: traits that change what is drawn.
 * around: what is drawn beside and over the cells, of {model, values, clusters, unit, palette}.
 * called: what the matrix is, for screen readers, of the same. said: words of a cell, of row, column and value.
 */
function cellMatrix({ size: [width, height], area, bytes, redrawn, around, called, said }) {
  return ({ model, el }) => {
    const [svg, words] = [make("svg", { viewBox: `0 0 ${width} ${height}` }), html("div", "mc-words")];
    const root = html("div", "matrix-canvas", svg, words);
    root.tabIndex = 0;
    root.setAttribute("role", "application");
    root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys
    words.setAttribute("aria-live", "polite");
    el.append(root);

    let [ended, hovered] = [false, []];
    let values, clusters, unit, mark, hover;

    function build() {
      values = new Float32Array(bytesOf(model.get(bytes)).buffer);
      clusters = Math.round(Math.sqrt(values.length));
      unit = area.side / clusters;
      const palette = bytesOf(model.get("palette"));
      const place = { x: area.left, y: area.top, width: area.side, height: area.side };
      const cells = picture(bytesOf(model.get("code_bytes")), clusters, palette, place);
      const cell = { width: unit, height: unit };
      const frame = (name) => make("g", { class: name }, make("rect", { ...cell, class: "mc-edge" }), make("rect", cell));
      [hover, mark] = ["mc-hover", "mc-mark"].map(frame);
      const shown = { model, values, clusters, unit, palette };
      svg.replaceChildren(cells, ...around(shown), hover, mark);
      root.setAttribute("aria-label", `${called(shown)}. Arrow keys move to a cell, Escape leaves it.`);
      follow();
    }

    function follow() {
      const cell = model.get("cell");
      for (const [frame, place] of [[mark, cell], [hover, hovered]]) {
        frame.style.display = place.length ? "" : "none";
        frame.setAttribute("transform", `translate(${area.left + place[1] * unit || 0} ${area.top + place[0] * unit || 0})`);
      }
      const [i, j] = hovered.length ? hovered : cell;
      const none = "Click a cell, or move with the arrow keys.";
      words.textContent = i === undefined ? none : said(i, j, values[i * clusters + j]);
    }

    function choose(cell) {
      model.set("cell", cell);
      model.save_changes();
      follow();
    }

    /** The cell under the pointer, [] outside. */
    function under(event) {
      const frame = svg.getBoundingClientRect();
      const pixel = frame.width / width;
      const j = Math.floor(((event.clientX - frame.left) / pixel - area.left) / unit);
      const i = Math.floor(((event.clientY - frame.top) / pixel - area.top) / unit);
      return Math.min(i, j) >= 0 && Math.max(i, j) < clusters ? [i, j] : [];
    }

    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const [move, cell] = [CELL_MOVES[event.key], model.get("cell")];
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
    for (const name of redrawn) model.on(`change:${name}`, () => queueMicrotask(() => !ended && build()));
    model.on("change:cell", () => !ended && follow());
    build();
    return () => {
      ended = true;
      root.remove();
    };
  };
}
