// Explorers without a kernel. A page holds <div class="live-explorer" data-explorer="NAME" data-from="FOLDER/">; when
// it comes near the screen, FOLDER/NAME.js is loaded, which holds the widgets' states and the answers that Python gave
// beforehand (tools/site/site_explorers.py). Nothing else is asked of anybody: pages opened as files work too.
(() => {
  const waiting = {}; // name -> [resolve, reject] of a script that is on its way
  const loaded = {}; // address -> promise of what it brought

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  window.medsslSite = {
    explorer: (text, name) => waiting[name](unpack(text)),
    modules: (text) => waiting.modules(unpack(text)),
  };

  function load(folder, name) {
    return (loaded[folder + name] ??= new Promise((resolve, reject) => {
      waiting[name] = resolve;
      const script = document.createElement("script");
      script.src = `${folder}${name}.js`;
      script.onerror = () => reject(new Error(`${name}.js cannot be loaded`));
      document.head.append(script);
    }));
  }

  // ---- models: all that a widget's script needs of a kernel's side ----

  class Model {
    constructor(state) {
      this.state = state;
      this.handlers = {};
    }
    get(name) {
      return this.state[name];
    }
    set(name, value) {
      this.state[name] = value;
      for (const handler of this.handlers[`change:${name}`] ?? []) handler();
    }
    on(event, handler) {
      (this.handlers[event] ??= []).push(handler);
    }
    off() {}
    save_changes() {}
    send() {}
  }

  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

  function revived(value) {
    if (typeof value?.bytes !== "string") return value;
    return new DataView(Uint8Array.from(atob(value.bytes), (letter) => letter.charCodeAt(0)).buffer);
  }

  function join([a, x, b, y], models) {
    const follow = (from, trait, to, other) =>
      models[from].on(`change:${trait}`, () => {
        const value = models[from].get(trait);
        if (!same(value, models[to].get(other))) models[to].set(other, value);
      });
    follow(a, x, b, y);
    follow(b, y, a, x);
  }

  /** Place of a choice among the recorded values; of a number the nearest, -1 if there is none. */
  function placeOf(value, values) {
    if (typeof value !== "number" || !values.every((known) => typeof known === "number")) {
      return values.findIndex((known) => same(known, value));
    }
    const away = values.map((known) => Math.abs(known - value));
    return away.indexOf(Math.min(...away));
  }

  /** Put the stored answer in place whenever the reader chooses. `say` tells of choices that were not recorded. */
  function answer(spec, models, say) {
    const values = spec.table.map(revived);
    let now = spec.start;
    const follow = () => {
      let next = 0;
      for (const { model, trait, values: known } of spec.inputs) {
        const place = placeOf(models[model].get(trait), known);
        if (place < 0) return say("This choice needs a notebook with a kernel.");
        next = next * known.length + place;
      }
      say("");
      const before = spec.answers[now];
      now = next;
      spec.answers[now].forEach((at, k) => {
        const [model, trait] = spec.varying[k];
        if (at !== before[k]) models[model].set(trait, values[at]);
      });
    };
    for (const { model, trait } of spec.inputs) models[model].on(`change:${trait}`, follow);
  }

  // ---- core controls ----

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  function written(value, format = "") {
    const digits = Number(/\.(\d)/.exec(format)?.[1] ?? 0);
    if (format.endsWith("%")) return `${(100 * value).toFixed(digits)} %`;
    return /f$/.test(format) ? value.toFixed(digits) : String(value);
  }

  function row(model, control, ...more) {
    return make("label", { className: "live-control" }, make("span", {}, model.get("description")), control, ...more);
  }

  function slider(model, trait, range, words) {
    const input = make("input", { type: "range", ...range });
    const output = make("output");
    const show = () => {
      input.value = model.get(trait);
      output.textContent = words(model.get(trait));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => model.set(trait, Number(input.value)));
    model.on(`change:${trait}`, show);
    const element = row(model, input, output);
    show();
    return [element, input];
  }

  const CONTROLS = {
    Dropdown(model, known) {
      const options = model
        .get("_options_labels")
        .map((text, k) => make("option", { value: k, disabled: known && !known.includes(k) }, text));
      const select = make("select", {}, ...options);
      const show = () => (select.value = model.get("index"));
      select.addEventListener("change", () => model.set("index", Number(select.value)));
      model.on("change:index", show);
      show();
      return [row(model, select), select];
    },
    SelectionSlider(model, known) {
      const labels = model.get("_options_labels");
      const all = known ?? labels.map((_, k) => k);
      const place = {
        get: (name) => (name === "place" ? all.indexOf(model.get("index")) : model.get(name)),
        set: (_, k) => model.set("index", all[k]),
        on: (_, handler) => model.on("change:index", handler),
      };
      return slider(place, "place", { min: 0, max: all.length - 1, step: 1 }, (k) => labels[all[k]]);
    },
    FloatSlider(model, known) {
      const ends = known ? { min: known[0], max: known.at(-1) } : { min: model.get("min"), max: model.get("max") };
      const step = known?.length > 1 ? Math.round(1e6 * (known[1] - known[0])) / 1e6 : model.get("step");
      return slider(model, "value", { ...ends, step }, (value) => written(value, model.get("readout_format")));
    },
    Checkbox(model) {
      const input = make("input", { type: "checkbox" });
      const show = () => (input.checked = model.get("value"));
      input.addEventListener("change", () => model.set("value", input.checked));
      model.on("change:value", show);
      show();
      return [make("label", { className: "live-control" }, input, make("span", {}, model.get("description"))), input];
    },
    Button(model) {
      const button = make("button", { type: "button" }, model.get("description"));
      return [button, button];
    },
    BoundedIntText(model) {
      const input = make("input", { type: "number", value: model.get("value") });
      return [row(model, input), input];
    },
  };
  CONTROLS.IntSlider = CONTROLS.FloatSlider;

  const SHOWN = {
    HTML(model) {
      const element = make("div", { className: "live-words" });
      const show = () => (element.innerHTML = model.get("value"));
      model.on("change:value", show);
      show();
      return element;
    },
    Image(model) {
      const image = make("img", { alt: "The curve for the choices above; the line above it says it in words" });
      const show = () => {
        URL.revokeObjectURL(image.src);
        image.src = URL.createObjectURL(new Blob([model.get("value")], { type: "image/png" }));
      };
      model.on("change:value", show);
      show();
      return image;
    },
  };

  // ---- one explorer ----

  const modules = new Map(); // name -> promise of a widget's script

  function moduleOf(name, { esm, css }) {
    if (!modules.has(name)) {
      document.head.append(make("style", {}, css));
      const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
      modules.set(name, import(url).then((module) => module.default));
    }
    return modules.get(name);
  }

  async function build(k, spec, models, shared) {
    const { kind, layout, children, module } = spec.models[k];
    const element = await (async () => {
      if (kind === "anywidget") {
        const holder = make("div", { className: "live-widget" });
        holder.model = models[k];
        (await moduleOf(module, shared[module])).render({ model: models[k], el: holder });
        return holder;
      }
      if (SHOWN[kind]) return SHOWN[kind](models[k]);
      if (CONTROLS[kind]) {
        const input = spec.inputs.find(({ model }) => model === k);
        const [control, part] = CONTROLS[kind](models[k], input?.values);
        part.disabled = !input;
        return control;
      }
      const inner = await Promise.all(children.map((child) => build(child, spec, models, shared)));
      return make("div", { className: kind === "HBox" ? "live-row" : "live-column" }, ...inner);
    })();
    for (const [name, value] of Object.entries(layout)) {
      if (!CONTROLS[kind]) element.style.setProperty(name.replaceAll("_", "-"), value);
    }
    return element;
  }

  async function start(place) {
    const { explorer, from } = place.dataset;
    const [spec, shared] = await Promise.all([load(from, explorer), load(from, "modules")]);
    const models = spec.models.map(({ state }) => {
      const values = Object.entries(state).map(([name, value]) => [name, revived(value)]);
      return new Model(Object.fromEntries(values));
    });
    const status = make("p", { className: "live-status", role: "status" });
    for (const link of spec.links) join(link, models);
    const inside = await build(0, spec, models, shared);
    answer(spec, models, (text) => (status.textContent = text));
    const later = spec.later.length ? ` In a notebook also: ${spec.later.join(", ")}.` : "";
    const words = `Live on this page, without a kernel.${later} ${spec.kernel}`;
    const note = make("p", { className: "live-note" }, words);
    place.append(inside, status, note);
    place.dataset.state = "live";
    const cell = place.closest(".cell_output") ?? place.parentElement;
    for (const picture of cell.querySelectorAll(":scope > img, :scope > p > img")) picture.hidden = true;
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        start(target).catch((error) => {
          target.dataset.state = "failed";
          const words = "The explorer does not run in this browser; its picture stands for it.";
          target.replaceChildren(make("p", { className: "live-note" }, words));
          console.error(error);
        });
      }
    },
    { rootMargin: "600px" },
  );
  for (const place of document.querySelectorAll(".live-explorer")) near.observe(place);
})();
