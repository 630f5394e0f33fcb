// The endless grid of seeds: only the rows in sight exist.
import { byId, guarded, longPress, make, menu, paint } from "./dom.js";
import { showIn } from "./pictures.js";

const ROWS = 100000;
const GAP = 6;
export const LAST_SEED = 4294967295;

export class SeedGrid {
  constructor({ store, pictures, actions }) {
    Object.assign(this, { store, pictures, actions });
    this.list = byId("tiles");
    this.scroller = byId("scroller");
    this.tiles = new Map(); // position -> element
    this.order = null; // seeds sorted by score
    this.active = 0;
    this.wire();
    new ResizeObserver(() => this.layout()).observe(this.scroller);
    store.subscribe((screen) => this.follow(screen));
  }

  wire() {
    const size = byId("tile");
    size.addEventListener("input", () => (paint(size), this.layout()));
    paint(size);
    this.scroller.addEventListener("scroll", () => this.fill(), { passive: true });
    byId("jump").addEventListener("change", (event) => this.jump(Number(event.target.value)));
    byId("dice").addEventListener("click", () => this.random());
    byId("sort").addEventListener("change", (event) => guarded(() => this.sort(event.target.value)));
    this.list.addEventListener("click", (event) => this.click(event));
    this.list.addEventListener("contextmenu", (event) => this.context(event));
    longPress(this.list, (target, x, y) => this.tileOf({ target }) && this.openMenu(this.tileOf({ target }), x, y));
    this.list.addEventListener("keydown", (event) => this.key(event));
  }

  seedAt(position) {
    return this.order ? this.order[position] : this.first + position;
  }

  get count() {
    return this.order ? this.order.length : Math.min(this.columns * ROWS, LAST_SEED - this.first + 1);
  }

  random() {
    return this.jump(Math.floor(Math.random() * 2 ** 32));
  }

  jump(seed) {
    const first = Math.max(0, Math.min(LAST_SEED, Math.floor(seed) || 0));
    byId("jump").value = first;
    return guarded(() => this.store.change({ first, sort: "seed" }));
  }

  async sort(way) {
    await this.store.change({ sort: way });
  }

  follow(screen) {
    const key = [screen.level, screen.alpha, screen.snapshot].join();
    const from = [screen.first, screen.sort].join();
    if (this.from !== from) {
      this.first = screen.first;
      byId("jump").value = screen.first;
      byId("sort").value = screen.sort;
      this.order = null;
      this.from = from;
      this.active = 0;
      this.clear();
      this.scroller.scrollTop = 0;
      if (screen.sort === "score") guarded(() => this.loadOrder(from));
      this.layout();
    }
    if (this.key_of_pictures !== key) {
      this.key_of_pictures = key;
      clearTimeout(this.soon);
      this.soon = setTimeout(() => this.refresh(), 120);
    }
    for (const tile of this.tiles.values()) this.dress(tile);
  }

  async loadOrder(from) {
    const answer = await this.store.connection.ask("sort", { first: this.first }, ({ done }) => {
      this.list.setAttribute("aria-busy", done < 1);
    });
    this.list.removeAttribute("aria-busy");
    if (this.from !== from) return;
    this.order = answer.seeds;
    this.clear();
    this.layout();
  }

  layout() {
    const width = this.scroller.clientWidth - 16;
    if (width <= 0) return;
    const wish = Number(byId("tile").value);
    const columns = Math.max(2, Math.floor((width + GAP) / (wish + GAP)));
    const side = (width - GAP * (columns - 1)) / columns;
    if (columns !== this.columns || side !== this.side) {
      const top = this.columns ? Math.floor(this.scroller.scrollTop / (this.side + GAP)) * this.columns : 0;
      this.columns = columns;
      this.side = side;
      this.clear();
      this.list.style.height = `${Math.ceil(this.count / columns) * (side + GAP)}px`;
      this.scroller.scrollTop = Math.floor(top / columns) * (side + GAP);
    }
    this.list.style.height = `${Math.ceil(this.count / columns) * (side + GAP)}px`;
    this.fill();
  }

  clear() {
    this.pictures.forget([...this.tiles.keys()].map((position) => `grid:${position}`));
    this.tiles.clear();
    this.list.replaceChildren();
  }

  fill() {
    if (!this.columns || this.first === undefined) return;
    const height = this.side + GAP;
    const top = Math.max(0, Math.floor(this.scroller.scrollTop / height) - 1);
    const bottom = Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / height) + 1;
    const last = Math.min(bottom * this.columns, this.count);
    const gone = [...this.tiles.keys()].filter((position) => position < top * this.columns || position >= last);
    for (const position of gone) {
      this.tiles.get(position).parentElement.remove();
      this.tiles.delete(position);
    }
    this.pictures.forget(gone.map((position) => `grid:${position}`));
    for (let position = top * this.columns; position < last; position++) {
      if (!this.tiles.has(position)) this.add(position);
    }
  }

  add(position) {
    const seed = this.seedAt(position);
    const img = make("img", { alt: "", draggable: "false" });
    const tile = make("button", { type: "button", class: "tile", "data-seed": seed, "data-position": position, "aria-label": `Seed ${seed}`, tabindex: position === this.active ? 0 : -1 }, img, make("span", { class: "name" }, String(seed)));
    const item = make("li", {}, tile);
    const row = Math.floor(position / this.columns);
    item.style.width = `${this.side}px`;
    item.style.transform = `translate(${(position % this.columns) * (this.side + GAP)}px, ${row * (this.side + GAP)}px)`;
    this.list.append(item);
    this.tiles.set(position, tile);
    this.dress(tile);
    this.request(position, tile);
  }

  request(position, tile) {
    const { level, alpha, snapshot } = this.store.screen;
    const picture = { point: { seed: Number(tile.dataset.seed) }, level, alpha, snapshot };
    this.pictures.want(`grid:${position}`, picture, 2, (url, head) => showIn(tile.firstChild, url, head));
  }

  refresh() {
    for (const [position, tile] of this.tiles) this.request(position, tile);
  }

  // Marks and borders of a tile.
  dress(tile) {
    const seed = Number(tile.dataset.seed);
    const { stage, compare, marks } = this.store.screen;
    tile.setAttribute("aria-current", String(stage.z === undefined && stage.seed === seed));
    tile.classList.toggle("compared", Boolean(compare) && compare.z === undefined && compare.seed === seed);
    tile.querySelector(".mark")?.remove();
    const mark = marks[seed];
    if (mark !== undefined) tile.append(make("span", { class: mark ? "mark" : "mark no", title: mark ? "yes" : "no" }, mark ? "✓" : "✕"));
  }

  tileOf(event) {
    return event.target.closest(".tile");
  }

  click(event) {
    const tile = this.tileOf(event);
    if (!tile) return;
    const point = { seed: Number(tile.dataset.seed) };
    this.focusOn(Number(tile.dataset.position), false);
    if (this.marking) this.actions.mark(point.seed, !event.altKey && !event.shiftKey);
    else if (event.shiftKey) this.actions.compare(point);
    else this.actions.show(point);
  }

  context(event) {
    const tile = this.tileOf(event);
    if (!tile) return;
    event.preventDefault();
    this.openMenu(tile, event.clientX, event.clientY);
  }

  openMenu(tile, x, y) {
    const point = { seed: Number(tile.dataset.seed) };
    menu(x, y, [
      ["Show its family", "M", () => this.actions.family(point)],
      ["Compare with the stage", "Shift+click", () => this.actions.compare(point)],
      ["Add to the favourites", "F", () => this.actions.favour(point)],
      ["Mix with the stage", "", () => this.actions.mix(point)],
      ["Mark as yes", "Y", () => this.actions.mark(point.seed, true)],
      ["Mark as no", "N", () => this.actions.mark(point.seed, false)],
    ]);
  }

  focusOn(position, focus = true) {
    if (position < 0 || position >= this.count) return;
    const old = this.tiles.get(this.active);
    if (old) old.tabIndex = -1;
    this.active = position;
    const height = this.side + GAP;
    const top = Math.floor(position / this.columns) * height;
    if (focus && top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    if (focus && top + height > this.scroller.scrollTop + this.scroller.clientHeight - 16) this.scroller.scrollTop = top + height - this.scroller.clientHeight + 16;
    this.fill();
    const tile = this.tiles.get(position);
    if (!tile) return;
    tile.tabIndex = 0;
    if (focus) tile.focus({ preventScroll: true });
  }

  key(event) {
    const tile = this.tileOf(event);
    if (!tile || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: this.columns * 4, PageUp: -this.columns * 4 };
    const seed = Number(tile.dataset.seed);
    const acts = {
      f: () => this.actions.favour({ seed }), m: () => this.actions.family({ seed }), c: () => this.actions.compare({ seed }),
      y: () => this.actions.mark(seed, true), n: () => this.actions.mark(seed, false),
      ContextMenu: () => this.openMenu(tile, ...Object.values(tile.getBoundingClientRect().toJSON()).slice(0, 2)),
    };
    if (steps[event.key]) this.focusOn(Math.max(0, this.active + steps[event.key]));
    else if (acts[event.key]) acts[event.key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
