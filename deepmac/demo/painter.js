// What the canvas shows: the picture, and over it masks, boxes, names and handles.

class Painter {
  constructor(editor) {
    const { model, canvas, pixels, masks, view } = editor;
    Object.assign(this, { editor, model, canvas, pixels, masks, view });
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const dots = window.devicePixelRatio;
    const { scale, offset } = this.view;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(dots * scale, 0, 0, dots * scale, dots * offset[0], dots * offset[1]);
    context.imageSmoothingEnabled = scale < 2; // pixels are seen as they are when one is close
    this.pixels.draw(context, this.view);
    const { index: editing, box: edited } = this.editor.edited ?? {};
    const boxes = this.editor.boxes.map((item, index) => ({ item, index, box: index === editing ? edited : item.box }));
    if (editing === -1) boxes.push({ item: { box: edited, name: this.editor.nextName }, index: boxes.length, box: edited });
    const chosen = boxes[editing === -1 ? -1 : this.editor.selected];
    const seen = boxes.filter(({ box }) => this.view.sees(box)).sort((a, b) => area(b.box) - area(a.box));
    for (const one of seen) this.drawMask(context, one);
    context.setTransform(dots, 0, 0, dots, 0, 0);
    seen.sort((a, b) => (a === chosen) - (b === chosen)); // no other name lies over its own
    for (const one of seen) this.drawLines(context, one, one === chosen);
    for (const one of seen) this.drawName(context, one, one === chosen);
    if (chosen) this.drawHandles(context, chosen.box);
    this.drawMarks(context, this.editor.boxes[this.editor.selected]?.clicks ?? []);
  }

  color(index) {
    return this.model.get("colors")[index];
  }

  drawMask(context, { item, index }) {
    const mask = this.masks.of(item);
    if (!mask) return;
    context.fillStyle = context.strokeStyle = this.color(index);
    context.globalAlpha = this.model.get("opacity");
    context.fill(mask.drawn);
    context.globalAlpha = 1;
    context.lineWidth = 1.5 / this.view.scale;
    if (this.model.get("outline")) context.stroke(mask.drawn);
  }

  // Where a mask was corrected, and the cross.
  drawMarks(context, clicks) {
    const style = { font: "bold 16px sans-serif", textAlign: "center", textBaseline: "middle" };
    context.save();
    Object.assign(context, style, { fillStyle: "#fff", strokeStyle: "#000", lineWidth: 3 });
    const marks = clicks.map(([x, y, sign]) => [sign > 0 ? "+" : "−", x, y]);
    if (this.editor.aim) marks.push(["×", ...this.editor.aim]);
    for (const [mark, ...place] of marks) {
      context.strokeText(mark, ...this.view.toScreen(place));
      context.fillText(mark, ...this.view.toScreen(place));
    }
    context.restore();
  }

  drawLines(context, { index, box }, chosen) {
    const [x, y] = this.view.toScreen(box.slice(0, 2));
    const [width, height] = [box[2] - box[0], box[3] - box[1]].map((side) => side * this.view.scale);
    for (const [style, line] of [["#0008", chosen ? 5 : 3], [this.color(index), chosen ? 3 : 1.5]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: line });
      context.strokeRect(x, y, width, height);
    }
  }

  drawName(context, { item, index, box }, chosen) {
    const [x0, y0] = this.view.toScreen(box.slice(0, 2));
    const color = this.color(index);
    context.font = "12px sans-serif";
    const full = `${index + 1} ${item.name}`;
    const fits = context.measureText(full).width < (box[2] - box[0]) * this.view.scale;
    const text = chosen || fits ? full : `${index + 1}`;
    const width = context.measureText(text).width + 8;
    const left = clamp(x0, 0, this.view.screen[0] - width);
    const top = y0 < 18 ? Math.max(y0, 0) + 2 : y0 - 18;
    context.fillStyle = color;
    context.fillRect(left, top, width, 16);
    context.fillStyle = inkOn(color);
    context.fillText(text, left + 4, top + 12);
  }

  drawHandles(context, box) {
    Object.assign(context, { fillStyle: "#fff", strokeStyle: "#000", lineWidth: 1 });
    for (const { at: [x, y] } of this.editor.handles(box)) {
      context.fillRect(x - HANDLE, y - HANDLE, 2 * HANDLE, 2 * HANDLE);
      context.strokeRect(x - HANDLE, y - HANDLE, 2 * HANDLE, 2 * HANDLE);
    }
  }
}
