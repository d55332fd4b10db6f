// A joint matrix with its marginals: rows are clusters of view A, columns of view B. cell_matrix.js draws the cells.
const [WIDTH, HEIGHT] = [440, 450];
const AREA = { left: 44, top: 68, side: 310, bar: 46 }; // of the cells; length of the longest bar

const short = (value) => (value === 0 ? "0" : value < 1e-4 ? value.toExponential(1) : String(Number(value.toPrecision(3))));

/** Bars of row sums at the right and column sums above; a dashed line where all clusters would be used alike. */
function usage({ model, values, clusters, unit }) {
  const sums = [0, 1].map(() => new Float64Array(clusters));
  values.forEach((share, k) => ((sums[0][Math.floor(k / clusters)] += share), (sums[1][k % clusters] += share)));
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

function axes({ clusters, unit }) {
  const every = numbered(clusters);
  const [x, y, low] = [AREA.left + AREA.side / 2, AREA.top + AREA.side / 2, AREA.top + AREA.side];
  const texts = [write(x, low + 31, "cluster in view B", { class: "mc-name" })];
  texts.push(write(14, y, "cluster in view A", { class: "mc-name", transform: `rotate(-90 14 ${y})` }));
  for (let k = 0, at = unit / 2; k < clusters; k += every, at += every * unit) {
    texts.push(write(AREA.left - 5, AREA.top + at + 4, k, { "text-anchor": "end" }), write(AREA.left + at, low + 14, k));
  }
  return texts;
}

/** The colours and their shares: the root of the share runs evenly. */
function scale({ model, palette }) {
  const [x, y, width] = [AREA.left + 95, HEIGHT - 26, 160];
  const ticks = [0, 0.5, 1].map((part) => write(x + part * width, y + 21, short(part * part * model.get("top"))));
  return make("g", {}, strip(palette, x, y, width), write(x - 8, y + 8, "share of voxels", { "text-anchor": "end" }), ...ticks);
}

const render = cellMatrix({
  size: [WIDTH, HEIGHT],
  area: AREA,
  bytes: "joint_bytes",
  redrawn: ["joint_bytes"],
  around: (shown) => [usage(shown), ...axes(shown), scale(shown)],
  called: ({ clusters }) => `Joint matrix of ${clusters} clusters`,
  said: (i, j, share) => `A ${i}, B ${j}: ${short(share)}`,
});

export default { render };
