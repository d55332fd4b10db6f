// Cosines of regions: rows and columns are clusters, each with its colour beside it. cell_matrix.js draws the cells.
const AREA = { left: 56, top: 54, side: 278, strip: 7 }; // of the cells; width of the clusters' colours beside them

const short = (value) => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2).replace("-", "−");

/** A dot on the nearest column of each row. */
function dots({ model, unit }) {
  const group = make("g", { class: "rm-nearest", fill: "#ffffff", stroke: "#000000", "stroke-width": 0.8 });
  const r = Math.min(Math.max(0.2 * unit, 1.7), 4);
  model.get("nearest").forEach((j, i) => {
    if (j >= 0) group.append(make("circle", { r, cx: AREA.left + (j + 0.5) * unit, cy: AREA.top + (i + 0.5) * unit }));
  });
  return group;
}

/** Names, numbers (of many every fifth) and colours of the clusters. */
function axes({ model, clusters, unit }) {
  const every = numbered(clusters);
  const { left, top, side, strip: wide } = AREA;
  const [[rows, columns], middle] = [model.get("names"), top + side / 2];
  const parts = [write(left + side / 2, 14, columns, { class: "mc-name" })];
  parts.push(write(14, middle, rows, { class: "mc-name", transform: `rotate(-90 14 ${middle})` }));
  model.get("colours").forEach((fill, k) => {
    const [x, y] = [left + k * unit, top + k * unit];
    parts.push(make("rect", { fill, x, y: top - wide - 2, width: unit, height: wide }));
    parts.push(make("rect", { fill, x: left - wide - 2, y, width: wide, height: unit }));
    if (k % every) return;
    parts.push(write(left - wide - 6, y + unit / 2 + 4, k, { "text-anchor": "end" }));
    parts.push(write(x + unit / 2, top - wide - 7, k));
  });
  return parts;
}

function scale({ palette }) {
  const [x, y, width] = [AREA.left + 46, AREA.top + AREA.side + 14, 100];
  const name = write(x - 10, y + 8, "cosine", { "text-anchor": "end" });
  const ticks = [-1, 0, 1].map((value) => write(x + (width * (value + 1)) / 2, y + 22, String(value).replace("-", "−")));
  const dot = make("text", { x: x + width + 14, y: y + 8 }, "○ nearest in the row");
  return make("g", {}, strip(palette, x, y, width), name, ...ticks, dot);
}

const render = cellMatrix({
  size: [340, 372],
  area: AREA,
  bytes: "cosine_bytes",
  redrawn: ["cosine_bytes", "names"],
  around: (shown) => [dots(shown), ...axes(shown), scale(shown)],
  called: ({ model, clusters }) => `Cosines of ${clusters} clusters. ${model.get("names").join(" against ")}`,
  said: (i, j, cosine) => `row ${i}, column ${j}: cosine ${short(cosine)}`,
});

export default { render };
