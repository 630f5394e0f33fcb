// The stage: the large picture, what it is compared with, its name and its latent.
import { button, byId, make } from "./dom.js";
import { showIn } from "./pictures.js";
import { detailsOf, nameOf } from "./points.js";
import { show } from "./photo.js";
import { Wipe, Zoom } from "./zoom.js";

export class Stage {
  constructor({ store, pictures, actions }) {
    Object.assign(this, { store, pictures, actions });
    this.build();
    this.zoom = new Zoom(this.view, this.frame);
    this.wipe = new Wipe(this.handle, this.frame, this.over);
    store.subscribe((screen, { moving }) => this.follow(screen, moving));
  }

  build() {
    this.img = make("img", { alt: "", draggable: "false", id: "picture" });
    this.over = make("img", { alt: "", draggable: "false" });
    this.handle = make("button", { type: "button", class: "wipe", role: "slider", "aria-label": "Wipe between the two pictures", "aria-valuemin": 0, "aria-valuemax": 100, hidden: true });
    this.a = make("span", { class: "badge a", hidden: true });
    this.b = make("span", { class: "badge b", hidden: true });
    this.paint = make("canvas", { class: "paint", hidden: true, "aria-label": "Mask: paint where the other picture shows" });
    this.frame = make("figure", { class: "frame" }, this.img, this.over, this.paint, this.handle, this.a, this.b);
    this.view = make("div", { class: "view" }, this.frame);
    this.title = make("span", { class: "title" });
    this.details = make("span", { class: "note", id: "details" });
    this.chips = make("span", { class: "row tight", id: "chips" });
    this.bars = make("canvas", { width: 512, height: 22 });
    this.latent = make("button", { type: "button", class: "latent", "aria-label": "The latent's numbers: copy them", title: "The latent: click to copy its numbers", onclick: () => this.actions.copyLatent(this.values) }, this.bars);
    this.compareButton = button("A/B", () => {}, { id: "ab", title: "Hold to see the other picture (B)" });
    const hold = (on) => this.hold(on);
    this.compareButton.addEventListener("pointerdown", () => hold(true));
    for (const name of ["pointerup", "pointerleave", "pointercancel", "blur"]) this.compareButton.addEventListener(name, () => hold(false));
    this.compareButton.addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && hold(true));
    this.compareButton.addEventListener("keyup", () => hold(false));
    this.clear = button("✕ B", () => this.actions.compare(null), { id: "end-compare", hidden: true, title: "End the comparison (X)", "aria-label": "End the comparison" });
    const actions = make("div", { class: "actions" },
      button("♥ Keep", () => this.actions.favour(this.store.screen.stage), { id: "keep", title: "Add to the favourites (F)" }),
      this.compareButton, this.clear,
      button("Family", () => this.actions.family(this.store.screen.stage), { title: "Twelve small rotations (M)" }),
      button("Save PNG", () => this.actions.save(), { id: "save", title: "PNG with everything needed to come back (S)" }),
      button("Copy as…", (event) => this.actions.copyAs(event), { id: "copy-as", "aria-haspopup": "menu" }));
    byId("stage").append(this.view, make("div", { class: "about" }, make("div", { class: "caption" }, this.title, this.details, this.chips), this.latent, actions));
  }

  // Shows the other picture (without one: the seed without its moves) as long as `on`.
  hold(on) {
    if (this.holding === on) return;
    this.holding = on;
    this.frame.classList.toggle("holding", on);
    const { stage, compare, level, alpha, snapshot } = this.store.screen;
    if (compare) {
      this.over.style.clipPath = on ? "none" : "";
      if (!on) this.wipe.set(this.wipe.at);
    } else if (on) {
      const { moves, mix, codes, ...bare } = stage;
      this.pictures.want("over", { point: bare, level, alpha, snapshot }, 0, (url, head) => {
        if (!this.holding) return URL.revokeObjectURL(url);
        this.over.style.clipPath = "none";
        return showIn(this.over, url, head);
      });
    } else {
      this.over.removeAttribute("src");
      this.overKey = null;
    }
  }

  follow(screen, moving) {
    const { stage, compare, level, alpha, snapshot } = screen;
    const look = { level, alpha, snapshot };
    const key = JSON.stringify([stage, look, screen.locked, moving]);
    if (key !== this.key) {
      this.key = key;
      const picture = { point: stage, ...look, quality: moving ? "moving" : "still" };
      const show = (url, head) => (showIn(this.img, url, head), this.say(head));
      if (moving) this.pictures.stream("stage", picture, show);
      else this.pictures.want("stage", picture, 0, show);
    }
    const overKey = compare ? JSON.stringify([compare, look, screen.locked]) : null;
    if (overKey !== this.overKey && !(this.overKey === "original" && !compare && this.beside.z === stage.z)) {
      this.overKey = overKey;
      if (compare) this.pictures.want("over", { point: compare, ...look }, 1, (url, head) => showIn(this.over, url, head));
      else this.over.removeAttribute("src");
      this.wipe.set(50);
    }
    const original = !compare && this.beside?.z === stage.z && stage.z !== undefined;
    if (original && !this.overKey) {
      this.overKey = "original";
      show(this.over, this.beside.png);
      this.b.textContent = "the original";
      this.a.textContent = "found";
    }
    for (const part of [this.handle, this.a, this.b]) part.hidden = !compare && !original;
    this.clear.hidden = !compare;
    this.title.textContent = nameOf(stage);
    this.img.alt = `Picture: ${nameOf(stage)}`;
    if (compare) {
      this.a.textContent = nameOf(stage);
      this.b.textContent = nameOf(compare);
      this.over.alt = `Compared with: ${nameOf(compare)}`;
    }
    if (!moving) this.about(stage, screen);
  }

  // Shows a moment of the timeline's film until the screen changes.
  film(pictures, picture) {
    this.key = null;
    pictures.stream("stage", picture, (url, head) => {
      showIn(this.img, url, head);
      this.details.textContent = `film, ${picture.time.toFixed(1)} s`;
    });
  }

  say(head) {
    const side = 2 ** head.level;
    const { stage, alpha, level } = this.store.screen;
    const fade = alpha < 1 && head.level === level ? ` fading in ${Math.round(alpha * 100)} %` : "";
    this.details.textContent = [`${side}×${side}${fade}${head.quality === "moving" && head.level < level ? " while moving" : ""}`, ...detailsOf(stage)].join(" · ");
  }

  async about(stage, screen) {
    const key = JSON.stringify([stage, screen.locked]);
    if (key === this.aboutKey) return;
    this.aboutKey = key;
    const answer = await this.store.connection.ask("about", { point: stage }).catch(() => null);
    if (!answer || key !== this.aboutKey) return;
    this.values = new Float32Array(Uint8Array.from(atob(answer.z), (c) => c.charCodeAt(0)).buffer);
    this.drawLatent();
    this.chips.replaceChildren(...answer.chips.map((chip) => make("span", { class: "chip", title: chip.title }, chip.text)));
  }

  // A bar for each number: up is positive.
  drawLatent() {
    const { width, height } = this.bars;
    const context = this.bars.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    context.clearRect(0, 0, width, height);
    const step = width / this.values.length;
    this.values.forEach((value, at) => {
      const size = Math.min(1, Math.abs(value) / 2.6) * (height / 2);
      context.fillStyle = style.getPropertyValue(value > 0 ? "--accent" : "--edge");
      context.fillRect(at * step, value > 0 ? height / 2 - size : height / 2, Math.max(0.6, step - 0.5), Math.max(0.5, size));
    });
  }
}
