// The tray: favourites with notes, kept on disk; a click shows one, its menu edits it; exports.
import { button, byId, dialog, guarded, longPress, make, menu, toast } from "./dom.js";
import { showIn } from "./pictures.js";
import { nameOf } from "./points.js";

export class Favourites {
  constructor({ store, pictures, actions, connection }) {
    Object.assign(this, { store, pictures, actions, connection });
    this.list = make("ul", { class: "strip", "aria-label": "Favourites" });
    this.count = make("span", { class: "note" });
    this.exportButton = button("Export…", (event) => this.exportMenu(event), { "aria-haspopup": "menu", class: "quiet" });
    byId("tray").append(make("div", { class: "head" }, make("h2", {}, "Favourites"), this.count, this.exportButton), this.list);
    this.update(store.model.favourites);
  }

  // New favourites, of this tab or of another one.
  update({ entries, place, problem }) {
    this.entries = entries;
    this.count.textContent = entries.length || "";
    this.list.title = place;
    this.exportButton.hidden = !entries.length;
    this.pictures.forget(entries.map((entry) => `favourite:${entry.key}`));
    const items = entries.map((entry) => this.item(entry));
    const empty = problem || "Keep what you like: the heart under the stage, or F. Notes and pictures stay on this machine.";
    this.list.replaceChildren(...(items.length ? items : [make("li", { class: "empty" }, empty)]));
  }

  item(entry) {
    const img = make("img", { alt: "", draggable: "false" });
    const look = { level: entry.level || this.store.model.level, alpha: entry.alpha, snapshot: entry.snapshot };
    this.pictures.want(`favourite:${entry.key}`, { point: entry.point, ...look }, 3, (url, head) => showIn(img, url, head));
    const label = entry.note ? `${nameOf(entry.point)}: ${entry.note}` : nameOf(entry.point);
    const act = (event) => (event.shiftKey ? this.actions.compare(entry.point) : guarded(() => this.store.change({ stage: entry.point, ...look })));
    const tile = make("button", { type: "button", class: "tile", "aria-label": label, title: label, onclick: act, oncontextmenu: (event) => (event.preventDefault(), this.open(entry, event.clientX, event.clientY)) }, img);
    tile.addEventListener("keydown", (event) => {
      const box = tile.getBoundingClientRect();
      if (event.key === "ContextMenu") this.open(entry, box.left, box.top);
      if (event.key === "Delete") this.remove(entry);
    });
    longPress(tile, (target, x, y) => this.open(entry, x, y));
    return make("li", {}, tile, entry.note ? make("span", { class: "dot", title: entry.note }) : null);
  }

  open(entry, x, y) {
    menu(x, y, [
      ["Note…", "", () => this.editNote(entry)],
      ["Compare with the stage", "Shift+click", () => this.actions.compare(entry.point)],
      ["Mix with the stage", "", () => this.actions.mix(entry.point)],
      ["Add to the timeline", "", () => this.actions.keyframe(entry.point)],
      ["Remove", "Delete", () => this.remove(entry)],
    ]);
  }

  editNote(entry) {
    const text = make("textarea", { rows: 4, maxlength: 500, "aria-label": "Note" });
    text.value = entry.note;
    const element = dialog(`Note on ${nameOf(entry.point).toLowerCase()}`, text, make("p", { class: "row" }, button("Save the note", async () => {
      await this.act("note", { key: entry.key, note: text.value });
      element.close();
    }, { class: "main" })));
    text.focus();
  }

  async act(type, fields) {
    const answer = await guarded(() => this.connection.ask(type, fields));
    if (answer) this.store.adoptQuietly(answer);
    return answer;
  }

  async add(point) {
    if (await this.act("favour", { point })) toast("Kept among the favourites");
  }

  remove(entry) {
    return this.act("unfavour", { key: entry.key });
  }

  exportMenu(event) {
    const box = event.target.getBoundingClientRect();
    menu(box.left, box.top, [
      ["Pictures (zip of PNG)", "", () => this.actions.export("export", { way: "pngs" })],
      ["Latents file (for generate --latents)", "", () => this.actions.export("export", { way: "latents" })],
      ["Contact sheet (PNG)", "", () => this.actions.export("export", { way: "sheet" })],
    ]);
  }
}
