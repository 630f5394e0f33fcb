// A photograph: cut out by points that can be dragged, searched for with a live preview, then a latent like any other.
import { button, guarded, make, slider, toast } from "./dom.js";

const NAMES = ["left eye", "right eye", "left corner of the mouth", "right corner of the mouth"];
const GUESS = [[0.4, 0.45], [0.6, 0.45], [0.43, 0.66], [0.57, 0.66]];

export class Photo {
  constructor({ store, connection, panels, stage }) {
    Object.assign(this, { store, connection, panels, stage });
    this.picture = make("img", { alt: "The photograph", draggable: "false" });
    this.handles = NAMES.map((name, at) => this.handle(name, at));
    this.board = make("div", { class: "photo" }, this.picture, ...this.handles);
    this.crop = make("img", { alt: "What is searched for", class: "crop" });
    this.preview = make("img", { alt: "What has been found so far", class: "crop" });
    this.whole = make("input", { type: "checkbox", onchange: () => this.align() });
    this.steps = slider({ label: "Steps of the search", min: 100, max: 1500, step: 100, value: 400, settled: () => {} });
    this.start = button("Find it", () => this.search(), { class: "main", id: "find-photo" });
    this.stop = button("Stop", () => this.connection.tell("cancel", { job: this.job }), { hidden: true });
    this.progress = make("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress of the search" });
    this.note = make("p", { class: "note", role: "status" });
    this.hint = make("p", { class: "note" });
    this.body = make("div", { hidden: true },
      this.hint, this.board,
      make("label", { class: "field" }, this.whole, "it is cut out already: take the square in the middle"),
      make("div", { class: "pair" }, make("figure", {}, this.crop, make("figcaption", {}, "searched for")), make("figure", {}, this.preview, make("figcaption", {}, "found"))),
      this.steps.element, make("div", { class: "row" }, this.start, this.stop), this.progress, this.note);
    const open = button("Open a photograph", () => document.getElementById("file").click());
    this.element = make("div", {}, make("h2", {}, "Your photograph"),
      make("p", { class: "note" }, "Drop a photograph anywhere on the page: its latent is searched for, here on this machine; nothing is sent away. Use pictures of people who agree to it."),
      make("div", { class: "row" }, open), this.body);
  }

  open(file, { key, width, height, points, why }) {
    Object.assign(this, { key, width, height });
    if (this.picture.src) URL.revokeObjectURL(this.picture.src);
    this.picture.src = URL.createObjectURL(file);
    this.board.style.width = `min(100%, ${(320 * width) / height}px)`;
    this.points = points ?? GUESS.map(([x, y]) => [x * width, y * height]);
    this.body.hidden = false;
    this.preview.removeAttribute("src");
    this.note.textContent = "";
    this.hint.textContent = points ? "The points lie where a face was found. Drag them where they are not at the eyes and the corners of the mouth." : `The points are a guess: ${why}. Drag them to the eyes and the corners of the mouth.`;
    this.place();
    this.panels.show("photo");
    return this.align();
  }

  handle(name, at) {
    const handle = make("button", { type: "button", class: "point", "aria-label": name, title: name });
    handle.addEventListener("pointerdown", (event) => (handle.setPointerCapture(event.pointerId), event.preventDefault()));
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = this.picture.getBoundingClientRect();
      this.move(at, ((event.clientX - box.left) / box.width) * this.width, ((event.clientY - box.top) / box.height) * this.height);
    });
    handle.addEventListener("pointerup", () => this.align());
    handle.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      const step = this.width / 150;
      this.move(at, this.points[at][0] + by[0] * step, this.points[at][1] + by[1] * step);
      this.align();
    });
    return handle;
  }

  move(at, x, y) {
    this.points[at] = [Math.max(0, Math.min(this.width, x)), Math.max(0, Math.min(this.height, y))];
    this.place();
  }

  place() {
    this.handles.forEach((handle, at) => {
      handle.style.left = `${(100 * this.points[at][0]) / this.width}%`;
      handle.style.top = `${(100 * this.points[at][1]) / this.height}%`;
    });
  }

  request() {
    this.handles.forEach((handle) => (handle.hidden = this.whole.checked));
    return { key: this.key, points: this.whole.checked ? null : this.points };
  }

  async align() {
    const answer = await guarded(() => this.connection.ask("align", this.request()));
    if (answer) show(this.crop, answer.png);
  }

  async search() {
    const work = this.connection.ask("project", { ...this.request(), steps: Number(this.steps.input.value) }, (event) => {
      this.progress.value = event.done;
      if (!event.preview) return;
      show(this.preview, event.preview);
      this.note.textContent = `${Math.round(100 * event.done)} %, ${event.psnr.toFixed(1)} dB`;
    });
    this.job = work.job;
    this.start.disabled = true;
    this.stop.hidden = this.progress.hidden = false;
    const answer = await guarded(() => work);
    this.start.disabled = false;
    this.stop.hidden = this.progress.hidden = true;
    if (!answer?.point) {
      this.note.textContent = "Stopped; nothing was changed.";
      return;
    }
    this.note.textContent = `Found to ${answer.psnr.toFixed(1)} dB. The line on the stage parts it from the original.`;
    this.stage.beside = { z: answer.point.z, png: answer.png };
    await guarded(() => this.store.change({ stage: answer.point, compare: null }));
    toast("Found: now a picture like any other");
  }
}

// Shows a PNG in base64.
export function show(img, png) {
  const old = img.src;
  img.src = URL.createObjectURL(new Blob([Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0))], { type: "image/png" }));
  if (old.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(old), 500);
}
