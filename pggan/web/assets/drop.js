// Pictures from outside: dropped, chosen or pasted. One that pggan made brings its state back.
import { byId, dialog, guarded, make, toast } from "./dom.js";

const MOST_BYTES = 25 * 1024 * 1024;

export class Drop {
  constructor({ store, photograph }) {
    Object.assign(this, { store, photograph });
    const shade = byId("drop");
    const chooser = byId("file");
    byId("open").addEventListener("click", () => chooser.click());
    chooser.addEventListener("change", () => (this.take(chooser.files[0]), (chooser.value = "")));
    addEventListener("dragover", (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      shade.hidden = false;
    });
    addEventListener("dragleave", (event) => event.relatedTarget || (shade.hidden = true));
    addEventListener("drop", (event) => {
      event.preventDefault();
      shade.hidden = true;
      this.take(event.dataTransfer.files[0]);
    });
    addEventListener("paste", (event) => event.clipboardData.files.length && this.take(event.clipboardData.files[0]));
  }

  take(file) {
    if (!file) return undefined;
    return guarded(async () => {
      if (file.size > MOST_BYTES) throw new Error("the picture has more than 25 MB");
      const response = await fetch("/upload", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error);
      if (answer.kind === "state") return this.restore(answer);
      return this.photograph(file, answer);
    });
  }

  async restore(answer) {
    await this.store.change(answer.screen);
    if (!answer.difference) return toast("Back to where that picture was made");
    return dialog("Made in another way", make("p", {}, answer.difference));
  }
}
