// The slice canvas: planes of one volume, drawn and blended in the browser.
//
// It needs of its model: get, set, on, save_changes. No kernel, no library, no network.
// After each drawing the element sends the event "slice-canvas:drawn" (its detail: how many milliseconds that took).

// Array axes x, y, z grow to the patient's Right, Anterior and Superior side. Rows and columns of a picture run against
// their axis: the largest index comes first. So the patient's right is on the left.
const PLANES = {
  axial: { fixed: 2, row: 1, column: 0, letters: ["R", "L", "A", "P"] }, // left, right, top, bottom
  coronal: { fixed: 1, row: 2, column: 0, letters: ["R", "L", "S", "I"] },
  sagittal: { fixed: 0, row: 2, column: 1, letters: ["A", "P", "S", "I"] },
};
const AXES = ["x", "y", "z"];
const PLANNED = /planes|controls|title|presets|window_limits|heat|exact|label_|colour_|affine/; // traits that `plan` reads
const LEAP = 10; // voxels that an arrow key moves with Shift
const NARROWEST = 200; // CSS pixels: below that, pictures go under each other rather than get smaller
const SCROLL_PER_SLICE = 40; // wheel or trackpad pixels

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// ---- data -----------------------------------------------------------------------------------------------------------

const unpacked = new WeakMap(); // bytes as they came -> promise of the codes; views of one model share them

function unpack(bytes) {
  if (!bytes || bytes.byteLength === 0) return Promise.resolve(null);
  if (!unpacked.has(bytes)) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    unpacked.set(
      bytes,
      new Response(stream).arrayBuffer().then((buffer) => new Uint8Array(buffer)),
    );
  }
  return unpacked.get(bytes);
}

function asBytes(data) {
  return ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);
}

const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

// ---- one slice ------------------------------------------------------------------------------------------------------

/** Where each picture element of a slice lies in the volume: start, step per column, step per row. */
function walk(plane, shape, index) {
  const stride = [shape[1] * shape[2], shape[2], 1];
  const rows = shape[plane.row];
  const columns = shape[plane.column];
  return {
    rows,
    columns,
    start: index * stride[plane.fixed] + (rows - 1) * stride[plane.row] + (columns - 1) * stride[plane.column],
    perColumn: -stride[plane.column],
    perRow: -stride[plane.row],
  };
}

/** Grey of each code under a window, 0 to 255. */
function greyTable(levels, [low, high]) {
  return Float32Array.from(levels, (value) => 255 * clamp((value - low) / (high - low), 0, 1));
}

/** Colours of one slice: grey, then colours of voxels, heat, label fills. `pixels` are RGBA bytes, four a voxel. */
function paint(pixels, path, scene) {
  const { codes, grey, colours, heat, heatColours, labels, labelColours, opacity } = scene;
  const clear = 1 - opacity;
  let out = 0;
  for (let r = 0; r < path.rows; r++) {
    let at = path.start + r * path.perRow;
    for (let c = 0; c < path.columns; c++, at += path.perColumn, out += 4) {
      const g = grey[codes[at]];
      let red = g;
      let green = g;
      let blue = g;
      if (colours !== null) {
        const k = 3 * at;
        red = clear * red + opacity * colours[k];
        green = clear * green + opacity * colours[k + 1];
        blue = clear * blue + opacity * colours[k + 2];
      }
      if (heat !== null && heat[at] !== 0) {
        const k = 3 * heat[at];
        red = clear * red + opacity * heatColours[k];
        green = clear * green + opacity * heatColours[k + 1];
        blue = clear * blue + opacity * heatColours[k + 2];
      }
      if (labels !== null && labels[at] !== 0) {
        const k = 4 * labels[at];
        if (labelColours[k + 3] !== 0) {
          red = clear * red + opacity * labelColours[k];
          green = clear * green + opacity * labelColours[k + 1];
          blue = clear * blue + opacity * labelColours[k + 2];
        }
      }
      pixels[out] = red; // a clamped array: it rounds
      pixels[out + 1] = green;
      pixels[out + 2] = blue;
      pixels[out + 3] = 255;
    }
  }
}

/** Borders between codes on one slice: for each code that `shown` keeps, a path in units of picture elements. */
function outlines(map, path, shown) {
  const paths = new Map();
  const line = (code, x0, y0, x1, y1) => {
    if (code === 0 || !shown[code]) return;
    if (!paths.has(code)) paths.set(code, new Path2D());
    const drawn = paths.get(code);
    drawn.moveTo(x0, y0);
    drawn.lineTo(x1, y1);
  };
  const { rows, columns, perRow, perColumn } = path;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const at = path.start + r * perRow + c * perColumn;
      const here = map[at];
      const left = c > 0 ? map[at - perColumn] : 0;
      const above = r > 0 ? map[at - perRow] : 0;
      if (here !== left) {
        line(here, c, r, c, r + 1);
        line(left, c, r, c, r + 1);
      }
      if (here !== above) {
        line(here, c, r, c + 1, r);
        line(above, c, r, c + 1, r);
      }
      if (here !== 0 && c === columns - 1) line(here, columns, r, columns, r + 1);
      if (here !== 0 && r === rows - 1) line(here, c, rows, c + 1, rows);
    }
  }
  return paths;
}

// ---- words and numbers ----------------------------------------------------------------------------------------------

/** Three or more digits that a reader can take in, with a true minus sign. */
function shortNumber(value) {
  const size = Math.abs(value);
  const text = size >= 100 && size < 1e5 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
  return (text === "-0" ? "0" : text).replace("-", "−");
}

/** A value known to within one step: no digits that mean nothing. */
function roundedTo(step, value) {
  const decimals = clamp(-Math.floor(Math.log10(step)), 0, 9);
  const text = value.toFixed(decimals);
  return (Number(text) === 0 ? (0).toFixed(decimals) : text).replace("-", "−");
}

const oneDecimal = (value) => (Math.abs(value) < 0.05 ? "0.0" : value.toFixed(1)).replace("-", "−");

/** RAS mm of a voxel. */
function toMm(affine, voxel) {
  return [0, 1, 2].map((r) => affine[4 * r + 3] + voxel.reduce((sum, v, k) => sum + affine[4 * r + k] * v, 0));
}

/** A length for the scale bar: 1, 2 or 5 times a power of ten, at most a quarter of the picture. */
function barLength(width) {
  const most = width / 4;
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].map((n) => n * power).find((length) => length <= most);
}

// ---- small parts of the page ----------------------------------------------------------------------------------------

// Every widget runs a copy of this script of its own, so counting alone would give two widgets the same ids.
const family = Math.random().toString(36).slice(2);
let children = 0;
const newId = () => `slice-canvas-${family}-${++children}`;

/** An element with attributes and children. Elements that take keys tell JupyterLab to leave their keys alone. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined) continue;
    if (name in element && name !== "role" && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  if (["INPUT", "BUTTON", "SELECT", "CANVAS", "SUMMARY"].includes(element.tagName) || attributes.tabIndex === 0) {
    element.dataset.lmSuppressShortcuts = "true";
  }
  element.append(...children);
  return element;
}

/** A slider with its name before and its value behind. */
function slider(name, { className = "", ...attributes }) {
  const id = newId();
  const input = make("input", { type: "range", id, ...attributes });
  const value = make("output", { className: "sc-number", htmlFor: id });
  const row = make("div", { className: `sc-slider ${className}` }, make("label", { htmlFor: id }, name), input, value);
  return { row, input, value };
}

/** The sign of the button that leads to a label: a circle with a crosshair. */
function target() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M8 1v4M8 11v4M1 8h4M11 8h4M12 8a4 4 0 1 1-8 0a4 4 0 1 1 8 0");
  svg.append(path);
  return svg;
}

/** A list to choose from. */
function chooser(name, options) {
  const id = newId();
  const select = make("select", { id });
  for (const [value, text] of options) select.append(make("option", { value }, text));
  return { row: make("div", { className: "sc-slider" }, make("label", { htmlFor: id }, name), select), select };
}

// ---- the widget -----------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const viewer = new Viewer(model, el);
  return () => viewer.end();
}

class Viewer {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.ended = false;
    this.stale = new Set(); // planes whose colours are out of date
    this.frame = 0;
    this.root = make("div", { className: "slice-canvas", role: "group" });
    this.el.append(this.root);
    this.listen();
    this.watcher = new ResizeObserver(() => this.fit());
    this.watcher.observe(this.root);
    this.rebuild();
    this.load();
  }

  end() {
    this.ended = true;
    this.watcher.disconnect();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.speaking);
    this.root.remove();
  }

  get(name) {
    return this.model.get(name);
  }

  /** What the reader did: kept in the model at once, sent to the kernel at most once a frame. */
  put(name, value) {
    this.putting = name; // the model answers at once with an event that tells this viewer nothing new
    this.model.set(name, value);
    this.putting = null;
    this.unsaved = true;
    this.changed(name);
  }

  listen() {
    const names =
      "volume_bytes levels exact shape spacing affine unit presets window_limits label_bytes label_table " +
      "contour_bytes contour_table heat_bytes heat_range heat_clipped heat_palette heat_name colour_bytes mark_table " +
      "crosshair window opacity visible_labels label_style theme smooth planes controls size title";
    for (const name of names.split(" ")) {
      this.model.on(`change:${name}`, () => {
        if (!this.ended && this.putting !== name) this.changed(name);
      });
    }
  }

  /** Bring the picture up to date with one trait. */
  changed(name) {
    if (/bytes$|table$|levels|heat|shape/.test(name)) this.load();
    if (PLANNED.test(name)) this.rebuildSoon();
    if (["size", "shape", "spacing"].includes(name)) this.fit();
    if (name !== "crosshair") this.allStale();
    this.draw();
  }

  /** All that decides which controls there are and what they say; when it changes, the page is built anew. */
  plan() {
    const names = "planes controls title presets window_limits heat_name heat_range exact".split(" ");
    const rows = this.get("label_table").map(({ id, name, colour }) => [id, name, colour]);
    const size = (value) => value?.byteLength ?? value?.length ?? 0;
    const there = ["label_bytes", "heat_bytes", "colour_bytes", "affine"].map((name) => size(this.get(name)) > 0);
    return JSON.stringify([names.map((name) => this.get(name)), rows, there]);
  }

  /**
   * Unpack what is new, then draw. Codes and what they stand for are taken over together, so that no picture mixes old
   * and new; a later call overtakes an earlier one that is not finished.
   */
  async load() {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    await null; // several traits change together: wait until the last of them is there
    const names = "levels shape label_table contour_table heat_range heat_clipped heat_palette".split(" ");
    const meaning = Object.fromEntries(names.map((name) => [name, this.get(name)]));
    try {
      const layers = ["volume_bytes", "label_bytes", "contour_bytes", "heat_bytes", "colour_bytes"];
      const [codes, labels, contour, heat, colours] = await Promise.all(layers.map((name) => unpack(this.get(name))));
      if (turn !== this.turn || this.ended) return;
      this.data = { ...meaning, codes, labels, contour, heat, colours };
    } catch (error) {
      this.root.replaceChildren(make("p", {}, `The volume cannot be unpacked here (${error}). A newer browser helps.`));
      this.built = null; // so that data that can be unpacked bring the page back
      return;
    }
    if (this.built === null) this.rebuild();
    this.fit();
    this.allStale();
    this.draw();
  }

  rebuildSoon() {
    if (this.rebuilding) return;
    this.rebuilding = true;
    queueMicrotask(() => {
      this.rebuilding = false;
      if (!this.ended && this.built !== this.plan()) this.rebuild();
    });
  }

  // ---- the page around the pictures ----

  rebuild() {
    this.built = this.plan();
    const focused = this.root.contains(document.activeElement) ? document.activeElement?.dataset.plane : undefined;
    const title = this.get("title");
    this.root.setAttribute("aria-label", title || "Slices of a volume");
    this.pictures = this.get("planes").map((name) => this.buildPicture(name));
    this.row = make("div", { className: "sc-pictures" }, ...this.pictures.map((picture) => picture.figure));
    this.spoken = make("div", { className: "sc-unseen", "aria-live": "polite" });
    const controls = new Set(this.get("controls"));
    const parts = [this.row, this.spoken];
    if (title) parts.unshift(make("div", { className: "sc-title" }, title));
    this.readout = null;
    if (controls.has("readout")) parts.push((this.readout = this.buildReadout()).list);
    const panel = make("div", { className: "sc-panel" });
    this.windowing = controls.has("window") ? this.buildWindow(panel) : null;
    this.blending = controls.has("overlay") && this.hasOverlay() ? this.buildBlending(panel) : null;
    if (panel.childElementCount > 0) parts.push(panel);
    this.legend = controls.has("labels") && this.get("label_table").length > 0 ? this.buildLegend() : null;
    if (this.legend) parts.push(this.legend.box);
    if (controls.has("help")) parts.push(this.buildHelp());
    this.root.replaceChildren(...parts);
    this.fit();
    this.allStale();
    this.draw();
    if (focused) this.pictures.find((picture) => picture.name === focused)?.canvas.focus();
  }

  hasOverlay() {
    return ["label_bytes", "heat_bytes", "colour_bytes"].some((name) => this.get(name)?.byteLength > 0);
  }

  buildPicture(name) {
    const plane = PLANES[name];
    const canvas = make("canvas", { tabIndex: 0, role: "application", "aria-roledescription": "slice" });
    canvas.dataset.plane = name;
    const place = make("span", { className: "sc-number" });
    const caption = make("figcaption", {}, make("span", { className: "sc-plane" }, name), place);
    const scroll = slider(AXES[plane.fixed], { className: "sc-scroll", min: 0, step: 1 });
    scroll.input.setAttribute("aria-label", `${name} slice ${AXES[plane.fixed]}`);
    scroll.value.remove();
    const figure = make("figure", { className: "sc-picture" }, caption, canvas);
    if (this.get("controls").includes("slices")) figure.append(scroll.row);
    const picture = { name, plane, canvas, place, scroll, figure, voxels: document.createElement("canvas") };
    scroll.input.addEventListener("input", () => this.goTo(plane.fixed, Number(scroll.input.value)));
    this.pointing(picture);
    this.scrolling(picture);
    canvas.addEventListener("keydown", (event) => this.key(event, plane));
    return picture;
  }

  buildReadout() {
    const list = make("div", { className: "sc-readout" });
    const fields = {};
    const names = [["voxel", "voxel x y z"]];
    if (this.get("affine").length > 0) names.push(["mm", "mm R A S"]);
    names.push(["value", "value"], ["label", "label"], ["heat", this.get("heat_name")]);
    for (const [key, text] of names) {
      const field = make("span", { className: "sc-value" });
      fields[key] = make("span", { className: "sc-field" }, make("span", { className: "sc-name" }, text), field);
      fields[key].field = field;
      list.append(fields[key]);
    }
    return { list, fields };
  }

  buildWindow(panel) {
    const [lowest, highest] = this.get("window_limits");
    const step = (highest - lowest) / 500 > 0.5 ? Math.round((highest - lowest) / 500) : (highest - lowest) / 500;
    const presets = this.get("presets");
    const choice = chooser("window", [["", "by hand"], ...presets.map(([name], i) => [String(i), name])]);
    const black = slider("black at", { min: lowest, max: highest, step: step || "any" });
    const white = slider("white at", { min: lowest, max: highest, step: step || "any" });
    const gap = (highest - lowest) / 500 || 1e-6; // black stays below white
    choice.select.addEventListener("change", () => {
      if (choice.select.value !== "") this.put("window", presets[Number(choice.select.value)].slice(1));
    });
    black.input.addEventListener("input", () => {
      const low = Number(black.input.value);
      this.put("window", [low, Math.max(this.get("window")[1], low + gap)]);
    });
    white.input.addEventListener("input", () => {
      const high = Number(white.input.value);
      this.put("window", [Math.min(this.get("window")[0], high - gap), high]);
    });
    panel.append(make("fieldset", {}, make("legend", {}, "Grey values"), choice.row, black.row, white.row));
    return { ...choice, black, white, presets };
  }

  buildBlending(panel) {
    const box = make("fieldset", {}, make("legend", {}, "Overlay"));
    const opacity = slider("opacity", { min: 0, max: 1, step: 0.01 });
    opacity.input.addEventListener("input", () => this.put("opacity", Number(opacity.input.value)));
    box.append(opacity.row);
    let style = null;
    if (this.get("label_table").length > 0) {
      style = chooser("labels", [
        ["both", "filled, outlined"],
        ["fill", "filled"],
        ["outline", "outlined"],
      ]);
      style.select.addEventListener("change", () => this.put("label_style", style.select.value));
      box.append(style.row);
    }
    if (this.get("heat_bytes")?.byteLength > 0) {
      const [low, high] = this.get("heat_range").map(shortNumber);
      const strip = make("canvas", { className: "sc-strip", width: 256, height: 1, "aria-hidden": "true" });
      delete strip.dataset.lmSuppressShortcuts;
      this.drawPalette(strip);
      box.append(
        make(
          "div",
          { className: "sc-slider" },
          make("span", {}, this.get("heat_name")),
          make("span", { className: "sc-scale" }, make("span", {}, low), strip, make("span", {}, high)),
        ),
      );
    }
    panel.append(box);
    return { opacity, style };
  }

  drawPalette(strip) {
    const palette = asBytes(this.get("heat_palette"));
    const context = strip.getContext("2d");
    const image = context.createImageData(256, 1);
    for (let k = 0; k < 256; k++) image.data.set([...palette.subarray(3 * k, 3 * k + 3), 255], 4 * k);
    context.putImageData(image, 0, 0);
  }

  /** Names with colours: a box to show or hide each, a button to go there. Long lists scroll and can be searched. */
  buildLegend() {
    const table = this.get("label_table");
    const boxes = new Map();
    const items = table.map(({ id, name, colour }) => {
      const box = make("input", { type: "checkbox" });
      box.addEventListener("change", () => this.show(id, box.checked));
      boxes.set(id, box);
      const swatch = make("span", { className: "sc-swatch" });
      swatch.style.backgroundColor = colour;
      const find = make("button", { type: "button", className: "sc-find", title: `go to ${name}` }, target());
      find.setAttribute("aria-label", `go to ${name}`);
      find.addEventListener("click", () => {
        const row = this.get("label_table").find((other) => other.id === id);
        if (row) this.put("crosshair", row.centre);
      });
      const item = make("span", { className: "sc-chip" }, make("label", {}, box, swatch, make("span", {}, name)), find);
      item.dataset.name = name.toLowerCase();
      return item;
    });
    const count = make("span", { className: "sc-count" });
    const all = make("button", { type: "button", className: "sc-button" }, "all");
    const none = make("button", { type: "button", className: "sc-button" }, "none");
    all.addEventListener("click", () => this.put("visible_labels", table.map(({ id }) => id)));
    none.addEventListener("click", () => this.put("visible_labels", []));
    const head = make("div", { className: "sc-legend-head" }, count, all, none);
    if (table.length > 12) head.append(this.buildSearch(items));
    const list = make("div", { className: "sc-chips" }, ...items);
    const box = make("fieldset", { className: "sc-legend" }, make("legend", {}, "Labels"), head, list);
    return { box, boxes, count };
  }

  buildSearch(items) {
    const search = make("input", { type: "search", className: "sc-search", placeholder: "find a name" });
    search.setAttribute("aria-label", "find a label by name");
    search.addEventListener("input", () => {
      const wanted = search.value.trim().toLowerCase();
      for (const item of items) item.hidden = !item.dataset.name.includes(wanted);
    });
    return search;
  }

  buildHelp() {
    const contrast = make("input", { type: "checkbox", className: "sc-contrast" });
    const smooth = make("input", { type: "checkbox", className: "sc-smooth" });
    contrast.addEventListener("change", () => this.put("theme", contrast.checked ? "contrast" : "auto"));
    smooth.addEventListener("change", () => this.put("smooth", smooth.checked));
    this.tick = { contrast, smooth };
    const keys = [
      ["click, drag", "move the crosshair"],
      ["arrow keys", `move it by one voxel, with Shift by ${LEAP}`],
      ["Page Up, Page Down, wheel", "next slice (the wheel after a click on the picture)"],
      ["Enter", "like a click on the crosshair"],
      ["Home", "back to the middle"],
      ["H", "hide or show labels and scores"],
    ];
    const rows = keys.map(([key, what]) => make("div", {}, make("kbd", {}, key), ` ${what}`));
    const steps = this.get("exact") ? [] : [make("div", {}, "≈ : grey values are held in 256 steps in the browser")];
    return make(
      "div",
      { className: "sc-foot" },
      make("label", {}, contrast, "high contrast"),
      make("label", {}, smooth, "smooth"),
      make("details", { className: "sc-help" }, make("summary", {}, "mouse and keys"), ...rows, ...steps),
    );
  }

  // ---- what the reader does ----

  /** Move the crosshair along one axis. */
  goTo(axis, index) {
    const voxel = [...this.get("crosshair")];
    voxel[axis] = clamp(index, 0, this.get("shape")[axis] - 1);
    if (voxel[axis] !== this.get("crosshair")[axis]) this.put("crosshair", voxel);
  }

  /** Voxel under the pointer. */
  under(event, { plane, canvas }) {
    const shape = this.get("shape");
    const frame = canvas.getBoundingClientRect();
    const voxel = [...this.inside()];
    const place = (share, axis) => shape[axis] - 1 - clamp(Math.floor(share * shape[axis]), 0, shape[axis] - 1);
    voxel[plane.column] = place((event.clientX - frame.left) / frame.width, plane.column);
    voxel[plane.row] = place((event.clientY - frame.top) / frame.height, plane.row);
    return voxel;
  }

  pointing(picture) {
    const { canvas } = picture;
    let pressed = null;
    const move = (event) => {
      const voxel = this.under(event, picture);
      if (voxel.some((v, k) => v !== this.get("crosshair")[k])) this.put("crosshair", voxel);
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      pressed = { x: event.clientX, y: event.clientY };
      canvas.setPointerCapture(event.pointerId);
      canvas.focus({ preventScroll: true });
      move(event);
    });
    canvas.addEventListener("pointermove", (event) => pressed && move(event));
    canvas.addEventListener("pointercancel", () => (pressed = null));
    canvas.addEventListener("pointerup", (event) => {
      if (pressed && Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) < 4) {
        this.click(this.under(event, picture));
      }
      pressed = null;
    });
  }

  click(voxel) {
    this.put("clicked", voxel);
    this.put("clicks", this.get("clicks") + 1);
  }

  /** The wheel scrolls slices once the picture has been clicked; before that it scrolls the page, as everywhere. */
  scrolling({ plane, canvas }) {
    let rolled = 0;
    const roll = (event) => {
      if (document.activeElement !== canvas || event.ctrlKey) return;
      event.preventDefault();
      rolled += event.deltaY * (event.deltaMode === 1 ? 16 : 1);
      const slices = Math.trunc(rolled / SCROLL_PER_SLICE);
      rolled -= slices * SCROLL_PER_SLICE;
      if (slices !== 0) this.goTo(plane.fixed, this.inside()[plane.fixed] - slices);
    };
    canvas.addEventListener("wheel", roll, { passive: false });
  }

  key(event, plane) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? LEAP : 1;
    // Rows and columns run against their axes, so the left arrow leads to larger numbers.
    const moves = {
      ArrowLeft: [plane.column, step],
      ArrowRight: [plane.column, -step],
      ArrowUp: [plane.row, step],
      ArrowDown: [plane.row, -step],
      PageUp: [plane.fixed, step],
      PageDown: [plane.fixed, -step],
    };
    if (moves[event.key]) {
      const [axis, by] = moves[event.key];
      this.goTo(axis, this.inside()[axis] + by);
    } else if (event.key === "Enter" && !event.shiftKey) {
      this.click(this.inside());
    } else if (event.key === "Home") {
      this.put("crosshair", this.get("shape").map((n) => n >> 1));
    } else if (event.key.toLowerCase() === "h") {
      this.hidden = !this.hidden;
      this.allStale();
      this.draw();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  show(id, visible) {
    const shown = new Set(this.get("visible_labels"));
    if (visible) shown.add(id);
    else shown.delete(id);
    this.put("visible_labels", this.get("label_table").map((row) => row.id).filter((known) => shown.has(known)));
  }

  // ---- drawing ----

  /** The crosshair; a canvas of another size that is linked to this one may point outside. */
  inside() {
    const shape = this.get("shape");
    return this.get("crosshair").map((v, k) => clamp(v, 0, shape[k] - 1));
  }

  allStale() {
    for (const picture of this.pictures ?? []) this.stale.add(picture);
  }

  /** Give every picture its size: one scale for all, true proportions, next to each other where there is room. */
  // JupyterLab takes arrow keys as "next cell" from drop-downs, ours and those of ipywidgets beside us, unless told not to.
  keepArrows() {
    const output = this.el.closest(".jp-OutputArea-output") ?? this.el;
    for (const select of output.querySelectorAll("select")) select.dataset.lmSuppressShortcuts = "true";
  }

  fit() {
    const room = this.row?.clientWidth ?? 0;
    if (room === 0) return;
    this.keepArrows();
    const shape = this.get("shape");
    const spacing = this.get("spacing");
    const mm = this.pictures.map(({ plane }) => [plane.column, plane.row].map((axis) => shape[axis] * spacing[axis]));
    const gap = parseFloat(getComputedStyle(this.row).columnGap) || 0;
    const widths = mm.map(([width]) => width);
    const free = this.get("size") / Math.max(...mm.flat());
    const beside = (room - gap * (mm.length - 1)) / widths.reduce((a, b) => a + b, 0);
    const below = room / Math.max(...widths);
    const fitsBeside = Math.max(...widths) * beside >= Math.min(NARROWEST, this.get("size"));
    const scale = Math.min(free, fitsBeside ? beside : below);
    this.row.classList.toggle("sc-stacked", !fitsBeside);
    this.pictures.forEach((picture, k) => {
      const [width, height] = mm[k].map((length) => Math.max(1, Math.floor(length * scale)));
      picture.width = width;
      picture.height = height;
      picture.mmPerPixel = 1 / scale;
      picture.canvas.style.width = `${width}px`;
      picture.canvas.style.height = `${height}px`;
      picture.figure.style.width = `${Math.max(width, 96)}px`; // room for the slider of a thin picture
    });
    this.draw();
  }

  /** Draw at once, so that the next frame shows it; what else changes before that frame waits for it. */
  draw() {
    this.wanted = true;
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (this.wanted) this.draw();
    });
    this.drawNow();
  }

  drawNow() {
    this.wanted = false;
    this.save();
    this.updatePage();
    if (!this.ready() || !this.pictures[0]?.width) return;
    const start = performance.now();
    if (this.stale.size > 0) this.scene = this.buildScene();
    for (const picture of this.pictures) this.drawPicture(picture);
    this.stale.clear();
    const detail = { milliseconds: performance.now() - start };
    this.el.dispatchEvent(new CustomEvent("slice-canvas:drawn", { detail }));
  }

  /** Whether the data at hand are those of the shape that is shown. */
  ready() {
    return this.data?.codes && this.data.shape.every((n, axis) => n === this.get("shape")[axis]);
  }

  save() {
    if (!this.unsaved) return;
    this.unsaved = false;
    this.model.save_changes();
  }

  buildScene() {
    const hidden = this.hidden === true;
    const style = this.get("label_style");
    const table = this.data.label_table;
    const visible = new Set(this.get("visible_labels"));
    const colours = new Uint8Array(4 * 256);
    const shown = new Uint8Array(256);
    table.forEach(({ id, colour }, k) => {
      colours.set([...channels(colour), style !== "outline" && visible.has(id) ? 1 : 0], 4 * (k + 1));
      shown[k + 1] = style !== "fill" && visible.has(id) ? 1 : 0;
    });
    return {
      codes: this.data.codes,
      grey: greyTable(this.data.levels, this.get("window")),
      colours: hidden ? null : this.data.colours,
      heat: hidden ? null : this.data.heat,
      heatColours: asBytes(this.data.heat_palette ?? []),
      labels: hidden ? null : this.data.labels,
      labelColours: colours,
      outlined: shown,
      contour: hidden ? null : this.data.contour,
      opacity: this.get("opacity"),
    };
  }

  drawPicture(picture) {
    const { plane, canvas, voxels, width, height } = picture;
    const index = this.inside()[plane.fixed];
    if (this.stale.has(picture) || picture.index !== index) {
      picture.index = index;
      this.paintVoxels(picture, index);
    }
    const density = window.devicePixelRatio || 1;
    const [wide, high] = [width, height].map((length) => Math.round(length * density));
    if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.imageSmoothingEnabled = this.get("smooth");
    context.imageSmoothingQuality = "high";
    context.drawImage(voxels, 0, 0, wide, high);
    this.strokeOutlines(context, picture, wide / voxels.width, high / voxels.height, density);
    context.setTransform(density, 0, 0, density, 0, 0);
    const bold = this.root.classList.contains("sc-theme-contrast");
    this.strokeCrosshair(context, picture, bold);
    this.drawMarks(context, picture);
    this.writeLetters(context, picture, bold);
    this.drawScale(context, picture);
  }

  paintVoxels(picture, index) {
    const { plane, voxels, name } = picture;
    const path = walk(plane, this.get("shape"), index);
    if (voxels.width !== path.columns || voxels.height !== path.rows || !picture.image) {
      [voxels.width, voxels.height] = [path.columns, path.rows];
      picture.image = new ImageData(path.columns, path.rows);
    }
    paint(picture.image.data, path, this.scene);
    voxels.getContext("2d").putImageData(picture.image, 0, 0);
    const { labels, contour, outlined } = this.scene;
    const every = new Uint8Array(256).fill(1);
    picture.labelPaths = labels && outlined.includes(1) ? outlines(labels, path, outlined) : new Map();
    picture.contourPaths = contour ? outlines(contour, path, every) : new Map();
    const axis = AXES[plane.fixed];
    picture.canvas.setAttribute("aria-label", `${name} slice, ${axis} = ${index}. Arrow keys move the crosshair.`);
  }

  strokeOutlines(context, { labelPaths, contourPaths }, scaleX, scaleY, density) {
    const toScreen = new DOMMatrix([scaleX, 0, 0, scaleY, 0, 0]);
    const stroke = (path, colour, width) => {
      const placed = new Path2D();
      placed.addPath(path, toScreen); // so that lines are as wide across as along
      context.lineWidth = width * density;
      context.strokeStyle = colour;
      context.stroke(placed);
    };
    context.lineCap = "square";
    for (const [code, path] of labelPaths) stroke(path, this.data.label_table[code - 1]?.colour ?? "#fff", 1.25);
    for (const [code, path] of contourPaths) {
      stroke(path, "#000", 3.5); // a dark edge keeps the line readable on any ground
      stroke(path, this.data.contour_table[code - 1]?.colour ?? "#fff", 1.75);
    }
  }

  /** Two lines through the voxel's centre with a gap around it. They end short of the edge, where the letters are. */
  strokeCrosshair(context, { plane, width, height }, bold) {
    const shape = this.get("shape");
    const voxel = this.inside();
    const at = (axis, length) => ((shape[axis] - voxel[axis] - 0.5) / shape[axis]) * length;
    const x = at(plane.column, width);
    const y = at(plane.row, height);
    const [half, tall] = [width / shape[plane.column] / 2, height / shape[plane.row] / 2];
    const edge = 20;
    const lines = new Path2D();
    const across = (from, to) => from < to && (lines.moveTo(from, y), lines.lineTo(to, y));
    const along = (from, to) => from < to && (lines.moveTo(x, from), lines.lineTo(x, to));
    across(edge, x - Math.max(7, half + 3));
    across(x + Math.max(7, half + 3), width - edge);
    along(edge, y - Math.max(7, tall + 3));
    along(y + Math.max(7, tall + 3), height - edge);
    context.lineCap = "butt";
    for (const [colour, line] of [
      ["rgba(0, 0, 0, 0.55)", bold ? 5 : 3],
      ["#ffe45c", bold ? 2.5 : 1.25],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.stroke(lines);
    }
  }

  /** Signs of marked points with their names; those off the slice are dashed and tell where the point is. */
  drawMarks(context, { plane, width, height }) {
    const shape = this.get("shape");
    const index = this.inside()[plane.fixed];
    context.save();
    this.get("mark_table").forEach(({ name, voxel, colour, shape: kind }, number) => {
      const x = ((shape[plane.column] - voxel[plane.column] - 0.5) / shape[plane.column]) * width;
      const y = ((shape[plane.row] - voxel[plane.row] - 0.5) / shape[plane.row]) * height;
      const here = Math.floor(voxel[plane.fixed] + 0.5);
      const off = here !== index;
      const sign = new Path2D();
      if (kind === "ring") sign.arc(x, y, 5.5, 0, 2 * Math.PI);
      else sign.rect(-8, -8, 16, 16); // around a ring
      const placed = new Path2D();
      const turn = kind === "diamond" ? 45 : 0;
      placed.addPath(sign, kind === "ring" ? undefined : new DOMMatrix().translate(x, y).rotate(turn));
      for (const [ink, line, dashes] of [
        ["#000", 3.5, []],
        [colour, 1.75, off ? [2.5, 2.5] : []],
      ]) {
        context.strokeStyle = ink;
        context.lineWidth = line;
        context.setLineDash(dashes);
        context.stroke(placed);
      }
      context.setLineDash([]);
      context.font = "600 11px system-ui, sans-serif";
      context.textAlign = "left";
      context.textBaseline = "middle";
      const text = off ? `${name}, ${AXES[plane.fixed]} = ${here}` : name;
      const long = context.measureText(text).width;
      const left = x + 9 + long < width ? x + 9 : Math.max(x - 9 - long, 2);
      this.writeText(context, text, left, y + (number % 2 ? 11 : -11), colour);
    });
    context.restore();
  }

  writeLetters(context, { plane, width, height }, bold) {
    if (Math.min(width, height) < 48) return; // a strip of a few voxels: letters would cover it
    context.font = `700 ${bold ? 17 : 13}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    const places = [
      [11, height / 2],
      [width - 11, height / 2],
      [width / 2, 12],
      [width / 2, height - 11],
    ];
    plane.letters.forEach((letter, k) => this.writeText(context, letter, ...places[k]));
  }

  writeText(context, text, x, y, colour = "#fff") {
    context.strokeStyle = "rgba(0, 0, 0, 0.85)";
    context.lineWidth = 3.5;
    context.strokeText(text, x, y);
    context.fillStyle = colour;
    context.fillText(text, x, y);
  }

  drawScale(context, { width, height, mmPerPixel }) {
    if (this.get("affine").length === 0 || width < 120 || height < 80) return;
    const length = barLength(width * mmPerPixel);
    const [x, y, long] = [10, height - 10, length / mmPerPixel];
    for (const [colour, line] of [
      ["rgba(0, 0, 0, 0.7)", 4],
      ["#fff", 2],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x + long, y);
      context.stroke();
    }
    context.font = "600 11px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    this.writeText(context, `${shortNumber(length)} mm`, x, y - 6);
  }

  // ---- text and controls that follow the traits ----

  updatePage() {
    const theme = this.get("theme");
    for (const name of ["auto", "light", "dark", "contrast"]) {
      this.root.classList.toggle(`sc-theme-${name}`, name === theme);
    }
    const voxel = this.inside();
    const shape = this.get("shape");
    for (const { plane, place, scroll } of this.pictures) {
      const [axis, last] = [plane.fixed, shape[plane.fixed] - 1];
      place.textContent = `${AXES[axis]} = ${voxel[axis]} of ${last}`;
      scroll.input.max = last;
      scroll.input.value = voxel[axis];
      scroll.input.disabled = last === 0;
    }
    if (this.windowing) this.updateWindow();
    if (this.blending) {
      this.blending.opacity.input.value = this.get("opacity");
      this.blending.opacity.value.textContent = `${Math.round(100 * this.get("opacity"))} %`;
      if (this.blending.style) this.blending.style.select.value = this.get("label_style");
    }
    if (this.legend) this.updateLegend();
    if (this.get("controls").includes("help")) {
      this.tick.contrast.checked = theme === "contrast";
      this.tick.smooth.checked = this.get("smooth");
    }
    if (this.ready()) this.updateReadout(voxel);
  }

  updateWindow() {
    const [low, high] = this.get("window");
    const { select, black, white, presets } = this.windowing;
    const unit = this.get("unit");
    for (const [control, value] of [
      [black, low],
      [white, high],
    ]) {
      control.input.value = value;
      control.value.textContent = `${shortNumber(value)} ${unit}`.trim();
    }
    const found = presets.findIndex(([, from, to]) => from === low && to === high);
    select.value = found < 0 ? "" : String(found);
  }

  updateLegend() {
    const visible = new Set(this.get("visible_labels"));
    for (const [id, box] of this.legend.boxes) box.checked = visible.has(id);
    this.legend.count.textContent = `${visible.size} of ${this.legend.boxes.size} shown`;
  }

  /** What is known of the voxel under the crosshair. */
  valueAt(voxel) {
    const [, ny, nz] = this.get("shape");
    const at = (voxel[0] * ny + voxel[1]) * nz + voxel[2];
    const { codes, labels, heat } = this.data;
    const row = labels && labels[at] > 0 ? this.data.label_table[labels[at] - 1] : null;
    return {
      value: this.greyText(codes[at]),
      label: labels ? (row ?? { name: "background" }) : null,
      heat: heat ? this.heatText(heat[at]) : null,
    };
  }

  /** A score; "≥" or "≤" where the colour scale ends before the scores do. */
  heatText(code) {
    if (code === 0) return "none";
    const [low, high] = this.data.heat_range;
    const [below, above] = this.data.heat_clipped;
    const beyond = code === 255 && above ? "≥ " : code === 1 && below ? "≤ " : "";
    return beyond + shortNumber(low + ((code - 1) / 254) * (high - low));
  }

  /** Intensity of a grey code in words; "≈" where the levels stand for values around them. */
  greyText(code) {
    const { levels } = this.data;
    const step = code + 1 < levels.length ? levels[code + 1] - levels[code] : levels[code] - levels[code - 1];
    const text = this.get("exact") ? shortNumber(levels[code]) : `≈ ${roundedTo(step, levels[code])}`;
    return `${text} ${this.get("unit")}`.trim();
  }

  updateReadout(voxel) {
    const { value, label, heat } = this.valueAt(voxel);
    const affine = this.get("affine");
    const mm = affine.length > 0 ? toMm(affine, voxel).map(oneDecimal) : null;
    this.speak([`voxel ${voxel.join(" ")}`, `value ${value}`, label && label.name].filter(Boolean).join(", "));
    if (!this.readout) return;
    const { fields } = this.readout;
    fields.voxel.field.textContent = voxel.join("  ");
    if (fields.mm) fields.mm.field.textContent = mm.join("  ");
    fields.value.field.textContent = value;
    fields.label.hidden = label === null;
    if (label) {
      const swatch = make("span", { className: "sc-swatch", hidden: !label.colour });
      swatch.style.backgroundColor = label.colour ?? "";
      fields.label.field.replaceChildren(swatch, label.name);
    }
    fields.heat.hidden = heat === null;
    if (heat !== null) fields.heat.field.textContent = heat;
  }

  /** For screen readers: once the crosshair rests, not at every step on the way. Silent until the reader acts. */
  speak(text) {
    clearTimeout(this.speaking);
    if (!this.root.contains(document.activeElement)) return;
    this.speaking = setTimeout(() => (this.spoken.textContent = text), 400);
  }
}

export default { render };
