// Two pictures in one: the other's feature maps from a level on, everywhere by a share or where a brush painted; and
// the family of two parents.
import { button, guarded, make, slider, toast } from "./dom.js";
import { showIn } from "./pictures.js";
import { nameOf } from "./points.js";

const SIDE = 16;

export class MixPanel {
  constructor({ store, pictures, actions, connection, stage, panels, choose }) {
    Object.assign(this, { store, pictures, actions, connection, stage, panels, choose });
    const [low, high] = store.model.levels;
    this.mask = new Float32Array(SIDE * SIDE);
    this.img = make("img", { alt: "", draggable: "false" });
    this.level = slider({ label: "From the level", min: low, max: high, value: Math.min(high, low + 2), show: (level) => `${2 ** level}×${2 ** level}`, moving: (level) => this.preview({ level }), settled: (level) => this.take({ level }) });
    this.share = slider({ label: "Share of the other", min: 0, max: 100, value: 100, show: (value) => `${value} %`, moving: (value) => this.preview({ share: value / 100 }), settled: (value) => this.take({ share: value / 100 }) });
    this.paintButton = button("Brush", () => this.paint(!this.painting), { "aria-pressed": "false", id: "brush" });
    this.size = slider({ label: "Size of the brush", min: 1, max: 6, step: 0.5, value: 2.5, moving: () => {}, settled: () => {} });
    this.title = make("p", { class: "note" });
    this.controls = make("div", {}, this.level.element, this.share.element,
      make("div", { class: "row" }, this.paintButton, button("Clear the mask", () => this.clearMask()), button("Swap", () => this.swap()), button("End the mix", () => this.end())),
      this.size.element);
    this.element = make("div", {}, make("h2", {}, "Mix two"),
      make("p", { class: "note" }, "The stage's picture up to a level, the other's feature maps from there: coarse shapes of one, fine ones of the other; or a region that you paint."),
      make("div", { class: "row other" }, make("span", { class: "tile" }, this.img), this.title),
      make("div", { class: "row" }, button("Take B of the comparison", () => this.fromCompare(), { id: "mix-compare" }), button("A random one", () => this.start({ seed: Math.floor(Math.random() * 2 ** 32) }), { id: "mix-random" })),
      this.controls, make("h3", {}, "Family of two"), make("p", { class: "note" }, "Nine children of the stage and the other: between them, each a little different."),
      button("Show the children", () => this.children(), { id: "children" }));
    this.wirePaint();
    store.subscribe((screen, { moving }) => this.follow(screen, moving));
  }

  get mix() {
    return this.store.screen.stage.mix;
  }

  start(point) {
    const { mix, ...other } = point;
    this.other = other;
    this.panels.show("mix");
    return this.put({ with: other, level: Number(this.level.input.value), share: Number(this.share.input.value) / 100 });
  }

  fromCompare() {
    const { compare } = this.store.screen;
    return compare ? this.start(compare) : toast("Compare with a picture first: Shift and a click in the grid", true);
  }

  put(mix) {
    return guarded(() => this.store.change({ stage: { ...this.store.screen.stage, mix } }));
  }

  preview(fields) {
    if (this.mix) this.store.preview({ stage: { ...this.store.screen.stage, mix: { ...this.mix, ...fields } } });
  }

  take(fields) {
    return this.mix ? this.put({ ...this.mix, ...fields }) : undefined;
  }

  swap() {
    if (!this.mix) return undefined;
    const { mix, ...stage } = this.store.screen.stage;
    return guarded(() => this.store.change({ stage: { ...mix.with, mix: { ...mix, with: stage } } }));
  }

  end() {
    const { mix, ...stage } = this.store.screen.stage;
    this.paint(false);
    return guarded(() => this.store.change({ stage }));
  }

  clearMask() {
    this.mask.fill(0);
    this.drawMask();
    if (!this.mix) return undefined;
    const { mask, ...mix } = this.mix;
    return this.put(mix);
  }

  async children() {
    const other = this.mix?.with ?? this.store.screen.compare;
    if (!other) return toast("Choose another picture first", true);
    const { mix, ...stage } = this.store.screen.stage;
    const answer = await guarded(() => this.connection.ask("children", { parents: [stage, other] }));
    if (answer) this.choose("Children of the two", "Nearer to the first parent above, to the second one below.", answer.points, (at) => `Child ${at + 1}`, "few nine");
    return undefined;
  }

  shown() {
    this.follow(this.store.screen, false);
  }

  follow(screen, moving) {
    const mix = screen.stage.mix;
    this.controls.hidden = !mix;
    if (!mix) return this.painting ? this.paint(false) : undefined;
    this.level.set(mix.level);
    this.share.set(Math.round(mix.share * 100));
    this.title.textContent = nameOf(mix.with);
    this.share.input.disabled = Boolean(mix.mask);
    const key = JSON.stringify([mix.with, screen.level]);
    if (moving || key === this.key) return undefined;
    this.key = key;
    this.pictures.want("mix:other", { point: mix.with, level: screen.level, alpha: screen.alpha, snapshot: screen.snapshot }, 3, (url, head) => showIn(this.img, url, head));
    return undefined;
  }

  paint(on) {
    this.painting = on;
    this.paintButton.setAttribute("aria-pressed", String(on));
    this.stage.paint.hidden = !on;
    if (!on) return;
    const bytes = this.mix?.mask ? Uint8Array.from(atob(this.mix.mask), (letter) => letter.charCodeAt(0)) : [];
    this.mask.fill(0);
    bytes.forEach((byte, at) => (this.mask[at] = byte / 255));
    this.drawMask();
  }

  wirePaint() {
    const canvas = this.stage.paint;
    canvas.width = canvas.height = SIDE;
    const stroke = (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      const box = canvas.getBoundingClientRect();
      this.dab(((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE, event.shiftKey || event.buttons === 2);
      this.preview({ mask: this.encoded() });
    };
    canvas.addEventListener("pointerdown", (event) => (canvas.setPointerCapture(event.pointerId), stroke(event), event.stopPropagation()));
    canvas.addEventListener("pointermove", stroke);
    canvas.addEventListener("pointerup", () => this.take({ mask: this.encoded() }));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  // A soft round dab; `erases` takes away.
  dab(x, y, erases) {
    const radius = Number(this.size.input.value);
    for (let at = 0; at < this.mask.length; at++) {
      const distance = Math.hypot((at % SIDE) + 0.5 - x, Math.floor(at / SIDE) + 0.5 - y);
      const strength = Math.max(0, Math.min(1, 1.5 - distance / radius));
      this.mask[at] = erases ? Math.min(this.mask[at], 1 - strength) : Math.max(this.mask[at], strength);
    }
    this.drawMask();
  }

  drawMask() {
    const canvas = this.stage.paint;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(SIDE, SIDE);
    this.mask.forEach((value, at) => pixels.data.set([255, 154, 108, 120 * value], 4 * at));
    context.putImageData(pixels, 0, 0);
  }

  encoded() {
    return btoa(String.fromCharCode(...this.mask.map((value) => Math.round(255 * value))));
  }
}
