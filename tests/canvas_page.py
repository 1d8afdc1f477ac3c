"""The demo's canvas in a real browser without JupyterLab: its two sides talk through Playwright.

page = CanvasPage(chromium, canvas)
page.drag((10, 10), (60, 40))  # in pixels of the picture
assert canvas.boxes
"""

import base64

import numpy as np
from playwright.sync_api import Browser

from deepmac.demo.canvas import Canvas

_TRAITS = ("boxes", "selected", "masks", "opacity", "outline", "undoable", "redoable", "ready", "colors")
_ADDRESS = "http://canvas.test/"
_PAGE = """<!doctype html><style>:root { color-scheme: light dark }</style>
<style id="style"></style><div id="window"></div><script type="module">
import widget from "./canvas.js";
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const state = {}, handlers = [];
let dirty = {};
const fire = (name, ...values) => handlers.forEach(([on, handler]) => on === name && handler(...values));
function receive({ traits, messages }) {
  for (const [name, value] of Object.entries(traits)) state[name] = name === "preview" ? bytes(value) : value;
  for (const name of Object.keys(traits)) fire(`change:${name}`);
  if (Object.keys(traits).length) fire("change");
  for (const [message, buffers] of messages) fire("msg:custom", message, buffers.map(bytes));
}
const tell = async (message) => {
  const changes = dirty;
  dirty = {};
  receive(await window.kernel(changes, message ?? null));
};
const model = {
  get: (name) => state[name],
  set: (name, value) => { dirty[name] = state[name] = value; fire(`change:${name}`); fire("change"); },
  save_changes: () => tell(),
  send: (message) => tell(message),
  on: (name, handler) => handlers.push([name, handler]),
  off: () => {},
};
await tell();
widget.initialize({ model });
widget.render({ model, el: document.getElementById("window") });
</script>"""


class CanvasPage:
    """A page with nothing but the canvas.

    Attributes:
        page: Playwright's.
        canvas: the kernel's side.
    """

    def __init__(self, browser: Browser, canvas: Canvas, size=(1000, 760), **options):
        """Opens the page; `size` in pixels, other options as Playwright's `new_page` takes them."""
        self.canvas = canvas
        self.page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **options)
        self._seen, self._messages = {}, []
        canvas.send = lambda content, buffers=(): self._messages.append((content, buffers))
        self.page.route(
            f"{_ADDRESS}canvas.js",
            lambda route: route.fulfill(body=str(canvas._esm), content_type="text/javascript"),
        )
        self.page.route(_ADDRESS, lambda route: route.fulfill(body=_PAGE, content_type="text/html"))
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.expose_function("kernel", self._answer)
        self.page.goto(_ADDRESS)
        self.page.add_style_tag(content=str(canvas._css))
        self.page.locator("canvas").wait_for()
        self.settle()

    def _answer(self, changes: dict, message: dict | None) -> dict:
        """Does what the browser asks for, and tells what is new."""
        self._seen |= changes
        self.canvas.set_state(changes)
        if message:
            self.canvas._handle_custom_msg(message, [])
        return self._news()

    def _news(self) -> dict:
        state = {name: getattr(self.canvas, name) for name in (*_TRAITS, "picture", "preview")}
        news = {name: value for name, value in state.items() if self._seen.get(name) != value}
        self._seen |= news
        if "preview" in news:
            news["preview"] = base64.b64encode(news["preview"]).decode()
        messages = [
            (content, [base64.b64encode(buffer).decode() for buffer in buffers])
            for content, buffers in self._messages
        ]
        self._messages.clear()
        return {"traits": news, "messages": messages}

    def settle(self):
        """Waits until nothing more is drawn."""
        self.page.wait_for_timeout(150)
        self.page.evaluate("() => new Promise(requestAnimationFrame)")
        assert not self.errors, self.errors

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the picture is in the window while the whole picture is seen."""
        box = self.page.locator("canvas").bounding_box()
        width, height = self.canvas.picture[:2]
        scale = min(box["width"] / width, box["height"] / height)
        left, top = (box["width"] - scale * width) / 2, (box["height"] - scale * height) / 2
        return box["x"] + left + scale * x, box["y"] + top + scale * y

    def drag(self, start, end, button="left"):
        """Presses the mouse at a pixel of the picture, and lets go at another."""
        mouse = self.page.mouse
        mouse.move(*self.place(*start))
        mouse.down(button=button)
        mouse.move(*self.place(*end), steps=5)
        mouse.up(button=button)
        self.settle()

    def click(self, x: float, y: float):
        self.page.mouse.click(*self.place(x, y))
        self.settle()

    def press(self, *keys: str):
        """Presses keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    @property
    def boxes(self) -> np.ndarray:
        """What the kernel knows: float [N, 4], (xmin, ymin, xmax, ymax) in pixels of the picture."""
        return np.reshape([item["box"] for item in self.canvas.boxes], (-1, 4))

    def color(self, x: int, y: int) -> list[int]:
        """What is seen at a point of the canvas, in pixels of the screen: RGB."""
        read = "(canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data]"
        return self.page.locator("canvas").evaluate(read, [x, y])[:3]
