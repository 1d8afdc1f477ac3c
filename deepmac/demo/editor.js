// The boxes of the demo's picture: how they are changed by mouse, touch and keys.

const HANDLE = 5; // pixels of the screen from a handle's middle to its edge
const GESTURE = 500; // milliseconds: a wheel that still turns after it zoomed
const SLIP = 4; // pixels of the screen; a shorter drag is a click
const SMALLEST = 3; // pixels of the screen: smaller boxes are slips
const WHOLE = [0, 1, 2, 3]; // sides of a box: indices of its numbers
// The sides that a handle moves: those that meet at a corner, and one alone.
const HANDLES = [[0, 1], [2, 3], [2, 1], [0, 3], [0], [2], [1], [3]];
const CURSORS = ["nwse", "nwse", "nesw", "nesw", "ew", "ew", "ns", "ns"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const POINTS = new OffscreenCanvas(1, 1).getContext("2d"); // asked what is inside a path

// Changes boxes by mouse, touch and keys.
class Editor {
  edited = null; // a box while it is drawn or changed: {index, box}; the index of a new one is -1
  aim = null; // the point, in pixels of the picture, where keys correct the selected mask
  drag = null; // what a press began: {kind, from, moved, index, sides}
  edits = 0; // of the boxes
  fingers = new Map(); // pointer -> its place
  zoomed = -Infinity; // when the wheel last did: a time as events have it
  spaced = false; // whether the space bar is down
  nextName = "";
  said = ""; // why the last press did nothing

  constructor(model, canvas, pixels, masks, view, history, changed) {
    Object.assign(this, { model, canvas, pixels, masks, view, history, changed });
    const listen = (type, handler) => canvas.addEventListener(type, handler.bind(this), { passive: false });
    listen("pointerdown", this.press);
    listen("pointermove", this.move);
    listen("pointerup", this.release);
    listen("pointercancel", this.cancel);
    listen("wheel", this.wheel);
  }

  get boxes() {
    return this.model.get("boxes");
  }

  get selected() {
    return this.boxes[this.model.get("selected")] ? this.model.get("selected") : -1;
  }

  commit(boxes, selected) {
    this.edited = null;
    this.said = "";
    this.model.set("edit", [this.model.get("picture")[2], (this.edits += 1)]);
    this.model.set("boxes", boxes);
    this.model.set("selected", selected);
    this.model.save_changes();
    this.masks.ask();
    this.changed();
  }

  // Takes the last change back (-1), or makes it again (1), if there is one.
  step(by) {
    if (!this.history.reaches(by)) return;
    const { selected, boxes: before } = this;
    const boxes = this.history.step(by);
    this.commit(boxes, boxes[selected] ? selected : -1);
    const other = boxes.find((item, index) => JSON.stringify(item) !== JSON.stringify(before[index]));
    if (other && boxes.length === before.length) this.show(other.box);
  }

  // Brings a box of which nothing is seen to the middle, others into sight.
  show(box) {
    const from = this.view.toScreen(middle(box));
    if (!this.view.sees(box)) this.view.pan(...this.view.screen.map((side, axis) => side / 2 - from[axis]));
    this.view.reveal(box);
  }

  select(index) {
    this.commit(this.boxes, index);
  }

  // Selects a box that may be out of sight.
  goTo(index) {
    this.select(index);
    this.show(this.boxes[index].box);
  }

  change(index, values) {
    if (!this.boxes[index]) return; // a name was being written, and another picture came
    this.commit(this.boxes.with(index, { ...this.boxes[index], ...values }), index);
  }

  remove() {
    if (this.selected >= 0) this.commit(this.boxes.toSpliced(this.selected, 1), -1);
  }

  // Keeps what was edited, if it is a box that one can see.
  finish(select = true) {
    const { index, box: exact } = this.edited ?? {};
    const box = exact?.map((value) => Math.round(100 * value) / 100);
    const least = Math.min(SMALLEST / this.view.scale, ...this.view.picture);
    if (!exact) this.cancel();
    else if (box[2] - box[0] < least || box[3] - box[1] < least) {
      this.cancel();
      this.said = "Too small for a box: zoom in to draw smaller ones.";
    } else if (index >= 0) this.change(index, { box });
    else {
      const added = { box, name: this.nextName || "object" };
      this.commit([...this.boxes, added], select ? this.boxes.length : -1);
    }
  }

  cancel() {
    this.drag = this.edited = this.aim = null;
    this.fingers.clear();
    this.changed();
  }

  // The box with some sides moved, as far as the picture goes; they may pass others.
  shifted(box, sides, by) {
    const steps = this.view.picture.map((length, axis) => {
      const moving = sides.filter((side) => side % 2 === axis).map((side) => box[side]);
      return clamp(by[axis], -Math.min(...moving), length - Math.max(...moving));
    });
    return upright(box.map((value, side) => (sides.includes(side) ? value + steps[side % 2] : value)));
  }

  // Mouse and touch

  place(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  // Where handles are on the screen: around a small box, which they would cover; of sides only if there is room.
  handles(box) {
    const [low, high] = [this.view.toScreen(box.slice(0, 2)), this.view.toScreen(box.slice(2))];
    const lengths = high.map((end, axis) => end - low[axis]);
    const beside = Math.min(...lengths) < 6 * HANDLE ? HANDLE : 0;
    const ends = [...low.map((value) => value - beside), ...high.map((value) => value + beside)];
    const place = (sides, axis) => ends[sides.find((side) => side % 2 === axis)] ?? (low[axis] + high[axis]) / 2;
    const usable = HANDLES.filter((sides) => sides.length === 2 || lengths[1 - (sides[0] % 2)] > 10 * HANDLE);
    return usable.map((sides) => ({ sides, at: [place(sides, 0), place(sides, 1)] }));
  }

  // The sides of the selected box that a handle at a point of the screen moves.
  sidesAt([x, y]) {
    if (this.selected < 0) return undefined;
    const near = ({ at }) => Math.max(Math.abs(at[0] - x), Math.abs(at[1] - y)) <= HANDLE + 2;
    return this.handles(this.boxes[this.selected].box).find(near)?.sides;
  }

  // Corrects the selected mask at a point of the picture: what it misses there is added, else removed.
  correct(at) {
    const item = this.boxes[this.selected];
    const point = at.map((value) => Math.round(100 * value) / 100);
    const [x0, y0, x1, y1] = item?.box ?? [];
    if (!item) this.said = "Select a box first: click on it.";
    else if (!(point[0] >= x0 && point[0] <= x1 && point[1] >= y0 && point[1] <= y1)) {
      this.said = "Corrections lie inside the selected box.";
    }
    if (this.said) return this.changed();
    const mask = this.masks.of(item);
    const masked = mask && POINTS.isPointInPath(mask.drawn, ...point);
    this.change(this.selected, { clicks: [...(item.clicks ?? []), [...point, masked ? -1 : 1]] });
  }

  // The smallest box at a point of the screen, unless another one there is preferred; -1 for none.
  boxAt(at, preferred = null) {
    const [x, y] = this.view.toPicture(at);
    const slack = 3 / this.view.scale;
    const under = this.boxes.filter(({ box: [x0, y0, x1, y1] }) => {
      return x > x0 - slack && x < x1 + slack && y > y0 - slack && y < y1 + slack;
    });
    const [smallest] = under.sort((a, b) => area(a.box) - area(b.box));
    return this.boxes.indexOf(under.includes(preferred) ? preferred : smallest);
  }

  press(event) {
    if (event.button > 1) return;
    event.preventDefault();
    this.said = "";
    this.finishNudge();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const from = this.place(event);
    this.fingers.set(event.pointerId, from);
    const under = event.altKey ? this.boxAt(from, this.boxes[this.selected]) : -1;
    const sides = this.sidesAt(from);
    this.edited = null;
    if (this.fingers.size > 1) this.drag = { kind: "pinch", from };
    else if (event.button === 1 || this.spaced) this.drag = { kind: "pan", from };
    else if (under >= 0) this.drag = { kind: "change", from, index: under, sides: WHOLE };
    else if (sides) this.drag = { kind: "change", from, index: this.selected, sides };
    else this.drag = { kind: "draw", from };
  }

  move(event) {
    const at = this.place(event);
    if (!this.drag) {
      const resizing = CURSORS[HANDLES.indexOf(this.sidesAt(at))];
      const cursor = resizing ? `${resizing}-resize` : "crosshair";
      this.canvas.style.cursor = this.spaced ? "grab" : event.altKey ? "move" : cursor;
      return;
    }
    const { kind, from, index, sides } = this.drag;
    const before = this.fingers.get(event.pointerId) ?? at;
    if (kind === "pinch") this.pinch(event.pointerId, before, at);
    if (kind === "pan") this.view.pan(at[0] - before[0], at[1] - before[1]);
    this.fingers.set(event.pointerId, at);
    this.drag.moved ||= distance(from, at) >= SLIP;
    if (this.drag.moved && kind === "draw") {
      this.edited = { index: -1, box: upright([...this.view.inside(from), ...this.view.inside(at)]) };
    } else if (this.drag.moved && kind === "change") {
      const by = at.map((value, axis) => (value - from[axis]) / this.view.scale);
      this.edited = { index, box: this.shifted(this.boxes[index].box, sides, by) };
    }
    this.changed();
  }

  release(event) {
    this.fingers.delete(event.pointerId);
    if (this.fingers.size || !this.drag) return;
    const { kind, moved, index } = this.drag;
    this.drag = null;
    const corrects = event.shiftKey && !event.altKey && !moved && ["draw", "change"].includes(kind);
    if (this.edited) this.finish(kind !== "draw"); // handles would be in the way of the next box
    else if (corrects) this.correct(this.view.toPicture(this.place(event))); // also on a handle
    else if (kind === "draw" && !moved) this.select(this.boxAt(this.place(event)));
    else if (kind === "change") this.select(index);
  }

  pinch(pointer, before, at) {
    const other = [...this.fingers].find(([id]) => id !== pointer)?.[1];
    if (!other) return;
    this.view.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
    const factor = distance(at, other) / Math.max(1, distance(before, other));
    this.view.zoomTo(this.view.scale * factor, [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2]);
  }

  // Changes the scale, and keeps the selected box in sight, if there is one.
  zoomTo(scale) {
    const box = this.boxes[this.selected]?.box;
    this.view.zoomTo(scale, box && this.view.toScreen(middle(box)));
    if (box) this.view.reveal(this.aim ? [...this.aim, ...this.aim] : box);
  }

  wheel(event) {
    const smallest = this.view.scale <= Math.min(this.view.fitting, 1);
    const out = event.deltaY > 0;
    if (!event.deltaY || (out && smallest && event.timeStamp - this.zoomed > GESTURE)) return; // the page scrolls
    event.preventDefault();
    if (out && smallest) return;
    this.zoomed = event.timeStamp;
    const lines = event.deltaMode === 1 ? 30 : 1;
    const factor = Math.exp(-clamp(event.deltaY * lines, -100, 100) / 400);
    this.view.zoomTo(this.view.scale * factor, this.place(event));
    this.changed();
  }

  // Keys

  // Of the whole window: what means nothing here, and would mean something to JupyterLab, ends here, too.
  key(event) {
    if (saves(event)) return;
    event.stopPropagation();
    const { target, defaultPrevented } = event;
    if (defaultPrevented || target.isContentEditable || target.matches("input, select")) return;
    if (target.matches("button") && (event.key === "Enter" || event.key === " ")) return; // presses it
    const key = event.key.length > 1 ? event.key : event.key.toLowerCase();
    const { view, selected, boxes } = this;
    const cycle = (by) => boxes.length && this.goTo((selected + by + boxes.length) % boxes.length);
    const commands = {
      z: () => this.step(event.shiftKey ? 1 : -1),
      y: () => this.step(1),
    };
    const actions = {
      " ": () => (this.spaced = true),
      b: () => this.newBox(),
      n: () => cycle(1),
      p: () => cycle(selected < 0 ? 0 : -1),
      Delete: () => this.remove(),
      Backspace: () => this.remove(),
      c: () => this.aimAt(this.aim || selected < 0 ? null : middle(boxes[selected].box)),
      Escape: () => (this.drag || this.edited || this.aim ? this.cancel() : this.select(-1)),
      Enter: () => (this.aim ? this.correct(this.aim) : this.canvas.dispatchEvent(new Event("name"))),
      "+": () => this.zoomTo(1.25 * view.scale),
      "=": () => this.zoomTo(1.25 * view.scale),
      "-": () => this.zoomTo(0.8 * view.scale),
      0: () => this.zoomTo(view.fitting),
      1: () => this.zoomTo(1),
    };
    const step = () => (this.aim ? this.moveAim : this.nudge).call(this, ARROWS[key], event.shiftKey);
    const action = event.ctrlKey || event.metaKey ? commands[key] : ARROWS[key] ? step : actions[key];
    if (!action || event.altKey) return;
    event.preventDefault();
    this.said = "";
    action();
    this.changed();
  }

  keyUp({ key }) {
    if (key === " ") this.spaced = false;
    if (key in ARROWS) this.finishNudge();
  }

  // Draws a box in the middle of what is seen, a quarter as large.
  newBox() {
    const [low, high] = [this.view.inside([0, 0]), this.view.inside(this.view.screen)];
    const corner = (part) => low.map((value, axis) => value + part * (high[axis] - value));
    this.edited = { index: -1, box: [...corner(0.375), ...corner(0.625)] };
    this.finish();
  }

  // Moves the selected box by a pixel, two on the screen if that is more; it is kept when the key is let go.
  nudge(direction, resize) {
    const index = this.selected;
    if (index < 0) return this.view.pan(...direction.map((value) => -40 * value));
    const by = direction.map((value) => value * Math.max(1, 2 / this.view.scale));
    const box = this.edited?.box ?? this.boxes[index].box;
    this.edited = { index, box: this.shifted(box, resize ? [2, 3] : WHOLE, by) };
  }

  // Shows the cross at a point of the picture, or no more.
  aimAt(point) {
    this.aim = point;
    if (point) this.view.reveal([...point, ...point]);
  }

  // Moves the cross over its box, by a quarter as much with Shift.
  moveAim(direction, finely) {
    const [x0, y0, x1, y1] = this.boxes[this.selected].box;
    const [x, y] = this.aim.map((value, axis) => value + (direction[axis] * (finely ? 2 : 8)) / this.view.scale);
    this.aimAt([clamp(x, x0, x1), clamp(y, y0, y1)]);
  }

  finishNudge() {
    if (!this.drag && this.edited) this.finish();
  }
}
