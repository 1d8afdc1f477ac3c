// What is seen of the demo's picture: one script with the others here, which canvas.py joins.
// Boxes and points are in pixels of the picture; a view maps them to pixels of the screen.

const TILE = 512; // pixels of a level; also in canvas.py
const TILES_KEPT = 160;
const CLOSEST = 32; // pixels of the screen that a pixel of the picture may fill
const MARGIN = 24; // pixels of the screen around what is brought into view

const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));
const distance = ([x0, y0], [x1, y1]) => Math.hypot(x1 - x0, y1 - y0);
const middle = ([x0, y0, x1, y1]) => [(x0 + x1) / 2, (y0 + y1) / 2];
const upright = ([x0, y0, x1, y1]) => {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
};
const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);

// What part of a picture is seen, and how large: screen = scale * picture + offset.
class View {
  screen = [1, 1];
  picture = [1, 1];
  scale = 1;
  offset = [0, 0];

  get fitting() {
    return Math.min(this.screen[0] / this.picture[0], this.screen[1] / this.picture[1]);
  }

  // Changes the scale; what is seen at a point of the screen, its middle unless given, stays there.
  zoomTo(scale, at = this.screen.map((side) => side / 2)) {
    const [x, y] = this.toPicture(at);
    this.scale = clamp(scale, Math.min(this.fitting, 1), Math.max(this.fitting, CLOSEST));
    this.offset = [at[0] - this.scale * x, at[1] - this.scale * y];
    this.pan(0, 0);
  }

  pan(...by) {
    this.offset = this.offset.map((value, axis) => {
      const room = this.screen[axis] - this.scale * this.picture[axis];
      return room >= 0 ? room / 2 : clamp(value + by[axis], room, 0); // in the middle, or without gaps
    });
  }

  // Pans as little as is needed to see a box; of one that is larger than the screen, nothing else.
  reveal(box) {
    const [low, high] = [this.toScreen(box.slice(0, 2)), this.toScreen(box.slice(2))];
    const by = this.screen.map((side, axis) => {
      const ends = [MARGIN - low[axis], side - MARGIN - high[axis]];
      return clamp(0, Math.min(...ends), Math.max(...ends));
    });
    this.pan(...by);
  }

  resize(screen) {
    const fitted = this.scale === this.fitting;
    this.screen = screen;
    this.zoomTo(fitted ? this.fitting : this.scale);
  }

  toPicture(at) {
    return at.map((value, axis) => (value - this.offset[axis]) / this.scale);
  }

  toScreen(at) {
    return at.map((value, axis) => this.scale * value + this.offset[axis]);
  }

  // Whether something of a box is on the screen.
  sees([x0, y0, x1, y1]) {
    const [left, top] = this.toScreen([x0, y0]);
    const [right, bottom] = this.toScreen([x1, y1]);
    return right >= 0 && bottom >= 0 && left <= this.screen[0] && top <= this.screen[1];
  }

  // The nearest point of the picture.
  inside(at) {
    return this.toPicture(at).map((value, axis) => clamp(value, 0, this.picture[axis]));
  }
}

// The picture's pixels: a preview of the whole, and sharper tiles of what is seen, which the kernel sends.
class Pixels {
  constructor(model, masks, changed) {
    Object.assign(this, { model, masks, changed });
    this.load();
  }

  load() {
    this.number = this.model.get("picture")[2];
    this.tiles = new Map(); // "halvings,column,row" -> bitmap; null: asked for
    this.preview = null;
    this.decode(this.model.get("preview"), (bitmap) => (this.preview = bitmap));
  }

  async decode(jpeg, use) {
    const number = this.number;
    const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })).catch(() => null);
    if (!bitmap || number !== this.number) return; // there is another picture by now
    use(bitmap);
    this.changed();
  }

  receive({ tile, picture }, [jpeg]) {
    if (picture === this.number) this.decode(jpeg, (bitmap) => this.tiles.set(tile.join(), bitmap));
  }

  draw(context, view) {
    const [width, height, , halvings] = this.model.get("picture");
    const place = (bitmap, level, x, y) => {
      const size = 2 ** level;
      context.drawImage(bitmap, x * size, y * size, bitmap.width * size, bitmap.height * size);
    };
    context.save();
    context.beginPath();
    context.rect(0, 0, width, height); // the last pixels of levels reach beyond it
    context.clip();
    if (this.preview) place(this.preview, halvings, 0, 0);
    const sharpest = clamp(Math.floor(-Math.log2(view.scale * window.devicePixelRatio)), 0, halvings);
    for (let level = halvings - 1; level >= sharpest; level--) {
      for (const key of this.seen(view, level)) {
        const [, column, row] = key.split(",");
        if (this.tiles.get(key)) place(this.tiles.get(key), level, column * TILE, row * TILE);
      }
    }
    context.restore();
    clearTimeout(this.timer);
    if (sharpest < halvings) this.timer = setTimeout(() => this.ask(this.seen(view, sharpest)), 40);
  }

  seen(view, level) {
    const side = TILE * 2 ** level;
    const first = view.inside([0, 0]).map((value) => Math.floor(value / side));
    const end = view.inside(view.screen).map((value) => value / side);
    const keys = [];
    for (let row = first[1]; row < end[1]; row++) {
      for (let column = first[0]; column < end[0]; column++) keys.push([level, column, row].join());
    }
    return keys;
  }

  ask(keys) {
    const missing = keys.filter((key) => !this.tiles.has(key));
    for (const key of this.tiles.keys()) {
      if (this.tiles.size + missing.length > TILES_KEPT && !keys.includes(key)) this.tiles.delete(key);
    }
    for (const key of missing) this.tiles.set(key, null);
    const tiles = missing.map((key) => key.split(",").map(Number));
    if (tiles.length) this.masks.send({ tiles, picture: this.number });
  }
}
