// The tray: favourites with notes, kept on disk; a click shows one, the menu edits it.
import { button, byId, dialog, guarded, make, menu, toast } from "./dom.js";
import { showIn } from "./pictures.js";
import { nameOf } from "./points.js";

export class Favourites {
  constructor({ store, pictures, actions, connection }) {
    Object.assign(this, { store, pictures, actions, connection });
    this.entries = [];
    this.list = make("ul", { class: "strip", "aria-label": "Favourites" });
    this.count = make("span", { class: "note" });
    byId("tray").append(make("div", { class: "head" }, make("h2", {}, "Favourites"), this.count), this.list);
  }

  shown() {
    this.render();
  }

  add() {
    toast("favourites are not there yet", true);
  }

  render() {
    this.count.textContent = "";
    this.list.replaceChildren(make("li", { class: "empty" }, "♥"));
  }
}
