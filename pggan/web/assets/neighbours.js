// What a picture is near to: the training pictures beside it, and what D thinks of it.
import { button, guarded, make } from "./dom.js";

export class Neighbours {
  constructor({ store, connection }) {
    Object.assign(this, { store, connection });
    this.list = make("ul", { class: "few wide", "aria-label": "The nearest training pictures" });
    this.note = make("p", { class: "note" });
    this.score = make("p", { class: "judged" });
    this.find = button("Find the nearest", () => this.search(), { class: "main" });
    const { data, scores } = store.model;
    this.element = make("div", {}, make("h2", {}, "Nearest training pictures"),
      make("p", { class: "note" }, data ? "Compared by pixels at 32×32. A ratio far below 1 is a copy: 1 is the usual distance between two training pictures." : "The training pictures are not known here. Start with --data STORE, or open a run whose data are still there."),
      data ? this.find : null, this.note, this.list,
      make("h3", {}, "What D says"), this.score);
    this.score.textContent = scores ? "" : "This model file keeps no discriminator.";
    store.subscribe((screen, { moving }) => this.follow(screen, moving));
  }

  shown() {
    this.key = null;
    this.follow(this.store.screen, false);
  }

  follow(screen, moving) {
    const key = JSON.stringify([screen.stage, screen.level, screen.alpha, screen.snapshot]);
    if (moving || key === this.key || !this.element.checkVisibility()) return;
    this.key = key;
    this.list.replaceChildren();
    this.note.textContent = "";
    if (this.store.model.scores) this.judge(key);
    if (this.searched) this.search();
  }

  async judge(key) {
    const answer = await guarded(() => this.connection.ask("judge", { point: this.store.screen.stage }));
    if (!answer || key !== this.key) return;
    this.score.textContent = answer.score === null || answer.score === undefined ? "" : `Score ${answer.score.toFixed(2)}: more real to D than ${Math.round(100 * answer.better_than)} % of 64 seeds.`;
  }

  async search() {
    this.searched = true;
    const key = this.key;
    const answer = await guarded(() => this.connection.ask("near", { point: this.store.screen.stage }, ({ done, doing }) => {
      if (doing) this.note.textContent = `${doing}: ${Math.round(done * 100)} %`;
    }));
    if (!answer?.near || key !== this.key) return;
    this.note.textContent = `${answer.compared} of ${answer.count} pictures compared.`;
    this.list.replaceChildren(...answer.near.map(({ number, ratio, png }) => {
      const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
      const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
      const img = make("img", { alt: `Training picture ${number}`, src: url, onload: () => URL.revokeObjectURL(url) });
      return make("li", {}, make("span", { class: "tile" }, img), make("span", { class: ratio < 0.5 ? "ratio near" : "ratio" }, ratio.toFixed(2)));
    }));
  }
}
