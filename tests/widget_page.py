"""An anywidget in a real browser without JupyterLab: its two sides talk through Playwright."""

import base64

import anywidget
from playwright.sync_api import Browser

_ADDRESS = "http://widget.test/"
_PAGE = """<!doctype html><style>:root { color-scheme: light dark }</style>
<style id="style"></style><div id="window"></div><script type="module">
import widget from "./widget.js";
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const state = {}, handlers = [];
let dirty = {};
const fire = (name, ...values) => handlers.forEach(([on, handler]) => on === name && handler(...values));
function receive({ traits, messages }) {
  const decoded = (value) => (value?.base64 ? bytes(value.base64) : value);
  for (const [name, value] of Object.entries(traits)) state[name] = decoded(value);
  for (const name of Object.keys(traits)) fire(`change:${name}`);
  if (Object.keys(traits).length) fire("change");
  for (const [message, buffers] of messages) fire("msg:custom", message, buffers.map(bytes));
}
window.waiting = 0; // for answers of the kernel
const tell = async (message) => {
  const changes = dirty;
  dirty = {};
  window.waiting += 1;
  receive(await window.kernel(changes, message ?? null));
  window.waiting -= 1;
};
const model = {
  get: (name) => state[name],
  set: (name, value) => {
    if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
    dirty[name] = state[name] = value;
    fire(`change:${name}`);
    fire("change");
  },
  // While a kernel is busy, ipywidgets keeps the last state for it alone; one that is gone gets no messages.
  save_changes: () => window.gone || window.busy || tell(),
  send: (message) => {
    if (window.gone) throw new Error("Cannot send"); // as JupyterLab does after a restart of the kernel
    window.busy || tell(message);
  },
  on: (name, handler) => handlers.push([name, handler]),
  off: () => {},
};
window.ask = () => tell();
window.fire = fire;
await tell();
const made = typeof widget === "function" ? await widget() : widget;
made.initialize?.({ model });
made.render({ model, el: document.getElementById("window") });
</script>"""


class WidgetPage:
    """A page with nothing but a widget.

    Attributes:
        page: Playwright's.
        widget: the kernel's side.
    """

    def __init__(self, browser: Browser, widget: anywidget.AnyWidget, size=(1000, 760), **options):
        """Opens the page; `size` in pixels, other options as Playwright's `new_page` takes them."""
        self.widget = widget
        self.page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **options)
        self._seen, self._messages, self.errors = {}, [], []
        self._traits = [name for name in widget.traits(sync=True) if not name.startswith(("_", "layout"))]
        widget.send = lambda content, buffers=None: self._messages.append((content, buffers or ()))
        self.page.route(
            f"{_ADDRESS}widget.js",
            lambda route: route.fulfill(body=str(widget._esm), content_type="text/javascript"),
        )
        self.page.route(_ADDRESS, lambda route: route.fulfill(body=_PAGE, content_type="text/html"))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.expose_function("kernel", self._answer)
        self.page.goto(_ADDRESS)
        self.page.add_style_tag(content=str(widget._css))
        self.page.locator("#window > *").wait_for()
        self.settle()

    def _answer(self, changes: dict, message: dict | None) -> dict:
        """Does what the browser asks for, and tells what is new."""
        self._seen |= changes
        self.widget.set_state(changes)
        if message:
            self.widget._handle_custom_msg(message, [])
        return self._news()

    def _news(self) -> dict:
        state = {name: getattr(self.widget, name) for name in self._traits}
        news = {name: value for name, value in state.items() if self._seen.get(name) != value}
        self._seen |= news
        encoded = {
            name: _encoded(value) if isinstance(value, bytes) else value for name, value in news.items()
        }
        messages = [
            (content, [_encoded(buffer)["base64"] for buffer in buffers])
            for content, buffers in self._messages
        ]
        self._messages.clear()
        return {"traits": encoded, "messages": messages}

    def settle(self):
        """Waits until the kernel has answered and nothing more is drawn."""
        self.page.wait_for_timeout(150)
        self.page.wait_for_function("window.waiting === 0")
        self.page.evaluate("() => new Promise(requestAnimationFrame)")
        assert not self.errors, self.errors

    def ask(self):
        """Brings what the kernel has changed into the page."""
        self.page.evaluate("window.ask()")
        self.settle()

    def press(self, *keys: str):
        """Presses keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()


def _encoded(content: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(content).decode()}
