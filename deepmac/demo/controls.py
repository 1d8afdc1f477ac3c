"""What stands around the canvas: the widgets and where they are; what they do is in `app`."""

import html

import ipywidgets as widgets

from deepmac.demo.canvas import Canvas
from deepmac.demo.exports import EXPORTS
from deepmac.demo.samples import SAMPLES
from deepmac.inference.find import PUBLISHED_MODELS

FOLDER = "a folder ..."
OWN = "a picture of your own"  # in the menu of pictures, until there is one with a name
_SHIPPED = ("mini, comes with the package", "mini")


class Controls(widgets.VBox):
    """The window.

    Attributes:
        sample, upload, address: where the picture comes from.
        page, note: which page of a stack is seen, and how contrast was stretched; shown where needed.
        model, folder: `folder` is only shown where `model` is `FOLDER`.
        canvas: the picture with its boxes and masks.
        examples: a button that draws the boxes of a sample.
        opacity, threshold, outline: how masks are drawn.
        exports: title -> button, of each of `EXPORTS`.
    """

    def __init__(self):
        self.sample = widgets.Dropdown(
            description="Picture", tooltip="Samples, and the last picture of your own"
        )
        self.name_own(OWN)
        self.upload = widgets.FileUpload(accept="image/*,.tif,.tiff", description="Upload")
        self.upload.tooltip = "A picture on your computer"
        self.address = _entry("or its path or https:// address, then Enter")
        self.examples = widgets.Button(description="Examples", tooltip="Draw the boxes of this sample")
        self.page = widgets.BoundedIntText(description="Page", min=1, max=1, tooltip="Of a stack")
        self.note = widgets.HTML()
        published = [(f"{name}, downloaded when chosen", name) for name in PUBLISHED_MODELS]
        options = [_SHIPPED, *published, (FOLDER, FOLDER)]
        self.model = widgets.Dropdown(options=options, description="Model", tooltip="What finds the masks")
        self.folder = _entry("folder of a trained model, then Enter")
        self.message = widgets.HTML()
        self.canvas = Canvas()
        self.opacity = _slider("Opacity", 0.5, 0.0, 1.0, "How much of the picture the masks cover")
        self.threshold = _slider("Threshold", 0.5, 0.05, 0.95, "A mask is where the probability is greater")
        self.outline = widgets.Checkbox(value=True, description="Outline", indent=False, tooltip="Of masks")
        self.exports = {
            title: widgets.Button(description=title, tooltip=content.__doc__, icon="download")
            for title, (_, content) in EXPORTS.items()
        }
        for control in (self.sample, self.model):
            control.layout.width = "370px"
        for control in (self.upload, self.examples, self.outline, *self.exports.values()):
            control.layout.width = "auto"
        self.page.layout.width = "160px"
        super().__init__(
            [
                _row(self.sample, self.examples, self.upload, self.address),
                _row(self.model, self.folder, self.page, self.note),
                _row(widgets.Label("Save", tooltip="Files of the masks"), *self.exports.values()),
                self.message,
                self.canvas,
                _row(self.opacity, self.threshold, self.outline),
            ]
        )
        widgets.jslink((self.opacity, "value"), (self.canvas, "opacity"))
        widgets.jslink((self.outline, "value"), (self.canvas, "outline"))
        self.model.observe(self._show_folder, names="value")
        self._show_folder()

    def name_own(self, name: str):
        """Gives the first line of the menu of pictures the name of one's own."""
        self.sample.options = [(name, OWN), *((sample.title, key) for key, sample in SAMPLES.items())]

    def say(self, text: str, error: bool = False):
        """Writes a line of plain text above the picture."""
        style = "color: var(--jp-ui-font-color1, inherit)"
        if error:
            style = "color: var(--jp-error-color1, #b00020); font-weight: bold"
        self.message.value = f'<span role="status" style="{style}">{html.escape(text)}</span>'

    def _show_folder(self, _change=None):
        self.folder.layout.display = None if self.model.value == FOLDER else "none"


def _entry(placeholder):
    """A line of text that counts when Enter is pressed."""
    layout = widgets.Layout(width="auto", flex="1 1 220px")
    return widgets.Text(placeholder=placeholder, tooltip=placeholder, continuous_update=False, layout=layout)


def _slider(description, value, lowest, highest, tooltip):
    return widgets.FloatSlider(
        value, min=lowest, max=highest, step=0.05, description=description, tooltip=tooltip
    )


def _row(*children):
    return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap"))
