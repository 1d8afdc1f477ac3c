"""The demo's canvas in a real browser without JupyterLab.

page = CanvasPage(chromium, canvas)
page.drag((10, 10), (60, 40))  # in pixels of the picture
assert canvas.boxes
"""

import numpy as np
from widget_page import WidgetPage


class CanvasPage(WidgetPage):
    """A page with nothing but the canvas."""

    @property
    def canvas(self):
        return self.widget

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

    @property
    def boxes(self) -> np.ndarray:
        """What the kernel knows: float [N, 4], (xmin, ymin, xmax, ymax) in pixels of the picture."""
        return np.reshape([item["box"] for item in self.canvas.boxes], (-1, 4))

    def color(self, x: int, y: int) -> list[int]:
        """What is seen at a point of the canvas, in pixels of the screen: RGB."""
        read = "(canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data]"
        return self.page.locator("canvas").evaluate(read, [x, y])[:3]
