// Growth: level and alpha live, and the same picture at every level: what only a growing network has.
import { button, guarded, make, slider } from "./dom.js";
import { showIn } from "./pictures.js";

export class Growth {
  constructor({ store, pictures }) {
    Object.assign(this, { store, pictures });
    const [low, high] = store.model.levels;
    const single = low === high;
    this.low = low;
    this.high = high;
    this.level = slider({ label: "Level", min: low, max: high, value: high, show: (level) => `${2 ** level}×${2 ** level}`, moving: (level) => this.preview({ level, alpha: 1 }), settled: (level) => this.take({ level, alpha: 1 }) });
    this.alpha = slider({ label: "Alpha of the fade-in", min: 0, max: 100, value: 100, show: (value) => (value / 100).toFixed(2), moving: (value) => this.preview({ alpha: value / 100 }), settled: (value) => this.take({ alpha: value / 100 }) });
    this.figures = make("ul", { class: "growth", "aria-label": "The picture at every level" });
    this.play = button("▶ Grow", () => this.toggle(), { class: "main", "aria-pressed": "false" });
    this.element = make("div", {},
      make("h2", {}, "Growth"),
      make("p", { class: "note" }, single ? "This network has one level alone: it did not grow." : "The network began at 4×4 and learnt one level after the other. Each was faded in by alpha."),
      this.level.element, this.alpha.element,
      make("div", { class: "row" }, this.play, button("As trained", () => this.take({ level: store.model.level, alpha: store.model.alpha }))),
      this.figures);
    if (single) for (const part of [this.level.input, this.alpha.input, this.play]) part.disabled = true;
    store.events.colours.push(() => this.shown());
    store.subscribe((screen, { moving }) => this.follow(screen, moving));
  }

  preview(fields) {
    this.store.preview(fields);
  }

  take(fields) {
    return guarded(() => this.store.change(fields));
  }

  shown() {
    this.key = null;
    this.follow(this.store.screen, false);
  }

  follow(screen, moving) {
    this.level.set(screen.level);
    this.alpha.set(Math.round(screen.alpha * 100));
    this.alpha.input.disabled = screen.level === this.low;
    const key = JSON.stringify([screen.stage, screen.snapshot, screen.locked]);
    for (const item of this.figures.children) item.firstChild.setAttribute("aria-current", String(Number(item.dataset.level) === screen.level));
    if (moving || key === this.key || !this.element.checkVisibility()) return;
    this.key = key;
    if (!this.figures.children.length) this.figures.append(...this.levels().map((level) => this.figure(level)));
    for (const item of this.figures.children) {
      const level = Number(item.dataset.level);
      const img = item.querySelector("img");
      this.pictures.want(`level:${level}`, { point: screen.stage, level, alpha: 1, snapshot: screen.snapshot }, 3, (url, head) => showIn(img, url, head));
    }
    this.follow(screen, true);
  }

  levels() {
    return Array.from({ length: this.high - this.low + 1 }, (_, at) => this.low + at);
  }

  figure(level) {
    const tile = make("button", { type: "button", class: "tile", "aria-label": `Level ${2 ** level} by ${2 ** level}`, onclick: () => this.take({ level, alpha: 1 }) }, make("img", { alt: "", draggable: "false" }));
    return make("li", { "data-level": level }, tile, `${2 ** level}`);
  }

  // Grows from the lowest level to the end, a second a level, fading in as in training.
  toggle() {
    if (this.timer) return this.stop();
    const start = performance.now();
    this.play.setAttribute("aria-pressed", "true");
    const step = (now) => {
      const time = (now - start) / 1200;
      const level = Math.min(this.high, this.low + Math.ceil(time));
      if (time >= this.high - this.low) return this.stop();
      this.store.preview({ level, alpha: level === this.low ? 1 : Math.min(1, 1.4 * (time - (level - this.low - 1))) });
      this.timer = requestAnimationFrame(step);
    };
    this.timer = requestAnimationFrame(step);
  }

  stop() {
    cancelAnimationFrame(this.timer);
    this.timer = null;
    this.play.setAttribute("aria-pressed", "false");
    return this.take({ level: this.high, alpha: 1 });
  }
}
