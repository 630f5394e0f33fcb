// The keyboard: one table for what keys do and for the sheet that says so.
import { dialog, make } from "./dom.js";

export class Keyboard {
  constructor(keys) {
    this.keys = keys; // [key, what it does, action, action at key up]
    addEventListener("keydown", (event) => this.down(event));
    addEventListener("keyup", (event) => this.find(event)?.[3]?.());
  }

  find(event) {
    if (event.target.closest?.("input:not([type=range]), textarea, select, dialog[open]") && event.key !== "Escape") return undefined;
    const control = event.ctrlKey || event.metaKey;
    const name = control ? `Ctrl+${event.shiftKey ? "Shift+" : ""}${event.key.toUpperCase()}` : event.key;
    return this.keys.find(([key]) => key.split(" ").includes(name) || (!control && key.split(" ").includes(name.toUpperCase()) && name.length === 1 && !event.shiftKey));
  }

  down(event) {
    if (event.altKey) return;
    const entry = this.find(event);
    if (!entry || (event.repeat && entry[3])) return;
    event.preventDefault();
    entry[2](event);
  }

  sheet() {
    if (document.querySelector("dialog[open]")) return;
    const rows = this.keys.flatMap(([key, text]) => [make("span", {}, ...key.split(" ").flatMap((name) => [make("kbd", {}, name), " "])), make("span", {}, text)]);
    const mouse = [["click", "a picture of the grid: to the stage"], ["Shift+click", "compare it with the stage: drag the line"], ["right click", "its menu: family, favourites, marks"], ["wheel, pinch", "zoom the stage; double click: in and out"], ["double click", "a slider: back to its middle"], ["drop", "a picture of pggan: back to its state; a photograph: find it"]];
    dialog("Keys and gestures", make("div", { class: "keys" }, ...rows), make("h3", {}, "Mouse and fingers"),
      make("div", { class: "keys" }, ...mouse.flatMap(([key, text]) => [make("kbd", {}, key), make("span", {}, text)])));
  }
}
