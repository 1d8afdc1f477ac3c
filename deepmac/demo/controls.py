"""What stands around the canvas: the widgets; their sizes are in `canvas.css`, what they do is in `app`."""

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
        self.sample = widgets.Dropdown(description="Picture", tooltip="Samples, and your own last one")
        self.name_own(OWN)
        self.upload = widgets.FileUpload(accept="image/*,.tif,.tiff", tooltip="A picture on your computer")
        self.address = _entry("or its path or https:// address, then Enter")
        self.examples = widgets.Button(description="Examples", tooltip="Draw the boxes of this sample")
        self.page = widgets.BoundedIntText(description="Page", min=1, max=1, tooltip="Of a stack")
        self.page.layout.display = "none"
        self.note = widgets.HTML()
        published = [(f"{name}, downloaded when chosen", name) for name in PUBLISHED_MODELS]
        options = [_SHIPPED, *published, (FOLDER, FOLDER)]
        self.model = widgets.Dropdown(options=options, description="Model", tooltip="What finds the masks")
        self.folder = _entry("folder of a trained model, then Enter")
        self.canvas = Canvas()
        self.opacity = widgets.FloatSlider(0.5, max=1.0, step=0.05, description="Opacity")
        self.opacity.tooltip = "How much of the picture the masks cover"
        self.threshold = widgets.FloatSlider(0.5, min=0.05, max=0.95, step=0.05, description="Threshold")
        self.threshold.tooltip = "A mask is where the probability is greater"
        self.outline = widgets.Checkbox(value=True, description="Outline", indent=False, tooltip="Of masks")
        self.exports = {
            title: widgets.Button(description=title, tooltip=content.__doc__, icon="download")
            for title, (_, content) in EXPORTS.items()
        }
        super().__init__(
            [
                widgets.HBox([self.sample, self.examples, self.upload, self.address]),
                widgets.HBox([self.model, self.folder, self.page, self.note]),
                widgets.HBox([widgets.Label("Save", tooltip="Files of the masks"), *self.exports.values()]),
                self.canvas,
                widgets.HBox([self.opacity, self.threshold, self.outline]),
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
        self.canvas.status = [text, error]

    def _show_folder(self, _change=None):
        self.folder.layout.display = None if self.model.value == FOLDER else "none"


def _entry(placeholder):
    """A line of text that counts when Enter is pressed."""
    return widgets.Text(placeholder=placeholder, tooltip=placeholder, continuous_update=False)
