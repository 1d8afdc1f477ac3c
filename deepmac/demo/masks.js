// The masks of the demo's boxes, which the kernel sends once each, and whether it is busy with something else, or gone.

const LATE = 500; // milliseconds without a word from the kernel

// What a mask belongs to: the numbers of a box and of its clicks.
const keyOf = ({ box, clicks = [] }) => [box, ...clicks].join();

class Masks {
  found = new Map(); // key of a box -> its mask
  picture = 0; // number of theirs
  asked = 0;
  answered = 0;
  gone = false; // whether the kernel was restarted, or has ended

  constructor(model, changed) {
    Object.assign(this, { model, changed });
    if (model.get("ready")) this.ask(true); // they were sent before there was this view
  }

  // Tells the kernel something, if it is still the one that the window belongs to.
  send(message) {
    try {
      this.model.send(message);
      this.gone = false;
    } catch {
      this.gone = true;
      this.changed();
    }
  }

  // Asks for a sign of life, which comes when everything before is done.
  ask(masks = false) {
    if (this.asked === this.answered) this.silent = performance.now();
    this.asked += 1;
    this.send({ ask: this.asked, masks });
    setTimeout(this.changed, LATE);
  }

  // What the kernel does is said in the window, unless it has not come to that.
  get late() {
    return this.asked !== this.answered && performance.now() - this.silent >= LATE - 1;
  }

  heard() {
    this.silent = Infinity;
  }

  // Keeps masks, which may come before their picture does.
  receive({ masks, picture, answer }) {
    this.answered = answer ?? this.answered;
    if (!masks) return;
    if (picture !== this.picture) this.found.clear();
    this.picture = picture;
    for (const mask of masks) this.found.set(mask.of.join(), { ...mask, drawn: new Path2D(mask.path) });
  }

  // The mask of a box and its clicks; until the kernel has answered to a click, the one before it.
  of({ box, clicks = [] }) {
    if (this.picture !== this.model.get("picture")[2]) return undefined;
    for (let count = clicks.length; count >= 0; count -= 1) {
      const mask = this.found.get(keyOf({ box, clicks: clicks.slice(0, count) }));
      if (mask) return mask;
    }
    return undefined;
  }
}
