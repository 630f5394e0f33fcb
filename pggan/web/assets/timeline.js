// The timeline: keyframes with durations and easing, a preview that plays, and the video.
import { button, guarded, make, paint, slider, toast } from "./dom.js";
import { showIn } from "./pictures.js";
import { nameOf } from "./points.js";

const EASINGS = [["linear", "even"], ["smooth", "soft"], ["in", "slow start"], ["out", "slow end"], ["hold", "hold"]];

export class Timeline {
  constructor({ store, pictures, actions, stage }) {
    Object.assign(this, { store, pictures, actions, stage });
    this.list = make("ol", { class: "frames", "aria-label": "Keyframes" });
    this.play = button("▶ Play", () => this.toggle(), { class: "main", "aria-pressed": "false" });
    this.scrub = slider({ label: "Time", min: 0, max: 1000, value: 0, show: (value) => `${((value / 1000) * this.seconds).toFixed(1)} s`, moving: (value) => this.show((value / 1000) * this.seconds), settled: (value) => this.show((value / 1000) * this.seconds, true) });
    this.loop = make("input", { type: "checkbox", onchange: () => this.take({ loop: this.loop.checked }) });
    this.path = make("select", { "aria-label": "Path between keyframes", onchange: () => this.take({ path: this.path.value }) }, make("option", { value: "slerp" }, "arcs"), make("option", { value: "spline" }, "one smooth curve"));
    this.format = make("select", { "aria-label": "Format" }, ...["mp4", "gif", "webp"].map((name) => make("option", {}, name)));
    this.fps = make("select", { "aria-label": "Frames a second" }, ...["15", "24", "30", "50", "60"].map((name) => make("option", { selected: name === "30" }, name)));
    this.format.addEventListener("change", () => { if (this.format.value === "gif" && this.fps.value === "60") this.fps.value = "50"; });
    this.files = [button("Export", () => this.export(), { id: "export-film" }), button("Keyframes file", () => this.actions.export("keyframes", {}, false), { class: "quiet" })];
    this.element = make("div", {},
      make("h2", {}, "Timeline"),
      make("p", { class: "note" }, "Pictures in turn, and the way between them. Preview here, then make the video."),
      make("div", { class: "row" }, button("+ Stage", () => this.add(store.screen.stage)), button("+ Favourites", () => this.addFavourites()), make("label", { class: "field" }, this.loop, "loop"), this.path),
      this.list,
      make("div", { class: "film" }, this.play, this.scrub.element),
      make("h3", {}, "Video"),
      make("div", { class: "row" }, this.format, make("label", { class: "field" }, this.fps, "fps"), ...this.files));
    store.subscribe((screen, { moving }) => this.follow(screen, moving));
  }

  get seconds() {
    const { frames, loop } = this.store.screen;
    return (loop ? frames : frames.slice(0, -1)).reduce((sum, frame) => sum + frame.seconds, 0);
  }

  take(fields) {
    return guarded(() => this.store.change(fields));
  }

  add(point) {
    if (point.mix) return toast("A mixed picture is of two latents, and cannot be a keyframe", true);
    return guarded(async () => {
      await this.store.change({ frames: [...this.store.screen.frames, { point, seconds: 1.5, easing: "smooth" }] });
      toast("Added to the timeline");
    });
  }

  addFavourites() {
    const points = this.actions.favourites().filter((entry) => !entry.point.mix).map((entry) => ({ point: entry.point, seconds: 1.5, easing: "smooth" }));
    return points.length ? this.take({ frames: [...this.store.screen.frames, ...points].slice(0, 64) }) : toast("There are no favourites that can be keyframes; mixed pictures cannot", true);
  }

  shown() {
    this.key = null;
    this.follow(this.store.screen, false);
  }

  follow(screen, moving) {
    this.loop.checked = screen.loop;
    this.path.value = screen.path;
    const enough = screen.frames.length > 1;
    for (const control of [this.play, this.scrub.input, ...this.files]) control.disabled = !enough;
    const key = JSON.stringify([screen.frames, screen.level, screen.snapshot]);
    if (moving || key === this.key || !this.element.checkVisibility()) return;
    this.key = key;
    const items = screen.frames.map((frame, at) => this.item(frame, at, screen));
    this.list.replaceChildren(...(items.length ? items : [make("li", { class: "note" }, "No keyframes yet. Two make a film.")]));
  }

  edit(at, fields) {
    return this.take({ frames: this.store.screen.frames.map((frame, n) => (n === at ? { ...frame, ...fields } : frame)) });
  }

  move(at, by) {
    const frames = [...this.store.screen.frames];
    const [frame] = frames.splice(at, 1);
    frames.splice(Math.max(0, at + by), 0, frame);
    return this.take({ frames });
  }

  item(frame, at, screen) {
    const img = make("img", { alt: "", draggable: "false" });
    this.pictures.want(`frame:${at}`, { point: frame.point, level: screen.level, alpha: screen.alpha, snapshot: screen.snapshot }, 3, (url, head) => showIn(img, url, head));
    const name = `Keyframe ${at + 1}`;
    const seconds = make("input", { type: "number", min: 0.1, max: 60, step: 0.1, value: frame.seconds, "aria-label": `${name}: seconds to the next one` });
    seconds.addEventListener("change", () => this.edit(at, { seconds: Math.max(0.1, Math.min(60, Number(seconds.value) || 1)) }));
    const easing = make("select", { "aria-label": `${name}: way to the next one` }, ...EASINGS.map(([value, text]) => make("option", { value, selected: value === frame.easing }, text)));
    easing.addEventListener("change", () => this.edit(at, { easing: easing.value }));
    const tile = make("button", { type: "button", class: "tile", "aria-label": `${name}: ${nameOf(frame.point)}`, onclick: () => this.actions.show(frame.point) }, img);
    const remove = () => this.take({ frames: this.store.screen.frames.filter((_, n) => n !== at) });
    return make("li", {}, tile, make("label", { class: "field" }, seconds, "s"), easing,
      make("span", { class: "row tight" },
        make("button", { type: "button", class: "quiet", "aria-label": `${name}: earlier`, disabled: at === 0, onclick: () => this.move(at, -1) }, "↑"),
        make("button", { type: "button", class: "quiet", "aria-label": `${name}: later`, disabled: at === screen.frames.length - 1, onclick: () => this.move(at, 1) }, "↓"),
        make("button", { type: "button", class: "quiet", "aria-label": `${name}: remove`, onclick: remove }, "✕")));
  }

  // Shows the film at a time on the stage, at a level that keeps up.
  show(time, still = false) {
    const { level, alpha, snapshot } = this.store.screen;
    this.stage.film(this.pictures, { time, level, alpha, snapshot, quality: still ? "still" : "moving" });
  }

  toggle() {
    if (this.timer) return this.stop();
    this.play.setAttribute("aria-pressed", "true");
    this.play.textContent = "■ Stop";
    const start = performance.now() - Number(this.scrub.input.value) * this.seconds;
    const step = (now) => {
      const time = Math.max(0, now - start) / 1000; // a frame may have begun before the click
      if (!this.store.screen.loop && time >= this.seconds) return this.stop();
      const at = time % this.seconds;
      this.scrub.input.value = (1000 * at) / this.seconds;
      this.scrub.input.previousElementSibling.textContent = `${at.toFixed(1)} s`;
      paint(this.scrub.input);
      this.show(at);
      this.timer = requestAnimationFrame(step);
    };
    this.timer = requestAnimationFrame(step);
    return undefined;
  }

  stop() {
    cancelAnimationFrame(this.timer);
    this.timer = null;
    this.play.setAttribute("aria-pressed", "false");
    this.play.textContent = "▶ Play";
    this.show((Number(this.scrub.input.value) / 1000) * this.seconds, true);
  }

  async export() {
    const file = await this.actions.export("film", { format: this.format.value, fps: Number(this.fps.value) });
    if (file?.frames) toast(`${file.name}: ${file.frames} frames`);
  }
}
