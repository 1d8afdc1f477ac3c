// The camera-trap browser in the web browser; browser.py has the traits and answers the messages.

const MARKS = { keep: "✓", reject: "✕" };
const RATINGS = { good: "●", check: "▲", doubtful: "▼" }; // told apart without colour
const VERDICTS = { k: "keep", r: "reject", u: "" };
const VIEWS = { g: "grid", s: "sequence", p: "picture" };
const ARROWS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 };
const TAIL = 14; // characters at the end of a picture's name, which tell it from others: they are always seen
const KEYS = new Set([...Object.keys({ ...VERDICTS, ...VIEWS, ...ARROWS }), "n", "b", "z", "Escape", "Enter"]);
const HELP = `${RATINGS.good} ${RATINGS.check} ${RATINGS.doubtful} stand for masks that are probably good, to be checked,
  doubtful. Keys: arrows move, Enter opens a picture, Esc closes it, K keep, R reject, U undo that, N and B next
  page and back, Z closer to an animal, G grid, S sequence, P picture. In the pictures of a sequence a letter, and
  its colour, stand for the same animal, as far as boxes tell.`;

const number = (value) => value.toLocaleString("en");
const counted = ([some, all], thing) => {
  return `${some === all ? "" : `${number(some)} of `}${number(all)} ${thing}${all === 1 ? "" : "s"}`;
};
const fixed = (value, digits) => value?.toFixed(digits) ?? "–";
const letter = (track) => String.fromCharCode(65 + ((track - 1) % 26)) + (track > 26 ? Math.ceil(track / 26) : "");
const called = ({ species, kind }) => species || kind;
// Whether the tags at the left upper corners of two boxes would lie over each other, in parts of a picture.
const meet = (one, other) => Math.abs(one[0] - other[0]) < 0.15 && Math.abs(one[1] - other[1]) < 0.08;

// The filters as a form; `changed` gets what they ask for, as `select` of selection.py takes it.
function filterForm(model, changed) {
  const { where } = model.get("query"); // a page that is loaded again shows what had been asked for
  const readers = []; // of each filter: its column, and what it asks for, or nothing
  const add = (column, label, read, ...inputs) => {
    readers.push([column, read]);
    return element("fieldset", { "data-filter": column }, element("legend", {}, label), ...inputs);
  };
  const choice = ({ column, label, options }) => {
    const names = ["any", ...options.map(([, name]) => name)];
    const made = names.map((name, index) => element("option", { value: index }, name));
    const select = element("select", { "aria-label": label }, ...made);
    const asked = JSON.stringify(where[column]);
    select.selectedIndex = 1 + options.findIndex(([value]) => JSON.stringify(value) === asked);
    return add(column, label, () => options[select.selectedIndex - 1]?.[0], select);
  };
  const range = ({ column, label, range: [least, most], step = "any" }) => {
    const inputs = [[`${label} at least`, least], [`${label} at most`, most]].map(([name, placeholder]) =>
      element("input", { type: "number", step, min: 0, placeholder, "aria-label": name }),
    );
    inputs.forEach((input, end) => (input.value = where[column]?.[end] ?? ""));
    const read = () => {
      const ends = inputs.map((input) => (input.value === "" ? null : input.valueAsNumber));
      return ends.every((end) => end === null) ? undefined : ends;
    };
    return add(column, label, read, inputs[0], " to ", inputs[1]);
  };
  const find = element("input", { type: "search", placeholder: "part of a name", "aria-label": "find" });
  find.value = where.find ?? "";
  const rows = model.get("filters").map((filter) => (filter.options ? choice : range)(filter));
  rows.push(range({ column: "animals", label: "animals in picture", range: [0, ""], step: 1 }));
  rows.push(add("find", "picture or sequence", () => find.value.trim() || undefined, find));
  const read = () => {
    const wanted = readers.map(([column, read]) => [column, read()]);
    changed(Object.fromEntries(wanted.filter(([, value]) => value !== undefined)));
  };
  const onreset = () => setTimeout(read); // when they are empty
  const onsubmit = (event) => event.preventDefault();
  const reset = element("button", { type: "reset" }, "Clear filters");
  return element("form", { "aria-label": "Filters", onchange: read, onreset, onsubmit }, ...rows, reset);
}

class Window {
  page = { asked: 0, tiles: [], pages: 0, page: 0, animals: [0, 0], pictures: [0, 0], rejected: 0 };
  images = []; // photograph and masks of each tile
  focused = 0; // index of a tile
  chosen = 0; // index of an animal, where there is one picture
  opened = "grid"; // the view that Esc leads back to
  asked = 0; // number of the last question
  keys = []; // pressed while its answer is awaited: they are meant for the page that comes

  constructor(model) {
    this.model = model;
    this.tiles = element("div", { class: "tiles", role: "list", "aria-label": "Pictures" });
    this.details = element("div", { class: "details" });
    this.counts = element("p", { class: "counts", role: "status" }, "Pictures come when the notebook has run.");
    this.said = element("p", { class: "said", role: "status" });
    const line = element("div", { class: "line" }, this.counts, this.said);
    this.stage = element("div", { class: "stage" }, this.tiles, this.details);
    const help = element("p", { class: "help" }, HELP);
    this.main = element("div", { class: "main" }, this.toolbar(), line, this.stage, help);
    this.element = element("div", { class: "deepmac-traps", tabindex: -1 }, this.main); // a click leads keys here
    this.followFilters();
    this.element.addEventListener("keydown", (event) => this.key(event));
  }

  get query() {
    return this.model.get("query");
  }

  // Shows what is asked for in the form: another window of the notebook may have asked.
  followFilters() {
    const asked = JSON.stringify(this.query.where);
    if (asked === this.filtered) return;
    this.filtered = asked;
    this.form?.remove();
    this.form = filterForm(this.model, (where) => ((this.filtered = JSON.stringify(where)), this.ask({ where })));
    this.element.prepend(this.form);
  }

  // Sends a message, unless the kernel is gone; whether it went.
  tell(message) {
    try {
      this.model.send(message);
      return true;
    } catch {
      this.asked = this.page.asked; // nothing will be answered
      this.keys = [];
      this.say(GONE);
      return false;
    }
  }

  // Sends a message whose answer keys wait for.
  question(message) {
    this.say("");
    const asked = this.asked + 1;
    if (this.tell({ ...message, asked })) this.asked = asked;
  }

  ask(changes) {
    this.say("");
    if (!this.tell({ alive: 1 })) return; // the model itself does not tell what it cannot save
    this.asked += 1;
    const whole = changes.view ? { closer: false } : {}; // a picture that is opened is seen whole
    this.model.set("query", { ...this.query, animal: null, ...whole, ...changes, asked: this.asked });
    this.model.save_changes();
  }

  say(text) {
    this.said.textContent = this.said.title = text;
  }

  toolbar() {
    const button = (text, title, onclick) => {
      const symbol = text.length === 1 ? { "aria-label": title } : {};
      return element("button", { type: "button", title, onclick, ...symbol }, text);
    };
    this.views = Object.values(VIEWS).map((view) => {
      return button(view, `${view} (${view[0].toUpperCase()})`, () => this.ask({ view }));
    });
    this.back = button("‹", "Back (B)", () => this.step(-1));
    this.next = button("›", "Next (N)", () => this.step(1));
    this.place = element("output", {});
    const onchange = (event) => {
      this.ask({ order: event.target.value, at: "" });
      this.tiles.children[this.focused]?.focus(); // where keys are heard again
    };
    const orders = this.model.get("orders").map((name) => element("option", {}, name));
    const order = element("select", { "aria-label": "Order of pictures", onchange }, ...orders);
    order.value = this.query.order;
    const oninput = (event) => this.tiles.style.setProperty("--masks", event.target.value);
    const masks = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: 1, oninput });
    const onclick = () => this.tiles.classList.toggle("unboxed");
    const boxes = element("input", { type: "checkbox", checked: true, onclick });
    const group = element("span", { class: "group", role: "group", "aria-label": "View" }, ...this.views);
    return element(
      "div",
      { class: "toolbar", role: "toolbar", "aria-label": "View" },
      group,
      element("span", { class: "group" }, this.back, this.place, this.next),
      order,
      element("label", {}, "masks ", masks),
      element("label", {}, boxes, " boxes"),
      button("Export", "Write a table and COCO masks of these animals", () => {
        this.say("Writing …");
        this.tell({ export: this.query.where }); // the kernel may be busy, and not know it yet
      }),
    );
  }

  receive(message, buffers) {
    if (message.said) this.say(message.said);
    if (!message.tiles) return;
    const [before] = this.page.tiles;
    const moved = message.tiles[0]?.picture !== before?.picture;
    const opened = this.query.view === "picture" && !this.tiles.classList.contains("picture");
    const first = !this.query.asked && !this.page.pages; // "Run all" leads to the end of a notebook
    this.page = { ...message, asked: Math.max(message.asked, this.page.asked) };
    this.followFilters();
    if (buffers?.length) this.images = message.tiles.map((_, index) => buffers.slice(2 * index).slice(0, 2).map(picture));
    this.focused = Math.max(0, message.tiles.findIndex((tile) => tile.picture === this.query.at));
    const animals = message.tiles[0]?.animals ?? [];
    const wanted = [this.query.animal, before?.animals[this.chosen]?.line];
    const found = wanted.map((wanted) => animals.findIndex(({ line }) => line === wanted));
    this.chosen = found.find((index) => index >= 0) ?? 0;
    this.draw();
    if (opened) this.main.scrollIntoView({ block: "nearest" }); // its animals and verdicts are below it
    const seen = opened ? this.tiles : moved && this.held && this.tiles.children[this.focused];
    if (seen) seen.scrollIntoView({ block: "nearest" });
    if (first) this.element.scrollIntoView({ block: "start" });
    this.asked = Math.max(this.asked, this.query.asked); // another window may have asked, too
    while (this.keys.length && !this.awaiting) this.key(this.keys.shift());
  }

  get awaiting() {
    return this.page.asked < this.asked;
  }

  // Whether keys are this window's.
  get held() {
    return this.element.contains(document.activeElement) && !this.inForm(document.activeElement);
  }

  draw() {
    const { page, pages, tiles, animals, pictures, rejected } = this.page;
    const { held } = this;
    const { view } = this.query;
    this.stage.style.minHeight = tiles.length ? "" : `${this.stage.offsetHeight}px`; // or the notebook jumps
    this.tiles.className = `tiles ${view}${this.tiles.classList.contains("unboxed") ? " unboxed" : ""}`;
    this.tiles.replaceChildren(...tiles.map((tile, index) => this.drawTile(tile, index)));
    if (!tiles.length) this.tiles.append(element("p", {}, "No picture fits these filters."));
    this.details.replaceChildren(...(view === "picture" && tiles[0]?.animals.length ? this.drawDetails(tiles[0]) : []));
    for (const button of this.views) button.setAttribute("aria-pressed", button.textContent === view);
    this.back.disabled = page <= 0;
    this.next.disabled = page >= pages - 1;
    this.place.textContent = pages ? `${view === "grid" ? "page" : view} ${page + 1} of ${pages}` : "";
    const out = rejected ? ` · ${number(rejected)} rejected` : "";
    this.counts.textContent = `${counted(animals, "animal")} · ${counted(pictures, "picture")}${out}`;
    if (held) this.tiles.children[this.focused]?.focus({ preventScroll: true });
  }

  drawTile(tile, index) {
    const alone = this.query.view === "picture";
    const boxes = tile.animals.map((animal, place) => {
      const { box, color, track, review, rating } = animal;
      if (!box) return ""; // nothing of the picture is in it
      const label = `${letter(track)}${review ? ` ${MARKS[review]}` : ""}${rating ? ` ${RATINGS[rating]}` : ""}`;
      const outside = box[1] > 0.1 ? "above" : box[3] < 0.9 ? "below" : ""; // inside it hides a small animal
      const covered = tile.animals.slice(0, place).some(({ box: other }) => other && meet(other, box)); // by its tag
      const side = `${outside} ${box[0] > 0.8 || covered ? "left" : ""}`;
      const tag = element("span", { class: side, style: `background: ${color}; color: ${inkOn(color)}` }, label);
      const [left, top, right, bottom] = box.map((side) => 100 * side);
      const where = `left: ${left}%; top: ${top}%; width: ${right - left}%; height: ${bottom - top}%`;
      const chosen = alone && place === this.chosen ? "chosen" : "";
      const onclick = (event) => alone && (event.stopPropagation(), this.choose(place));
      const style = `${where}; border-color: ${color}`;
      return element("div", { class: `box ${review} ${chosen}`, style, onclick }, tag);
    });
    const frame = element("div", { class: "frame" }, ...this.images[index], ...boxes);
    frame.style.setProperty("--ratio", tile.size[0] / tile.size[1]);
    if (tile.problem) frame.append(element("p", { class: "problem" }, tile.problem));
    const lines = [tile.caption, tile.sequence && alone ? `sequence ${tile.sequence}` : ""].filter(Boolean);
    const seen = tile.animals.map((animal) => {
      return `${letter(animal.track)} ${called(animal)} ${animal.rating} ${animal.review}`.trim();
    });
    const attributes = {
      role: "listitem",
      tabindex: index === this.focused ? 0 : -1,
      class: tile.animals.length && tile.animals.every(({ review }) => review === "reject") ? "rejected" : "",
      "aria-label": [tile.picture, ...lines, seen.join(", ") || "no animal"].join("; "),
      onfocus: () => (this.focused = index),
      onclick: () => alone || this.open(index),
    };
    const caption = element("figcaption", { title: `${tile.picture}\n${lines.join("\n")}` });
    const halves = [tile.picture.slice(0, -TAIL), tile.picture.slice(-TAIL)].map((half) => element("bdi", {}, half));
    caption.append(element("b", {}, ...halves), ...lines.map((line) => element("span", {}, line)));
    return element("figure", attributes, element("div", { class: "field" }, frame), caption);
  }

  // The animals of the only picture as a table.
  drawDetails({ animals }) {
    const titles = ["animal", "what", "conf.", "mask, px", "of box", "quality", "verdict"];
    const head = element("tr", {}, ...titles.map((title) => element("th", { scope: "col" }, title)));
    const rows = animals.map((animal, index) => {
      const { track, number: place, color, confidence, area, fill, rating, quality, review, line, box } = animal;
      const style = `background: ${color}; color: ${inkOn(color)}`;
      const title = `detection ${place} of the file`;
      const name = element("button", { style, title, "aria-pressed": index === this.chosen }, letter(track));
      const verdict = (value, text) => {
        const onclick = (event) => (event.stopPropagation(), this.mark([line], review === value ? "" : value, line));
        const label = `${text} ${letter(track)}`;
        return element("button", { onclick, "aria-label": label, "aria-pressed": review === value, class: value }, text);
      };
      const word = element("span", { class: rating, title: `expected IoU ${fixed(quality, 2)}` });
      word.append(rating ? `${RATINGS[rating]} ${rating}` : "–");
      const verdicts = element("span", {}, verdict("keep", "✓ keep"), " ", verdict("reject", "✕ reject"));
      const size = !box ? "no box" : area === null ? "mask missing" : number(area);
      const cells = [name, called(animal), fixed(confidence, 2), size, fixed(fill, 2), word, verdicts];
      const row = { class: index === this.chosen ? "chosen" : "", onclick: () => this.choose(index) };
      return element("tr", row, ...cells.map((cell) => element("td", {}, cell)));
    });
    return [element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))];
  }

  open(index) {
    this.opened = this.query.view;
    this.ask({ view: "picture", at: this.page.tiles[index].picture });
  }

  step(by) {
    this.question({ step: by });
  }

  choose(index) {
    const { animals } = this.page.tiles[0];
    this.chosen = Math.min(Math.max(index, 0), animals.length - 1);
    if (this.query.closer) this.ask({ animal: animals[this.chosen].line });
    else this.draw();
    this.details.querySelector(".chosen")?.scrollIntoView({ block: "nearest" });
  }

  // Marks animals; so many pictures on, `animal`, a line of the table, or the first one is then chosen.
  mark(lines, verdict, animal, step = 0) {
    const at = this.page.tiles[this.focused].picture;
    this.question({ review: lines, verdict, at, step, animal });
  }

  // Marks the chosen animal, or those of the focused tile, and goes on to the next.
  judge(verdict) {
    const tile = this.page.tiles[this.focused];
    if (!tile) return;
    const lines = tile.animals.map(({ line }) => line);
    if (this.query.view !== "picture") return this.mark(lines, verdict, null, verdict ? 1 : 0);
    const next = lines[this.chosen + (verdict ? 1 : 0)] ?? null;
    this.mark(lines.slice(this.chosen, this.chosen + 1), verdict, next, verdict && next === null ? 1 : 0);
  }

  focus(index) {
    const { tiles } = this.page;
    if (!tiles[index]) return;
    this.focused = index;
    this.query.at = tiles[index].picture; // where a next question, or view, begins
    for (const [place, tile] of [...this.tiles.children].entries()) tile.tabIndex = place === index ? 0 : -1;
    this.tiles.children[index].focus();
  }

  // Whether keys mean something to a field, all of them.
  inForm(target) {
    return target.matches("select, input:not([type=checkbox], [type=range])");
  }

  key(event) {
    if (saves(event)) return;
    event.stopPropagation(); // JupyterLab has its own meanings for some
    if (this.inForm(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key in ARROWS && event.target.matches("[type=range]")) return;
    if (this.awaiting && KEYS.has(key)) {
      if (key !== "Enter") event.preventDefault(); // it may be a button's
      if (this.tell({ alive: 1 })) this.keys.push(event);
      return;
    }
    const { view, closer } = this.query;
    const alone = view === "picture";
    const tile = this.page.tiles[this.focused];
    if (key in VERDICTS) this.judge(VERDICTS[key]);
    else if (key in VIEWS) this.ask({ view: VIEWS[key], at: tile?.picture ?? "" });
    else if (key === "n" || key === "b") this.step(key === "n" ? 1 : -1);
    else if (key === "z" && alone) this.ask({ closer: !closer, animal: tile?.animals[this.chosen]?.line ?? null });
    else if (key === "Escape" && alone) this.ask({ view: this.opened });
    else if (key === "Enter" && !alone && event.target.matches("figure")) this.open(this.focused);
    else if (key in ARROWS && alone && key.match("Left|Right")) this.step(ARROWS[key]);
    else if (key in ARROWS && alone && tile?.animals.length) this.choose(this.chosen + ARROWS[key]);
    else if (key in ARROWS && !alone) this.focus(this.focused + ARROWS[key] * (key.match("Left|Right") ? 1 : this.columns()));
    else return;
    event.preventDefault();
  }

  columns() {
    const [first, ...others] = [...this.tiles.children].map((tile) => tile.offsetTop);
    return 1 + others.filter((top) => top === first).length;
  }
}

function picture(bytes) {
  const src = URL.createObjectURL(new Blob([bytes]));
  return element("img", { src, alt: "", onload: () => URL.revokeObjectURL(src) });
}

export default {
  render({ model, el }) {
    const window = new Window(model);
    el.append(window.element);
    const receive = (message, buffers) => window.receive(message, buffers);
    model.on("msg:custom", receive);
    window.tell({ show: 1 });
    return () => model.off("msg:custom", receive);
  },
};
