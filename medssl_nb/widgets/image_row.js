// Maps of one slice side by side, and a line through all of them that follows the pointer or the arrow keys. Python moves
// the line; here is only reported where it is dragged. It needs of its model: get, set, on, save_changes.

const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };

function render({ model, el }) {
  const [row, foot, words] = [html("div", "ir-pictures"), html("div", "ir-foot"), html("div", "ir-words")];
  const scale = html("div", "ir-scale");
  const root = html("div", "image-row", row, foot);
  foot.append(scale, words);
  root.tabIndex = 0;
  root.setAttribute("role", "application");
  root.setAttribute("aria-label", "Border of the clusters in four maps of a slice. Drag it, or press the arrow keys.");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys
  words.setAttribute("aria-live", "polite");
  el.append(root);

  let ended = false;
  let dragged = null; // while the button is down: {picture, start: [number, column, row]}
  let parts = []; // of each picture: {canvas, caption, svg, paths: outline, edge of the line, line, box}
  let [rows, columns, codes] = [1, 1, new Uint8Array(1)];
  let hovered = null;

  function build() {
    const pictures = model.get("pictures");
    parts = pictures.map((one, k) => {
      const canvas = html("canvas", "");
      const paths = ["ir-outline", "ir-edge", "ir-line", "ir-box"].map((name) => make("path", { class: name }));
      const svg = make("svg", { preserveAspectRatio: "none" }, ...paths);
      const caption = html("figcaption", "", one.name);
      const letters = k > 0 ? [] : model.get("letters").map((letter, place) => html("span", `ir-letter ir-at-${place}`, letter));
      row.append(html("figure", "", caption, html("div", "ir-picture", canvas, svg, ...letters)));
      for (const [path, colour] of [[paths[0], 1], [paths[2], 0]]) path.setAttribute("stroke", model.get("colours")[colour]);
      return { canvas, caption, svg, paths };
    });
    const coloured = pictures.findIndex((one) => !one.grey);
    if (coloured < 0) return;
    const colours = bytesOf(model.get("palettes")).subarray(768 * coloured, 768 * (coloured + 1));
    const stops = [0, 32, 64, 96, 128, 160, 192, 224, 255].map((k) => `rgb(${colours.subarray(3 * k, 3 * k + 3).join(" ")})`);
    const strip = html("span", "ir-strip");
    strip.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    scale.append(String(pictures[coloured].range[0]), strip, String(pictures[coloured].range[1]));
  }

  function paint() {
    [rows, columns] = model.get("shape");
    codes = bytesOf(model.get("code_bytes"));
    const palettes = bytesOf(model.get("palettes"));
    parts.forEach(({ canvas, caption, svg, paths }, k) => {
      caption.textContent = model.get("pictures")[k].name;
      [canvas.width, canvas.height] = [columns, rows];
      canvas.style.aspectRatio = model.get("aspect");
      svg.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
      const data = new ImageData(columns, rows);
      for (let at = 0; at < rows * columns; at++) {
        const colour = 768 * k + 3 * codes[k * rows * columns + at];
        data.data.set([palettes[colour], palettes[colour + 1], palettes[colour + 2], 255], 4 * at);
      }
      canvas.getContext("2d").putImageData(data, 0, 0);
      if (k === 0) paths[0].setAttribute("d", model.get("outline"));
      if (model.get("pictures")[k].lined) for (const path of paths.slice(1, 3)) path.setAttribute("d", model.get("line"));
    });
    follow();
  }

  /** The window around the voxel under the pointer, and what the maps hold there. */
  function follow() {
    const [c, r] = hovered ?? [0, 0];
    const side = model.get("box");
    const box = hovered && side ? `M${c - (side - 1) / 2} ${r - (side - 1) / 2}h${side}v${side}h${-side}z` : "";
    for (const { paths } of parts) paths[3].setAttribute("d", box);
    if (!hovered) return (words.textContent = model.get("line_text") || "Drag the line, or move it with the arrow keys.");
    const [across, down] = model.get("axes");
    const values = model.get("pictures").flatMap(({ name, range, grey }, k) => {
      const share = codes[(k * rows + r) * columns + c] / 255;
      return grey ? [] : [`${name} ${(range[0] + share * (range[1] - range[0])).toFixed(2)}`];
    });
    words.textContent = `${across} = ${columns - 1 - c}, ${down} = ${rows - 1 - r}: ${values.join(" · ")}`;
  }

  /** Column and row under the pointer, kept inside the picture it is in or was dragged from. */
  function place(event, picture) {
    const frame = picture.getBoundingClientRect();
    const inside = (share) => Math.min(Math.max(share, 0), 0.9999);
    return [columns * inside((event.clientX - frame.left) / frame.width), rows * inside((event.clientY - frame.top) / frame.height)];
  }

  const report = (name, value) => (model.set(name, value), model.save_changes());

  row.addEventListener("pointerdown", (event) => {
    const picture = event.target.closest(".ir-picture");
    if (!picture || event.button !== 0) return;
    picture.setPointerCapture(event.pointerId);
    dragged = { picture, start: [(model.get("drag")[0] ?? 0) + 1, ...place(event, picture)] };
  });
  row.addEventListener("pointermove", (event) => {
    const picture = dragged?.picture ?? event.target.closest(".ir-picture");
    const here = picture && place(event, picture);
    if (dragged) report("drag", [...dragged.start, ...here]);
    hovered = here && here.map(Math.floor);
    follow();
  });
  row.addEventListener("pointerleave", () => ((hovered = null), follow()));
  for (const name of ["pointerup", "pointercancel"]) row.addEventListener(name, () => (dragged = null));
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !STEPS[event.key]) return;
    hovered = null; // the words tell where the border goes
    report("nudges", model.get("nudges") + STEPS[event.key]);
    event.preventDefault();
    event.stopPropagation();
  });
  for (const name of ["code_bytes", "line", "outline"]) model.on(`change:${name}`, () => queueMicrotask(() => !ended && paint()));
  for (const name of ["line_text", "box"]) model.on(`change:${name}`, () => !ended && follow());
  build();
  paint();
  return () => {
    ended = true;
    root.remove();
  };
}

export default { render };
