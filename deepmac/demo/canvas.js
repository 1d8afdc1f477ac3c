// Around jupyter-bbox-widget, whose module is the text WIDGET: see canvas.py.
const address = URL.createObjectURL(new Blob([WIDGET], { type: "text/javascript" }));
const widget = (await import(address)).default;
URL.revokeObjectURL(address);

const SMALLEST = 3; // pixels; smaller boxes are slips of the mouse

// The widget hears of the mouse only above the picture. What the mouse does elsewhere while its button is
// down is told to the picture, at the nearest point of it. `ended` is called when the button is released.
function followMouse(el, ended) {
  let picture = null;
  const start = (event) => {
    if (event.button === 0) picture = event.target.closest("svg");
  };
  const follow = (event) => {
    if (!picture || !event.isTrusted) return;
    if (!picture.contains(event.target)) {
      const { left, top, right, bottom } = picture.getBoundingClientRect();
      const clientX = Math.min(Math.max(event.clientX, left), right);
      const clientY = Math.min(Math.max(event.clientY, top), bottom);
      picture.dispatchEvent(new MouseEvent(event.type, { button: event.button, clientX, clientY }));
    }
    if (event.type === "mouseup") {
      picture = null;
      setTimeout(ended); // after the widget has written down what was drawn
    }
  };
  el.addEventListener("mousedown", start, true);
  window.addEventListener("mousemove", follow, true);
  window.addEventListener("mouseup", follow, true);
  return () => {
    window.removeEventListener("mousemove", follow, true);
    window.removeEventListener("mouseup", follow, true);
  };
}

// Cuts off what lies outside the picture, and removes boxes without area.
function tidy(model, { naturalWidth, naturalHeight }) {
  const cut = (value, most) => Math.min(Math.max(value, 0), most);
  const boxes = model.get("bboxes");
  const tidied = boxes
    .map((box) => {
      const x = cut(box.x, naturalWidth);
      const y = cut(box.y, naturalHeight);
      const width = cut(box.x + box.width, naturalWidth) - x;
      const height = cut(box.y + box.height, naturalHeight) - y;
      return { ...box, x, y, width, height };
    })
    .filter((box) => box.width >= SMALLEST && box.height >= SMALLEST);
  if (JSON.stringify(tidied) === JSON.stringify(boxes)) return;
  if (tidied.length < boxes.length) model.set("selected_index", -1);
  model.set("bboxes", tidied);
  model.save_changes();
}

export default {
  render({ model, el, ...others }) {
    const end = widget.render({ model, el, ...others });
    const stop = followMouse(el, () => tidy(model, el.querySelector("img")));
    return () => {
      stop();
      end();
    };
  },
};
