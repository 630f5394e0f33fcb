// Through training: the same latents over all snapshots of a run; a run that still trains is followed.
import { button, guarded, make, slider } from "./dom.js";
import { showIn } from "./pictures.js";

const SHOWN = 9;
const ASK_EVERY = 4000;

export class Training {
  constructor({ store, pictures, connection }) {
    Object.assign(this, { store, pictures, connection, snapshots: [] });
    this.time = slider({ label: "Snapshot", min: 0, max: 1, value: 0, show: (at) => this.snapshots[at] ? `${this.snapshots[at].kimg} kimg` : "", moving: (at) => this.preview(at), settled: (at) => this.take(at) });
    this.play = button("▶ Play", () => this.toggle(), { class: "main", "aria-pressed": "false" });
    this.follows = make("input", { type: "checkbox" });
    this.other = make("select", { "aria-label": "Blend with the snapshot", onchange: () => this.blend() });
    this.share = slider({ label: "Share of the other snapshot", min: 0, max: 100, value: 0, show: (value) => `${value} %`, moving: () => {}, settled: () => this.blend() });
    this.grid = make("ul", { class: "few nine", "aria-label": "The same latents at this snapshot" });
    this.body = make("div", {}, this.time.element,
      make("div", { class: "row" }, this.play, button("The model that was opened", () => guarded(() => store.change({ snapshot: "" }))), make("label", { class: "field" }, this.follows, "follow the run")),
      this.grid, make("h3", {}, "Blend of two snapshots"), make("p", { class: "note" }, "The weights of both, in shares: often better than either."), this.other, this.share.element);
    this.none = make("p", { class: "note" }, "This model is a single file. Open a run directory (pggan explore RUN) to see its pictures through training.");
    this.element = make("div", {}, make("h2", {}, "Through training"), this.none, this.body);
    this.body.hidden = true;
    store.subscribe((screen, { moving }) => this.follow(screen, moving));
    setInterval(() => this.element.checkVisibility() && store.model.run && guarded(() => this.load()), ASK_EVERY);
  }

  async shown() {
    if (this.store.model.run) await guarded(() => this.load());
    this.key = null;
    this.follow(this.store.screen, false);
  }

  async load() {
    if (!this.connection.isOpen) return;
    const { snapshots } = await this.connection.ask("snapshots");
    if (snapshots.length === this.snapshots.length) return;
    const had = this.snapshots.length;
    this.snapshots = snapshots;
    this.none.hidden = snapshots.length > 1;
    this.body.hidden = snapshots.length < 2;
    this.time.input.max = snapshots.length - 1;
    this.time.set(this.index());
    this.other.replaceChildren(make("option", { value: "" }, "nothing"), ...snapshots.map(({ name, kimg }) => make("option", { value: name }, `${kimg} kimg`)));
    if (had && this.follows.checked) await this.take(snapshots.length - 1);
  }

  index() {
    const name = this.store.screen.snapshot.split("+")[0];
    const at = this.snapshots.findIndex((snapshot) => snapshot.name === name);
    return at < 0 ? this.snapshots.length - 1 : at;
  }

  preview(at) {
    this.store.preview({ snapshot: this.snapshots[at].name });
  }

  take(at) {
    return guarded(() => this.store.change({ snapshot: this.snapshots[at].name }));
  }

  blend() {
    const share = Number(this.share.input.value) / 100;
    const name = this.snapshots[this.index()].name;
    const snapshot = this.other.value && share ? `${name}+${this.other.value}@${share.toFixed(2)}` : name;
    return guarded(() => this.store.change({ snapshot }));
  }

  follow(screen, moving) {
    if (this.snapshots.length > 1) this.time.set(this.index());
    const key = JSON.stringify([screen.snapshot, screen.first, moving]);
    if (key === this.key || this.body.hidden || !this.element.checkVisibility()) return;
    this.key = key;
    if (!this.grid.children.length) this.grid.append(...Array.from({ length: SHOWN }, () => make("li", { class: "tile" }, make("img", { alt: "", draggable: "false" }))));
    [...this.grid.children].forEach((item, at) => {
      const picture = { point: { seed: screen.first + at }, snapshot: screen.snapshot, level: this.store.model.level, alpha: this.store.model.alpha, quality: moving ? "moving" : "still" };
      const show = (url, head) => showIn(item.firstChild, url, head);
      if (moving) this.pictures.stream(`training:${at}`, picture, show);
      else this.pictures.want(`training:${at}`, picture, 2, show);
    });
  }

  toggle() {
    if (this.timer) return this.stop();
    this.play.setAttribute("aria-pressed", "true");
    let at = this.index() >= this.snapshots.length - 1 ? 0 : this.index();
    this.timer = setInterval(() => {
      this.preview(at);
      if (++at >= this.snapshots.length) this.stop();
    }, 350);
    return undefined;
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.setAttribute("aria-pressed", "false");
    return this.take(this.index());
  }
}
