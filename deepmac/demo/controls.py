"""What stands around the canvas: the widgets and where they are; what they do is in `app`."""

import html

import ipywidgets as widgets

from deepmac.demo.canvas import Canvas
from deepmac.demo.samples import SAMPLES
from deepmac.inference.find import PUBLISHED_MODELS

FOLDER = "a folder ..."
_OWN = "a picture of your own"
_SHIPPED = ("mini, comes with the package", "mini")
_PANEL = "300px"


class Controls(widgets.VBox):
    """The window.

    Attributes:
        sample, upload, address: where the picture comes from.
        model, folder: `folder` is only shown where `model` is `FOLDER`.
        canvas: the picture.
        name: of the selected box.
        examples, remove, clear: buttons.
        opacity, threshold, outline: how masks are drawn.
        masks: a table of them.
        coco, labels, overlay: buttons that export.
    """

    def __init__(self):
        wide = widgets.Layout(width="auto")
        samples = [(sample.title, name) for name, sample in SAMPLES.items()]
        self.sample = _choice("Picture", [(_OWN, None), *samples])
        self.upload = widgets.FileUpload(accept="image/*", description="Upload", layout=wide)
        self.address = _entry("or its path or https:// address, then Enter")
        published = [(f"{name}, downloaded when chosen", name) for name in PUBLISHED_MODELS]
        self.model = _choice("Model", [_SHIPPED, *published, (FOLDER, FOLDER)])
        self.folder = _entry("folder of a trained model, then Enter")
        self.progress = widgets.Output()

        self.canvas = Canvas()
        self.name = widgets.Text(description="Name", placeholder="click a box, then name it", disabled=True)
        self.examples = widgets.Button(description="Examples", tooltip="Draw the boxes of this sample")
        self.remove = widgets.Button(
            description="Remove box", tooltip="Remove the selected box", disabled=True
        )
        self.clear = widgets.Button(description="Remove all")
        self.opacity = _slider("Opacity", 0.5, 0.0, 1.0, "How much of the picture the masks cover")
        self.threshold = _slider("Threshold", 0.5, 0.05, 0.95, "A mask is where the probability is greater")
        self.outline = widgets.Checkbox(value=True, description="Outline", indent=True)
        self.masks = widgets.HTML()
        self.coco = _export_button("COCO", "Boxes, names and masks as a COCO data set (JSON)")
        self.labels = _export_button("Labels", "A PNG whose pixels are the numbers of their boxes")
        self.overlay = _export_button("Overlay", "The picture as shown, at its own size (PNG)")
        self.message = widgets.HTML()

        for control in (self.name, self.opacity, self.threshold, self.outline):
            control.layout.width = _PANEL
        for button in (self.examples, self.remove, self.clear, self.coco, self.labels, self.overlay):
            button.layout = widgets.Layout(width="auto", flex="1 1 auto")
        panel = widgets.VBox(
            [
                self.name,
                _row(self.examples, self.remove, self.clear),
                self.opacity,
                self.threshold,
                self.outline,
                self.masks,
                _row(self.coco, self.labels, self.overlay),
            ],
            layout=widgets.Layout(width="320px", flex="0 0 320px"),
        )
        super().__init__(
            [
                _row(self.sample, self.upload, self.address),
                _row(self.model, self.folder),
                self.progress,
                self.message,
                _row(self.canvas, panel, align_items="flex-start"),
            ]
        )
        self.model.observe(self._show_folder, names="value")
        self._show_folder()

    def say(self, text: str, error: bool = False, link: str = ""):
        """Writes a line above the picture.

        Args:
            text: plain text.
            error: whether something went wrong.
            link: HTML after the text.
        """
        style = "color: var(--jp-ui-font-color1, #333)"
        if error:
            style = "color: var(--jp-error-color1, #b00020); font-weight: bold"
        self.message.value = f'<span role="status" style="{style}">{html.escape(text)}</span> {link}'

    def _show_folder(self, _change=None):
        self.folder.layout.display = None if self.model.value == FOLDER else "none"


def _choice(description, options):
    return widgets.Dropdown(options=options, description=description, layout=widgets.Layout(width="400px"))


def _entry(placeholder):
    """A line of text that counts when Enter is pressed."""
    layout = widgets.Layout(width="auto", flex="1 1 220px")
    return widgets.Text(placeholder=placeholder, continuous_update=False, layout=layout)


def _slider(description, value, lowest, highest, tooltip):
    return widgets.FloatSlider(
        value, min=lowest, max=highest, step=0.05, description=description, tooltip=tooltip
    )


def _export_button(description, tooltip):
    return widgets.Button(description=description, tooltip=tooltip, icon="download")


def _row(*children, **layout):
    return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap", **layout))
