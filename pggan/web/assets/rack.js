// The rack: classes, codes and directions as sliders; rename, star, lock, reset; a slider taught by marks.
import { button, dialog, guarded, make, slider, toast } from "./dom.js";
import { showIn } from "./pictures.js";
import { moved } from "./points.js";

const SHARES = [-1, -0.5, 0, 0.5, 1]; // of a direction's reach
const ENOUGH_MARKS = 10;
const THUMB_LEVEL = 7; // 128x128: they are no larger on a dense screen
// An entry of a label that is a number: its place between the bounds, in so many steps (data/label_columns.py).
const LABEL_STEPS = 2 ** 30;

export class Rack {
  constructor({ store, pictures, connection, seeds, actions }) {
    Object.assign(this, { store, pictures, connection, seeds, directions: [], rows: new Map() });
    this.carry = make("input", { type: "checkbox" });
    this.inputs = make("div", { class: "inputs" });
    this.list = make("ul", { class: "rack", "aria-label": "Directions" });
    this.sources = make("div", { class: "row" });
    this.missing = make("p", { class: "note", id: "missing-sources" });
    this.progress = make("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress" });
    this.marking = button("Mark in the grid", () => this.toggleMarking(), { "aria-pressed": "false", id: "marking" });
    this.counts = make("span", { class: "note" });
    this.teach = button("Teach", () => this.teachSlider(), { id: "teach" });
    this.element = make("div", {},
      make("h2", {}, "Sliders"),
      this.inputs,
      make("div", { class: "row" }, button("Reset all", () => this.resetAll()), make("label", { class: "field" }, this.carry, "keep them for the next picture"), button("Save the directions", () => actions.export("directions", {}, false), { class: "quiet" })),
      make("h3", {}, "Find directions"), this.sources, this.missing, this.progress, this.list,
      make("h3", {}, "Teach a slider"),
      make("p", { class: "note" }, "Mark pictures of the grid: a click is yes, a click with Shift or Alt is no. Ten marks make a direction."),
      make("div", { class: "row" }, this.marking, this.teach, this.counts));
    this.observer = new IntersectionObserver((entries) => entries.forEach((entry) => entry.isIntersecting && this.thumbs(entry.target.dataset.id)));
    this.buildInputs();
    store.subscribe((screen, { moving }) => this.follow(screen, moving));
    store.events.colours.push(() => {
      this.rows.forEach((row) => (row.key = null));
      this.follow(store.screen, false);
    });
  }

  async load() {
    const answer = await guarded(() => this.connection.ask("rack"));
    if (!answer) return;
    this.update(answer);
    if (!answer.directions.length) await this.find("sefa"); // in closed form: there at once
  }

  update({ directions, sources }) {
    this.directions = directions;
    if (sources) {
      this.sources.replaceChildren(...sources.filter(({ why }) => !why).map(({ name, title }) => button(title, () => this.find(name), { "data-source": name })));
      this.missing.textContent = sources.filter(({ why }) => why).map(({ title, why }) => `${title}: ${why}.`).join(" ");
    }
    this.render();
  }

  async find(source) {
    this.progress.hidden = false;
    const answer = await guarded(() => this.connection.ask("find", { source }, ({ done }) => (this.progress.value = done)));
    this.progress.hidden = true;
    if (answer?.directions) this.update(answer);
  }

  // Selects and sliders for classes and structured codes.
  buildInputs() {
    const { labels, categorical, continuous } = this.store.model;
    this.settings = [];
    const labelled = (at, entry) => ({ ...this.store.screen.stage, classes: labels.map((_, n) => (n === at ? entry : this.store.screen.stage.classes?.[n] ?? null)) });
    labels.forEach((column, at) => {
      if (column.bounds) {
        const [low, high] = column.bounds;
        const entry = (value) => Math.round(((value - low) / (high - low)) * LABEL_STEPS);
        const middle = (low + high) / 2;
        const part = slider({ label: column.name, min: low, max: high, step: (high - low) / 200, value: middle, origin: low, show: (value) => String(Number(value.toPrecision(3))), moving: (value) => this.preview(labelled(at, entry(value))), settled: (value) => this.take(labelled(at, entry(value))) });
        this.settings.push((point) => part.set(point.classes?.[at] == null ? middle : low + ((high - low) * point.classes[at]) / LABEL_STEPS));
        this.inputs.append(part.element);
        return;
      }
      const select = make("select", { "aria-label": column.name }, make("option", { value: "" }, "the seed's own"), ...column.classes.map((name, value) => make("option", { value }, name)));
      select.addEventListener("change", () => {
        this.take(labelled(at, select.value === "" ? null : Number(select.value)));
      });
      this.settings.push((point) => (select.value = point.classes?.[at] ?? ""));
      this.inputs.append(make("label", { class: "field" }, column.name, select));
    });
    categorical.forEach((count, code) => {
      const select = make("select", { "aria-label": `Code ${code}` }, make("option", { value: "" }, "the seed's own"), ...Array.from({ length: count }, (_, value) => make("option", { value }, String(value))));
      select.addEventListener("change", () => this.take(withCode(this.store.screen.stage, code, select.value === "" ? null : Number(select.value))));
      this.settings.push((point) => (select.value = point.codes?.[code] ?? ""));
      this.inputs.append(make("label", { class: "field" }, `Code ${code}`, select));
    });
    for (let n = 0; n < continuous; n++) {
      const code = categorical.length + n;
      const part = slider({ label: `Code ${code}`, min: -2, max: 2, step: 0.02, value: 0, origin: 0, show: (value) => value.toFixed(2), moving: (value) => this.preview(withCode(this.store.screen.stage, code, value)), settled: (value) => this.take(withCode(this.store.screen.stage, code, value)) });
      this.settings.push((point) => part.set(point.codes?.[code] ?? 0));
      this.inputs.append(part.element);
    }
  }

  preview(stage) {
    this.store.preview({ stage });
  }

  take(stage) {
    return guarded(() => this.store.change({ stage }));
  }

  nameOf(direction) {
    return this.store.screen.names[direction.id] ?? direction.name;
  }

  render() {
    const { starred } = this.store.screen;
    const order = [...this.directions].sort((a, b) => starred.includes(b.id) - starred.includes(a.id));
    this.observer.disconnect();
    this.rows.clear();
    this.list.replaceChildren(...order.map((direction) => this.row(direction)));
    if (!order.length) this.list.replaceChildren(make("li", { class: "note" }, "None yet: find some above."));
    this.orderKey = this.rowsKey();
    this.follow(this.store.screen, false);
  }

  rowsKey() {
    const { starred, names } = this.store.screen;
    return JSON.stringify([this.directions.map(({ id }) => id), starred, names]);
  }

  row(direction) {
    const name = this.nameOf(direction);
    const reach = direction.reach ?? 25;
    const part = slider({ label: name, min: -reach, max: reach, step: reach / 100, value: 0, origin: 0, show: (value) => `${value > 0 ? "+" : ""}${value.toFixed(1)}${direction.unit ?? "°"}`, moving: (value) => this.preview(moved(this.store.screen.stage, direction.id, value)), settled: (value) => this.take(moved(this.store.screen.stage, direction.id, value)) });
    part.element.firstChild.title = direction.note;
    const toggle = (field, symbol, text) => make("button", { type: "button", class: "quiet", "data-toggle": field, "aria-label": `${text} ${name}`, title: text, onclick: () => this.toggle(field, direction.id) }, symbol);
    const star = toggle("starred", icon("m12 4 2.500 5.200 5.700.8-4.100 4 1 5.700-5.100-2.700-5.100 2.700 1-5.700-4.100-4 5.700-.8z"), "Star");
    const lock = toggle("locked", icon("M6 11h12v9H6zM8.500 11V8a3.500 3.500 0 0 1 7 0v3"), "Lock: keep the others orthogonal to");
    const rename = make("button", { type: "button", class: "quiet", "aria-label": `Rename ${name}`, title: "Rename", onclick: () => this.rename(direction) }, "✎");
    const reset = make("button", { type: "button", class: "quiet", "aria-label": `Reset ${name}`, title: "Reset", onclick: () => this.take(moved(this.store.screen.stage, direction.id, 0)) }, "↺");
    const thumbs = SHARES.map((share) => {
      const amount = share * reach;
      return make("button", { type: "button", class: "tile", tabindex: -1, "aria-label": `${name} ${amount}`, onclick: () => this.take(moved(this.store.screen.stage, direction.id, amount)) }, make("img", { alt: "", draggable: "false" }));
    });
    const item = make("li", { "data-id": direction.id }, make("div", { class: "row tight tools" }, star, lock, rename, reset), part.element, make("div", { class: "thumbs" }, ...thumbs));
    this.rows.set(direction.id, { part, item, star, lock, thumbs, reach, key: null });
    this.observer.observe(item);
    return item;
  }

  toggle(field, id) {
    const list = this.store.screen[field];
    return guarded(() => this.store.change({ [field]: list.includes(id) ? list.filter((other) => other !== id) : [...list, id] }));
  }

  rename(direction) {
    const input = make("input", { type: "text", maxlength: 80, "aria-label": "Name" });
    input.value = this.nameOf(direction);
    const save = async () => {
      await guarded(() => this.store.change({ names: { ...this.store.screen.names, [direction.id]: input.value.trim() || direction.name } }));
      element.close();
    };
    const element = dialog("Rename the slider", make("p", { class: "row" }, input, button("Rename", save, { class: "main" })));
    input.addEventListener("keydown", (event) => event.key === "Enter" && save());
    input.select();
  }

  resetAll() {
    const { moves, codes, classes, ...rest } = this.store.screen.stage;
    return this.take(rest);
  }

  shown() {
    if (!this.directions.length && !this.loading) this.loading = this.load();
    this.follow(this.store.screen, false);
  }

  follow(screen, moving) {
    if (this.orderKey !== undefined && this.orderKey !== this.rowsKey()) return this.render();
    for (const set of this.settings) set(screen.stage);
    for (const [id, row] of this.rows) {
      row.part.set(screen.stage.moves?.[id] ?? 0);
      row.star.setAttribute("aria-pressed", String(screen.starred.includes(id)));
      row.lock.setAttribute("aria-pressed", String(screen.locked.includes(id)));
    }
    const marks = Object.values(screen.marks);
    const yes = marks.filter(Boolean).length;
    this.counts.textContent = marks.length ? `${yes} yes, ${marks.length - yes} no` : "";
    this.teach.disabled = marks.length < ENOUGH_MARKS || yes === 0 || yes === marks.length;
    if (moving || !this.element.checkVisibility()) return undefined;
    const box = this.element.parentElement.getBoundingClientRect();
    for (const [id, row] of this.rows) {
      const place = row.item.getBoundingClientRect();
      if (place.bottom > box.top && place.top < box.bottom) this.thumbs(id);
    }
    return undefined;
  }

  thumbs(id) {
    const row = this.rows.get(id);
    const { stage, level, alpha, snapshot, locked } = this.store.screen;
    const key = JSON.stringify([stage, level, alpha, snapshot, locked]);
    if (!row || row.key === key) return;
    row.key = key;
    const small = Math.max(this.store.model.levels[0], Math.min(level, THUMB_LEVEL));
    row.thumbs.forEach((thumb, at) => {
      const point = moved(stage, id, SHARES[at] * row.reach);
      this.pictures.want(`thumb:${id.slice(0, 40)}:${at}`, { point, level: small, alpha: small === level ? alpha : 1, snapshot, quality: "still" }, 4, (url, head) => showIn(thumb.firstChild, url, head));
    });
  }

  toggleMarking() {
    this.seeds.marking = !this.seeds.marking;
    this.marking.setAttribute("aria-pressed", String(this.seeds.marking));
    document.body.classList.toggle("marking", this.seeds.marking);
  }

  teachSlider() {
    const input = make("input", { type: "text", maxlength: 80, value: "mine", "aria-label": "Name of the slider" });
    const teach = async () => {
      element.close();
      const answer = await guarded(() => this.connection.ask("teach", { name: input.value.trim() || "mine" }));
      if (!answer?.directions) return;
      this.update(answer);
      toast(answer.said);
      this.rows.get(answer.taught)?.item.scrollIntoView({ block: "center" });
    };
    const element = dialog("What do the pictures marked yes have?", make("p", { class: "row" }, input, button("Teach", teach, { class: "main" })));
    input.select();
  }
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

function withCode(point, code, value) {
  const codes = { ...point.codes, [code]: value };
  if (value === null) delete codes[code];
  const { codes: _, ...rest } = point;
  return Object.keys(codes).length ? { ...rest, codes } : rest;
}
