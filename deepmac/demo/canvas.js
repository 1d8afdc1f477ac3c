// The demo's window in the browser; canvas.py has the traits and answers the messages.

const HELP = `Drag: new box. Click: select; drag its handles. Alt + drag: move. Shift + click: what is there is
  added to the selected mask, or removed. Wheel: zoom. Space + drag or middle button: pan. Keys: B new box, N and P
  next and previous box, arrows move it (Shift: resize), C a cross for arrows to move and Enter to click with, Enter
  name, Delete remove, Esc let go, Ctrl + Z undo (Shift: redo), + − 0 1 zoom.`;

const BUSY = "The notebook is busy with other cells. Boxes can be drawn already; masks come when it is done.";

// The boxes as a table: number, name, area and quality of the mask.
function boxTable(model, editor) {
  const body = element("tbody");
  const oninput = () => (editor.nextName = next.value.trim());
  const next = element("input", { placeholder: "object", oninput });
  const titles = ["no.", "name", "area (px)", "quality"].map((title) => element("th", { scope: "col" }, title));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...titles)), body);
  const label = element("label", {}, "Name of new boxes ", next);
  let before = ""; // what Escape brings back
  const onfocusin = ({ target }) => (before = target.value);
  const onkeydown = ({ key, target }) => {
    if (!["Enter", "Escape"].includes(key) || !target.matches("input")) return;
    if (key === "Escape") {
      target.value = before;
      target.dispatchEvent(new Event("input"));
    }
    editor.canvas.focus();
  };
  const list = element("div", {}, table);
  const made = element("div", { class: "deepmac-list", onkeydown, onfocusin }, list, label);
  editor.canvas.addEventListener("name", () => body.rows[editor.selected]?.querySelector("input").select());

  function addRow(index) {
    const select = () => index === editor.selected || editor.goTo(index);
    const rename = () => editor.change(index, { name: name.value.trim() || "object" });
    const name = element("input", { onfocus: select, onchange: rename });
    const cells = [element("button", {}, `${index + 1}`), name, "", ""];
    body.append(element("tr", { onclick: select }, ...cells.map((content) => element("td", {}, content))));
  }

  // Scrolls the list to a line of it, but not the notebook.
  function reveal(row) {
    const [line, frame] = [row, list].map((one) => one.getBoundingClientRect());
    const top = frame.top + table.tHead.offsetHeight;
    list.scrollTop += Math.min(0, line.top - top) + Math.max(0, line.bottom - frame.bottom);
  }

  // Touches the line only where it says something else than before: hundreds are laid out for each frame otherwise.
  function updateRow(item, index) {
    const row = body.rows[index];
    const [number, input, size, quality] = [...row.cells].map((cell) => cell.firstElementChild ?? cell);
    const color = model.get("colors")[index];
    const mask = editor.masks.of(item);
    const chosen = index === editor.selected;
    const says = [item.name, color, mask, chosen, document.activeElement === input];
    if (row.says?.every((value, part) => value === says[part])) return;
    row.says = says;
    Object.assign(number.style, { background: color, color: inkOn(color) });
    number.setAttribute("aria-label", `box ${index + 1}, ${item.name}`);
    number.setAttribute("aria-pressed", chosen);
    input.setAttribute("aria-label", `name of box ${index + 1}`);
    input.title = item.name; // there is room for little of it
    if (document.activeElement !== input) input.value = item.name;
    size.textContent = mask ? mask.area.toLocaleString("en") : "…";
    quality.textContent = quality.className = mask?.quality ?? "";
    if (chosen && !row.classList.contains("chosen")) reveal(row);
    row.classList.toggle("chosen", chosen);
  }

  function update() {
    const one = editor.boxes.length === body.rows.length + 1;
    while (body.rows.length > editor.boxes.length) body.deleteRow(-1);
    while (body.rows.length < editor.boxes.length) addRow(body.rows.length);
    editor.boxes.forEach(updateRow);
    if (one) reveal(body.rows[body.rows.length - 1]);
  }
  return { element: made, update };
}

function toolbar(editor, view, history, changed) {
  const button = (text, title, action) => {
    const symbol = text.match(/[a-z]/) ? {} : { "aria-label": `${text}, ${title.toLowerCase()}` };
    return element("button", { title, onclick: () => (action(), changed()), ...symbol }, text);
  };
  const undo = button("Undo", "Take the last change back (Ctrl + Z)", () => editor.step(-1));
  const redo = button("Redo", "Make it again (Ctrl + Shift + Z)", () => editor.step(1));
  const remove = button("Remove", "Remove the selected box (Delete)", () => editor.remove());
  const clear = button("Remove all", "Remove all boxes; Undo brings them back", () => editor.commit([], -1));
  const scale = element("output", { title: "Pixels of the screen for one of the picture" });
  const zoom = [
    button("−", "See more (mouse wheel)", () => editor.zoomTo(0.8 * view.scale)),
    scale,
    button("+", "See it larger (mouse wheel)", () => editor.zoomTo(1.25 * view.scale)),
    button("Fit", "The whole picture (0)", () => editor.zoomTo(view.fitting)),
    button("1:1", "Its own pixels (1)", () => editor.zoomTo(1)),
  ];
  // One that was pressed and is disabled now hears no keys, such as that to undo: they go to the canvas.
  const disable = (one, disabled) => {
    if (disabled && one === document.activeElement) editor.canvas.focus({ preventScroll: true });
    one.disabled = disabled;
  };
  const update = () => {
    disable(undo, !history.reaches(-1));
    disable(redo, !history.reaches(1));
    disable(remove, editor.selected < 0);
    disable(clear, !editor.boxes.length);
    scale.textContent = `${Math.round(100 * view.scale)} %`;
  };
  const buttons = [undo, redo, remove, clear, ...zoom];
  const made = element("div", { class: "deepmac-toolbar", role: "toolbar", "aria-label": "Boxes and zoom" }, ...buttons);
  return { element: made, update };
}

// What the kernel says, or that it has not come to what was asked, or is gone; or why a press did nothing.
function statusLine(model, masks, editor) {
  const line = element("p", { role: "status" });
  const update = () => {
    const here = editor.said || (masks.late && BUSY);
    const [text, error] = masks.gone ? [GONE, true] : here ? [here, false] : model.get("status");
    if (line.textContent !== text) line.textContent = text; // else read aloud again
    line.classList.toggle("error", error);
  };
  return { element: line, update };
}

// The sliders of ipywidgets beside the canvas have no names that screen readers know.
function nameSliders(window) {
  for (const handle of window.querySelectorAll("[role=slider]:not([aria-label])")) {
    handle.setAttribute("aria-label", handle.closest(".widget-slider").querySelector("label").textContent);
  }
}

// Enter in a line of text counts although the text is the same: the file may have changed. ipywidgets only tells
// changes, so a space comes at its end, or goes; the kernel takes it off.
function tellEnter({ key, target }) {
  if (key !== "Enter" || !target.matches(".widget-text input[type=text]")) return;
  target.value = target.value.endsWith(" ") ? target.value.trimEnd() : `${target.value} `;
  target.dispatchEvent(new Event("change", { bubbles: true }));
}

function render({ model, el }, history) {
  let frame = 0;
  const changed = () => (frame ||= requestAnimationFrame(show));
  const canvas = element("canvas", { tabindex: 0, role: "application" });
  const view = new View();
  const masks = new Masks(model, changed);
  const pixels = new Pixels(model, masks, changed);
  const editor = new Editor(model, canvas, pixels, masks, view, history, changed);
  const painter = new Painter(editor);
  const parts = [toolbar(editor, view, history, changed), boxTable(model, editor), statusLine(model, masks, editor)];
  const stage = element("div", { class: "deepmac-stage" }, parts[0].element, canvas);
  const help = element("p", { class: "deepmac-help" }, HELP);
  const whole = element("div", { class: "deepmac-canvas", tabindex: -1 }, parts[2].element, stage, parts[1].element, help);
  el.append(whole); // a click anywhere leads keys to it
  const heardAround = [
    ["keydown", (event) => editor.key(event)],
    ["keyup", (event) => editor.keyUp(event)],
    ["focusout", () => editor.finishNudge()],
  ];
  // "Run all" leads to the end of a notebook: back to the window, as long as it is being loaded.
  const surroundings = () => el.closest(".widget-vbox") ?? whole;
  if (!model.get("ready")) setTimeout(() => surroundings().scrollIntoView(), 100);

  function show() {
    frame = 0;
    whole.classList.toggle("loading", !model.get("ready"));
    painter.draw();
    for (const part of parts) part.update();
    const around = surroundings();
    nameSliders(around);
    around.addEventListener("keydown", tellEnter, true); // once, however often it is added
    for (const [type, heard] of heardAround) around.addEventListener(type, heard);
    const { boxes, selected } = editor;
    const chosen = boxes[selected] ? ` Box ${selected + 1}, ${boxes[selected].name}, is selected.` : "";
    const seen = `Picture of ${view.picture.join(" by ")} pixels with ${boxes.length} boxes.`;
    canvas.setAttribute("aria-label", `${seen}${chosen} ${HELP}`);
  }
  function resize() {
    const width = stage.clientWidth;
    const fitting = (width * view.picture[1]) / view.picture[0];
    const height = clamp(fitting, 0.4 * window.innerHeight, 0.55 * window.innerHeight);
    canvas.style.height = `${height}px`;
    [canvas.width, canvas.height] = [width, height].map((side) => Math.round(side * window.devicePixelRatio));
    view.resize([width, height]);
    show(); // at once: a resized canvas is empty
  }
  let page = model.get("page");
  function open() {
    const size = model.get("picture").slice(0, 2);
    const turned = page !== model.get("page") && size.join() === view.picture.join();
    page = model.get("page");
    view.picture = size;
    if (!turned) view.zoomTo(view.fitting);
    pixels.load();
    editor.cancel();
    resize();
  }
  const receive = (message, buffers) => {
    if (message.tile) pixels.receive(message, buffers);
    else masks.receive(message);
    changed();
  };
  const listening = [
    ["msg:custom", receive],
    ["change:picture", open],
    ["change:boxes", () => (editor.drag = editor.edited = null)], // after "undo" they may be gone
    ["change:status", () => (masks.heard(), (editor.said = ""))],
    ...["opacity", "outline"].map((name) => [`change:${name}`, () => (editor.said = "")]),
    ["change:ready", () => masks.ask()],
    ["change:selected", () => (editor.aim = null)],
    ["comm_live_update", () => masks.ask()], // of ipywidgets: the kernel was restarted
    ["change", changed],
  ];
  for (const [event, handler] of listening) model.on(event, handler);
  const observer = new ResizeObserver(resize);
  open();
  observer.observe(stage);
  return () => {
    observer.disconnect();
    for (const [event, handler] of listening) model.off(event, handler);
  };
}

// Saves a file that the kernel sends, once however many views there are.
function save({ download }, [content]) {
  const address = URL.createObjectURL(new Blob([content]));
  element("a", { href: address, download }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// The history is kept here, however many views there are: while the kernel is busy, it hears of the last state alone.
export default () => {
  const history = new History();
  return {
    initialize({ model }) {
      const keep = () => history.add(model.get("boxes"), model.get("first"));
      keep();
      for (const change of ["change:boxes", "change:picture"]) model.on(change, keep);
      model.on("msg:custom", (message, buffers) => message.download && save(message, buffers));
      // An export was pressed: whatever was drawn until then has been sent by now.
      model.on("msg:custom", (message) => message.export && model.send(message));
    },
    render: (context) => render(context, history),
  };
};
