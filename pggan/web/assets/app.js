// Starts the page: connects, makes the parts, and says what each action does.
import { Connection } from "./connection.js";
import { button, byId, copy, dialog, guarded, make, menu, toast } from "./dom.js";
import { Drop } from "./drop.js";
import { Favourites } from "./favourites.js";
import { Growth } from "./growth.js";
import { Keyboard } from "./keyboard.js";
import { MixPanel } from "./mix.js";
import { Neighbours } from "./neighbours.js";
import { Panels } from "./panels.js";
import { Photo } from "./photo.js";
import { Pictures, showIn } from "./pictures.js";
import { isPlain, nameOf } from "./points.js";
import { Rack } from "./rack.js";
import { LAST_SEED, SeedGrid } from "./seeds.js";
import { Stage } from "./stage.js";
import { Store, screenOfLink } from "./store.js";
import { Timeline } from "./timeline.js";
import { Training } from "./training.js";

const connection = new Connection();
const store = new Store(connection);
const pictures = new Pictures(connection);
pictures.onError = (text) => toast(text, true);
const panels = new Panels();
const parts = { store, pictures, panels, connection };

const actions = {
  // A new picture; with "keep them" the sliders stay where they are.
  show(point) {
    const { moves } = store.screen.stage;
    const stage = parts.rack?.carry.checked && moves && isPlain(point) ? { ...point, moves } : point;
    return guarded(() => store.change({ stage }));
  },
  compare: (point) => guarded(() => store.change({ compare: point })),
  mark(seed, yes) {
    const { [seed]: old, ...others } = store.screen.marks;
    return guarded(() => store.change({ marks: old === yes ? others : { ...others, [seed]: yes } }));
  },
  favour: (point) => parts.favourites.add(point),
  mix: (point) => parts.mix?.start(point),
  async family(point) {
    const answer = await guarded(() => connection.ask("family", { point }));
    if (answer) choose(`The family of ${nameOf(point).toLowerCase()}`, "Twelve latents 15 degrees away, in random directions.", [point, ...answer.points], (at) => (at ? `Relative ${at}` : "Itself"));
  },
  async save() {
    const { stage } = store.screen;
    await actions.export("save", { point: stage }, false);
  },
  // Makes a file and hands it to the browser; what takes longer shows its progress and can be cancelled.
  async export(type, fields, shows = true) {
    const bar = make("progress", { max: 1, value: 0, "aria-label": "Progress" });
    const work = connection.ask(type, fields, ({ done }) => (bar.value = done));
    const box = shows && dialog("Exporting", bar, make("p", { class: "row" }, button("Cancel", () => connection.tell("cancel", { job: work.job }))));
    const file = await guarded(() => work);
    if (box) box.close();
    if (file?.file) make("a", { href: file.file, download: file.name }).click();
    return file;
  },
  favourites: () => parts.favourites.entries,
  keyframe: (point) => parts.timeline?.add(point),
  copyLatent: (values) => values && copy(JSON.stringify([...values].map((value) => Number(value.toPrecision(7)))), "The latent"),
  async copyAs(event) {
    const box = event.target.getBoundingClientRect();
    const recipe = await guarded(() => connection.ask("recipe", { point: store.screen.stage }));
    if (!recipe) return;
    menu(box.left, box.top - 90, [["Command", "", () => copy(recipe.command, "The command")], ["Python", "", () => copy(recipe.python, "The Python code")], ["Show both", "", () => dialog("Make this picture again", make("h3", {}, "Command"), make("pre", { tabindex: 0 }, recipe.command), make("h3", {}, "Python"), make("pre", { tabindex: 0 }, recipe.python))]]);
  },
};
parts.actions = actions;

// A dialog of pictures: a click shows one on the stage.
function choose(title, note, points, nameAt, style = "few") {
  const list = make("ul", { class: style });
  const { level, alpha, snapshot } = store.screen;
  const element = dialog(title, make("p", { class: "note" }, note), list);
  list.append(...points.map((point, at) => {
    const img = make("img", { alt: "", draggable: "false" });
    pictures.want(`choose:${at}`, { point, level, alpha, snapshot }, 1, (url, head) => showIn(img, url, head));
    const act = (event) => (event.shiftKey ? actions.compare(point) : actions.show(point), element.close());
    return make("li", {}, make("button", { type: "button", class: "tile", "aria-label": nameAt(at), onclick: act }, img));
  }));
}
parts.choose = choose;

function keys() {
  const stage = parts.stage;
  const step = (by) => () => actions.show({ seed: Math.max(0, Math.min(LAST_SEED, (store.screen.stage.seed ?? 0) + by)) });
  return new Keyboard([
    ["?", "this sheet", () => parts.keyboard.sheet()],
    ["Ctrl+Z", "undo", () => guarded(() => store.undo())],
    ["Ctrl+Shift+Z Ctrl+Y", "redo", () => guarded(() => store.redo())],
    ["[ ,", "the seed before", step(-1)],
    ["] .", "the next seed", step(1)],
    ["R", "a random place of the grid", () => parts.seeds.random()],
    ["G", "to the grid; arrows move, Enter shows, C compares, Y and N mark", () => parts.seeds.focusOn(parts.seeds.active)],
    ["B", "hold: the other picture, or the one without moves", () => stage.hold(true), () => stage.hold(false)],
    ["X", "end the comparison", () => actions.compare(null)],
    ["F", "add to the favourites", () => actions.favour(store.screen.stage)],
    ["M", "its family", () => actions.family(store.screen.stage)],
    ["S", "save as PNG", () => actions.save()],
    ["L", "copy a link to this state", () => byId("link").click()],
    ["+ =", "zoom in", () => stage.zoom.to(stage.zoom.scale * 1.5)],
    ["-", "zoom out", () => stage.zoom.to(stage.zoom.scale / 1.5)],
    ["0", "the whole picture", () => stage.zoom.to(1)],
    ["1 2 3 4 5 6 7 8 9", "tools by number", (event) => panels.showNumber(Number(event.key) - 1)],
    ["T", "dark or light", () => byId("theme").click()],
  ]);
}

function toolbar() {
  byId("undo").addEventListener("click", () => guarded(() => store.undo()));
  byId("redo").addEventListener("click", () => guarded(() => store.redo()));
  byId("help").addEventListener("click", () => parts.keyboard.sheet());
  byId("link").addEventListener("click", () => copy(location.href, "The link to this state"));
  byId("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    parts.stage.values && parts.stage.drawLatent();
  });
  const depth = () => {
    byId("undo").disabled = !store.depth.undo;
    byId("redo").disabled = !store.depth.redo;
  };
  store.notifyDepth = depth;
  store.subscribe(depth);
}

function describe(model) {
  const size = model.parameters > 1e6 ? `${(model.parameters / 1e6).toFixed(1)}M` : `${Math.round(model.parameters / 1e3)}k`;
  const truncated = model.truncation < 1 ? ` · truncation ${model.truncation}` : "";
  byId("model").replaceChildren(make("b", {}, model.name), ` · ${model.resolution}×${model.resolution} · ${size} weights · ${model.device}${truncated}`);
  byId("model").title = model.attribution;
  document.title = `${model.name} · pggan explore`;
  byId("sort-field").hidden = !model.scores;
}

function build() {
  describe(store.model);
  parts.stage = new Stage(parts);
  parts.seeds = new SeedGrid(parts);
  parts.favourites = new Favourites(parts);
  parts.growth = new Growth(parts);
  parts.rack = new Rack(parts);
  parts.mix = new MixPanel(parts);
  parts.photo = new Photo(parts);
  parts.training = new Training(parts);
  parts.timeline = new Timeline(parts);
  parts.neighbours = new Neighbours(parts);
  panels.add("seeds", "Seeds");
  panels.add("rack", "Sliders", parts.rack);
  panels.add("growth", "Growth", parts.growth);
  panels.add("mix", "Mix", parts.mix);
  panels.add("training", "Training", parts.training);
  panels.add("photo", "Photo", parts.photo);
  panels.add("timeline", "Timeline", parts.timeline);
  panels.add("neighbours", "Nearest", parts.neighbours);
  panels.add("tray", "Favourites");
  panels.show(matchMedia("(max-width: 819px), (max-height: 500px)").matches ? "seeds" : "rack");
  parts.keyboard = keys();
  toolbar();
  parts.photograph = (file, answer) => parts.photo.open(file, answer);
  parts.drop = new Drop(parts);
  connection.onEvent = (event) => events[event.event]?.(event);
}

const events = {
  favourites: (event) => parts.favourites.update(event.favourites),
  rack: (event) => parts.rack.update(event),
  colours: () => store.events.colours.forEach((call) => call()),
};

let lost = null;
connection.onOpen = async () => {
  lost?.close();
  lost = null;
  pictures.reset();
  const first = store.model === null;
  const answer = await guarded(() => connection.ask("hello", { screen: first ? screenOfLink() : store.screen })) ?? await guarded(() => connection.ask("hello"));
  if (!answer) return;
  store.model = answer.model;
  store.first ??= answer.first;
  store.adopt(answer);
  if (first) build();
  document.body.dataset.ready = "true";
};
connection.onLost = (reason) => {
  if (lost || !store.model && !reason) return;
  lost = dialog("The connection is lost", make("p", {}, reason || "The server does not answer. Start `pggan explore` again; with the same --port and --token this page goes on by itself."), button("Reload", () => location.reload()));
};
// the token has done its work: the cookie stands for it
if (location.search) history.replaceState(null, "", location.pathname + location.hash);
addEventListener("hashchange", () => guarded(async () => { const screen = screenOfLink(); if (screen) await store.change({ ...store.first, ...screen }); }));
