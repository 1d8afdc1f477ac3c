"""The demo's canvas, and what mouse, wheel and keys do in a real browser."""

import numpy as np
import pytest

from deepmac.demo.canvas import Canvas

WIDTH, HEIGHT = 640, 400


def _item(*box, name="object") -> dict:
    return {"box": list(box), "name": name}


def test_every_box_has_a_colour_of_its_own_before_the_kernel_hears_of_it():
    canvas = Canvas()
    canvas.boxes = [_item(0, 0, 1, 1)] * 100
    assert len(set(canvas.colors[:101])) == 101


def test_a_large_picture_is_sent_as_a_small_preview_and_tiles_on_request():
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(0, 255, (30, 120, 3), np.uint8), 100, axis=0), 100, axis=1)
    canvas = Canvas()
    canvas.show_picture(image)
    width, height, number, halvings = canvas.picture
    assert (width, height, halvings) == (12000, 3000, 4)
    assert len(canvas.preview) < 300_000, "it may be saved with the notebook"
    sent = []
    canvas.send = lambda content, buffers: sent.append((content, buffers))
    canvas._handle_custom_msg({"tiles": [[0, 23, 5], [2, 0, 0]], "picture": number}, [])
    canvas._handle_custom_msg({"tiles": [[0, 0, 0]], "picture": number - 1}, [])
    assert [content["tile"] for content, _ in sent] == [[0, 23, 5], [2, 0, 0]]
    assert all(len(buffers[0]) < 400_000 for _, buffers in sent)


@pytest.fixture
def page(chromium):
    """A canvas with a picture that is red from left to right and green from top to bottom."""
    from canvas_page import CanvasPage

    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([xs * 255 / WIDTH, ys * 255 / HEIGHT, np.zeros_like(xs)], axis=-1).astype(np.uint8)
    canvas = Canvas()
    canvas.show_picture(image)
    canvas.ready = True
    return CanvasPage(chromium, canvas)


@pytest.mark.browser
def test_boxes_are_drawn_anywhere_and_changed_by_the_handles_of_the_selected_one(page):
    page.drag((100, 100), (300, 300))
    page.drag((150, 150), (250, 200))  # inside another one
    page.press("n")
    page.page.keyboard.down("Alt")
    page.drag((200, 170), (210, 180))  # in both: the one that is selected is moved
    page.page.keyboard.up("Alt")
    np.testing.assert_allclose(page.boxes, [[110, 110, 310, 310], [150, 150, 250, 200]], atol=1)
    page.press("Control+z", "Escape")
    for number in range(10):  # side by side
        page.drag((100 + 20 * number, 320), (118 + 20 * number, 360))
    np.testing.assert_allclose(page.boxes[:2], [[100, 100, 300, 300], [150, 150, 250, 200]], atol=1)
    expected = [[100 + 20 * number, 320, 118 + 20 * number, 360] for number in range(10)]
    np.testing.assert_allclose(page.boxes[2:], expected, atol=1)

    page.click(200, 170)  # in both: the smaller one is selected
    assert page.canvas.selected == 1
    page.drag((250, 200), (280, 230))  # by its corner
    np.testing.assert_allclose(page.boxes[1], [150, 150, 280, 230], atol=1)
    page.drag((150, 150), (150, 290))  # a corner past another one
    np.testing.assert_allclose(page.boxes[1], [150, 230, 280, 290], atol=1)
    page.drag((215, 290), (500, 300))  # by its lower side, which moves down alone
    np.testing.assert_allclose(page.boxes[1], [150, 230, 280, 300], atol=1)
    page.press("Control+z", "Escape")
    assert page.canvas.selected == -1
    page.drag((280, 290), (400, 310))  # the corner of a box that is not selected: a new one
    assert len(page.boxes) == 13

    page.page.keyboard.down("Alt")
    page.drag((200, 260), (900, 260))  # as far as the picture goes
    page.page.keyboard.up("Alt")
    np.testing.assert_allclose(page.boxes[1], [WIDTH - 130, 230, WIDTH, 290], atol=1)
    page.drag((600, 380), (900, 900))
    np.testing.assert_allclose(page.boxes[-1], [600, 380, WIDTH, HEIGHT], atol=1)

    count = len(page.boxes)
    page.drag((20, 20), (60, 21))
    line = page.page.locator("[role=status]")
    assert len(page.boxes) == count and "Too small" in line.inner_text()
    page.page.locator("tbody input").first.fill("renamed")
    page.press("Enter")
    assert "Too small" not in line.inner_text()
    page.page.mouse.move(*page.place(20, 20))
    page.page.mouse.down()
    page.page.mouse.move(*page.place(80, 80), steps=3)
    page.press("Escape")
    page.page.mouse.up()
    page.settle()
    assert len(page.boxes) == count


@pytest.mark.browser
def test_handles_lie_around_a_small_box_which_they_would_cover(page):
    page.drag((100, 100), (116, 116))
    page.click(108, 108)
    page.drag((104, 104), (112, 112))  # inside it: a new one
    np.testing.assert_allclose(page.boxes, [[100, 100, 116, 116], [104, 104, 112, 112]], atol=1)
    page.press("Control+z", "n")
    x, y = page.place(116, 116)
    page.page.mouse.move(x + 6, y + 6)
    page.page.mouse.down()
    page.page.mouse.move(*(end + 6 for end in page.place(160, 150)), steps=5)
    page.page.mouse.up()
    page.settle()
    np.testing.assert_allclose(page.boxes, [[100, 100, 160, 150]], atol=1)


@pytest.mark.browser
def test_undo_by_keys_and_buttons(page):
    page.drag((100, 100), (300, 300))
    page.drag((400, 100), (500, 200))
    page.page.locator("button", has_text="Remove all").click()
    page.settle()
    assert len(page.boxes) == 0
    page.page.locator("button", has_text="Undo").click()
    page.settle()
    assert len(page.boxes) == 2
    page.page.locator("canvas").focus()
    page.press("Control+z")
    assert len(page.boxes) == 1
    page.press("Control+Shift+Z")
    assert len(page.boxes) == 2
    page.press("Control+z", "Control+z", "Control+z")
    assert page.page.locator("button", has_text="Undo").is_disabled()


@pytest.mark.browser
def test_keys_are_heard_after_a_button_that_disables_itself(page):
    page.drag((100, 100), (300, 300))
    for name in ("Remove all", "Remove"):
        page.click(200, 200)
        page.page.get_by_role("button", name=name, exact=True).click()
        page.settle()
        assert len(page.boxes) == 0
        page.press("Control+z")
        assert len(page.boxes) == 1


@pytest.mark.browser
def test_the_name_of_the_selected_box_lies_over_others(page):
    page.canvas.boxes = [_item(100, 200, 130, 230, name="a name that is long"), _item(140, 200, 160, 220)]
    page.canvas.selected = 0
    page.ask()
    canvas = page.page.locator("canvas").bounding_box()
    x, y = np.subtract(page.place(140, 200), (canvas["x"], canvas["y"])).round().astype(int).tolist()
    assert page.color(x + 2, y - 17) == list(bytes.fromhex(page.canvas.colors[0][1:]))


@pytest.mark.browser
def test_what_was_removed_from_a_picture_comes_back_after_another_one(page):
    image = np.zeros((50, 50, 3), np.uint8)
    page.canvas.show_picture(image, [_item(10, 10, 30, 30), _item(20, 20, 40, 40)], same="first")
    page.ask()
    page.page.get_by_role("button", name="Remove all").click()
    page.settle()
    page.canvas.show_picture(image, same="other")
    page.ask()
    undo = page.page.get_by_role("button", name="Undo")
    assert undo.is_disabled()
    page.canvas.show_picture(image, same="first")
    page.ask()
    assert len(page.boxes) == 0
    undo.click()
    page.settle()
    assert len(page.boxes) == 2 and undo.is_disabled()


@pytest.mark.browser
def test_undo_and_redo_walk_through_all_states_however_fast_one_is(page):
    """The kernel is given no time to answer in between."""
    keys = {"draw": "b", "remove": "Backspace", "undo": "Control+z", "redo": "Control+Shift+Z"}
    past, future, selected = [0], [], -1
    page.page.locator("canvas").focus()
    for action in np.random.default_rng(0).choice(list(keys), 60, p=[0.4, 0.1, 0.3, 0.2]):
        page.page.keyboard.press(keys[action])
        if action == "draw" or (action == "remove" and selected >= 0):
            past, future = [*past, past[-1] + (1 if action == "draw" else -1)], []
        elif action == "undo" and len(past) > 1:
            future.append(past.pop())
        elif action == "redo" and future:
            past.append(future.pop())
        if action in ("draw", "remove"):
            selected = past[-1] - 1 if action == "draw" else -1
        elif selected >= past[-1]:
            selected = -1  # there is no such box any more
        page.page.evaluate("() => new Promise(requestAnimationFrame)")
        assert page.page.locator("tbody tr").count() == past[-1]
    page.settle()
    assert len(page.boxes) == past[-1]
    for name, left in (("Undo", len(past) > 1), ("Redo", bool(future))):
        assert page.page.locator("button", has_text=name).is_enabled() == left


@pytest.mark.browser
def test_each_change_can_be_undone_though_the_kernel_heard_of_the_last_alone(page):
    heard = []
    page.canvas.observe(lambda change: heard.append(len(change["new"])), names="boxes")
    page.page.evaluate("window.busy = true")
    page.drag((100, 100), (300, 300))
    page.drag((400, 100), (500, 200))
    page.page.evaluate("window.busy = false")
    page.drag((400, 250), (500, 350))
    assert heard == [3]
    page.press("Control+z")
    assert len(page.boxes) == 2
    page.press("Control+z")
    assert len(page.boxes) == 1


@pytest.mark.browser
def test_keys_alone_draw_move_name_and_remove_boxes(page):
    page.press(*["Tab"] * 5)  # past the buttons that can be pressed
    assert page.page.evaluate("document.activeElement.tagName") == "CANVAS"
    page.press("b")
    page.press("ArrowRight", "ArrowRight", "ArrowDown")
    [before] = page.boxes
    page.press("Shift+ArrowRight", "Shift+ArrowUp")
    [after] = page.boxes
    assert (after - before).tolist()[:2] == [0, 0]
    assert after[2] > before[2] and after[3] < before[3]
    page.press("Enter")
    page.page.keyboard.type("a cell")
    page.press("Enter")
    assert page.canvas.boxes[0]["name"] == "a cell"
    page.press("b", "p")
    assert (len(page.boxes), page.canvas.selected) == (2, 0)
    label = page.page.locator("canvas").get_attribute("aria-label")
    assert "2 boxes" in label and "Box 1, a cell, is selected" in label
    page.press("Delete")
    assert [item["name"] for item in page.canvas.boxes] == ["object"]


@pytest.mark.browser
def test_keys_work_in_the_whole_window_and_none_but_that_to_save_leaves_it(page):
    page.page.evaluate("() => { document.body.onkeydown = ({ key }) => (window.heard ??= []).push(key) }")
    page.drag((100, 100), (300, 300))
    page.press("x", "d", "m", "r", "a", "Control+Enter", "Control+s")
    page.page.get_by_role("button", name="Fit").click()
    page.press("b", "Enter", "ArrowDown")
    moved = page.boxes[-1]
    page.page.locator(".deepmac-help").click()
    page.press("Control+z", "d", "p", "Delete")
    assert len(page.boxes) == 1 and moved[1] > page.boxes[0][1]
    page.page.locator("label input").fill("")
    page.press("b", "Delete", "x")
    assert page.page.locator("label input").input_value() == "bx" and len(page.boxes) == 1
    assert page.page.evaluate("window.heard.filter(key => key !== 'Control')") == ["s"]


@pytest.mark.browser
def test_rows_and_boxes_select_each_other(page):
    page.drag((100, 100), (300, 300))
    page.drag((400, 100), (500, 200))
    mask = {"of": page.canvas.boxes[0]["box"], "path": "", "area": 12345, "quality": "check"}
    page.canvas.show_masks([mask])
    rows = page.page.locator("tbody tr")
    rows.nth(0).locator("td").nth(2).click()
    page.settle()
    assert page.canvas.selected == 0
    assert rows.nth(0).inner_text().split() == ["1", "12,345", "check"]
    page.click(450, 150)
    assert "chosen" in rows.nth(1).get_attribute("class")
    rows.nth(0).locator("input").fill("nucleus")
    page.click(450, 150)  # leaves the input
    assert [item["name"] for item in page.canvas.boxes] == ["nucleus", "object"]
    assert page.canvas.selected == 1
    page.page.locator("label input").fill("cell")
    page.drag((20, 20), (60, 60))
    assert page.canvas.boxes[-1]["name"] == "cell"


@pytest.mark.browser
def test_names_are_told_in_full_and_escape_brings_them_back(page):
    page.drag((100, 100), (300, 300))
    name = page.page.locator("tbody input")
    name.fill("a name that is longer than its field")
    page.press("Enter")
    assert name.get_attribute("title") == name.input_value() == page.canvas.boxes[0]["name"]
    name.fill("another one")
    page.press("Escape")
    assert name.input_value() == page.canvas.boxes[0]["name"] == "a name that is longer than its field"
    assert page.page.evaluate("document.activeElement.tagName") == "CANVAS"
    page.page.locator("label input").fill("cell")
    page.press("Escape")
    page.drag((400, 100), (500, 200))
    assert page.canvas.boxes[-1]["name"] == "object"
    names = [button.get_attribute("aria-label") for button in page.page.get_by_role("button").all()]
    assert [name[0] for name in names if name] == ["\N{MINUS SIGN}", "+", "1", "b", "b"]


@pytest.mark.browser
def test_the_list_scrolls_to_the_newest_and_to_the_selected_line(page):
    page.canvas.boxes = [_item(10 * number, 10, 10 * number + 9, 60) for number in range(60)]
    page.ask()
    rows = page.page.locator("tbody tr")

    def seen(row) -> bool:
        inside = """row => {
            const [line, list] = [row, row.closest("div")].map((one) => one.getBoundingClientRect());
            const top = row.closest("table").tHead.getBoundingClientRect().bottom;
            return line.top >= top - 1 && line.bottom <= list.bottom + 1;
        }"""
        return row.evaluate(inside)

    assert seen(rows.first) and not seen(rows.last)
    page.drag((300, 200), (400, 300))
    assert rows.count() == 61 and seen(rows.last)
    page.press("n")
    assert seen(rows.first)
    page.press("p")
    assert page.canvas.selected == 60 and seen(rows.last)


@pytest.mark.browser
def test_lines_of_the_table_that_say_the_same_are_left_alone(page):
    page.canvas.boxes = [_item(10 * number, 10, 10 * number + 9, 60) for number in range(60)]
    page.ask()
    watch = """() => {
        const seen = { subtree: true, childList: true, attributes: true, characterData: true };
        const count = (changes) => (window.changes = (window.changes ?? 0) + changes.length);
        new MutationObserver(count).observe(document.querySelector("tbody"), seen);
    }"""
    page.page.evaluate(watch)
    page.page.locator("canvas").focus()
    page.press("+", "+", "ArrowLeft")
    assert page.page.evaluate("window.changes") is None
    mask = {"of": page.canvas.boxes[7]["box"], "path": "", "area": 123, "quality": "good"}
    page.canvas.show_masks([mask])
    page.ask()
    rows = page.page.locator("tbody tr").all_inner_texts()
    assert [number for number, text in enumerate(rows) if "123" in text] == [7]
    assert page.page.evaluate("window.changes") < 10


@pytest.mark.browser
def test_a_kernel_that_is_busy_with_something_else_is_told(page, monkeypatch):
    page.canvas.status = ["Draw a box", False]
    page.ask()
    line = page.page.locator("[role=status]")
    with monkeypatch.context() as busy:
        busy.setattr(page.canvas, "_handle_custom_msg", lambda *_: None)
        page.drag((100, 100), (300, 300))
        page.page.wait_for_timeout(600)
        assert "busy with other cells" in line.inner_text()
    page.press("Escape")
    assert line.inner_text() == "Draw a box"


@pytest.mark.browser
@pytest.mark.parametrize("seen", [False, True])
def test_a_kernel_that_was_restarted_is_told_and_boxes_are_still_drawn(page, seen):
    page.page.evaluate("window.gone = true")
    if seen:  # ipywidgets heard of it
        page.page.evaluate("window.fire('comm_live_update')")
    else:
        page.drag((100, 100), (300, 300))
        assert page.page.locator("tbody tr").count() == 1
    page.page.wait_for_timeout(600)
    line = page.page.locator("[role=status]")
    assert line.inner_text() == "The kernel was restarted, or is gone: run the cells again."
    assert not page.errors


@pytest.mark.browser
def test_clicks_with_shift_say_what_is_missing_and_what_is_too_much(page):
    page.drag((100, 100), (300, 300))
    half = "M100 100 200 100 200 300 100 300Z"
    page.canvas.show_masks([{"of": page.canvas.boxes[0]["box"], "path": half, "area": 1, "quality": "good"}])
    page.click(200, 200)  # the mask comes with the answer
    page.page.keyboard.down("Shift")
    page.click(150, 200)
    [click] = page.canvas.boxes[0]["clicks"]
    np.testing.assert_allclose(click, [150, 200, -1], atol=1)
    page.click(250, 200)
    page.click(400, 200)  # not in its box
    line = page.page.locator("[role=status]")
    assert line.inner_text() == "Corrections lie inside the selected box."
    page.click(120, 250)  # the kernel has not answered yet: what is seen counts
    page.click(297, 297)  # on a handle
    page.page.keyboard.up("Shift")
    assert [sign for _, _, sign in page.canvas.boxes[0]["clicks"]] == [-1, 1, -1, 1]
    page.press("Control+z", "Control+z", "Control+z")
    assert len(page.canvas.boxes[0]["clicks"]) == 1
    assert (page.canvas.selected, line.inner_text()) == (0, "")
    page.press("Escape")
    page.page.keyboard.down("Shift")
    page.click(150, 200)
    page.page.keyboard.up("Shift")
    assert line.inner_text() == "Select a box first: click on it."
    assert len(page.canvas.boxes[0]["clicks"]) == 1

    page.canvas.opacity = 0.7
    page.ask()
    assert line.inner_text() == "", "it was about what was done before"

    page.press("p", "c", *["ArrowRight"] * 3, "Enter", *["ArrowLeft"] * 99, "Enter")  # by keys alone
    (x, y, sign), (left, _, _) = page.canvas.boxes[0]["clicks"][1:]
    assert (200 < x < 300, round(y), sign) == (True, 200, 1)
    assert left == 100, "the cross stays in the box"
    page.press("Escape", "ArrowRight")
    assert page.boxes[0][0] > 100, "arrows move the box again"


@pytest.mark.browser
def test_a_long_error_is_seen_to_its_end(page):
    page.page.set_viewport_size({"width": 600, "height": 700})
    page.canvas.status = ["cannot download https://example.org/a/model.tar.gz: no connection " * 5, True]
    page.ask()
    assert page.page.locator("[role=status]").evaluate("line => line.scrollHeight - line.clientHeight") <= 0


@pytest.mark.browser
def test_what_is_dragged_may_be_gone_when_the_mouse_is_let_go(page):
    """By keys, by the kernel, or since another picture comes: then nothing of the drag is kept."""
    page.drag((100, 100), (300, 300))
    for key in ("Delete", "Control+z"):
        page.press("p")
        page.page.mouse.move(*page.place(300, 300))
        page.page.mouse.down()
        page.page.mouse.move(*page.place(350, 350), steps=2)
        page.press(key)
        page.page.mouse.move(*page.place(400, 350), steps=2)
        page.page.mouse.up()
        page.press("Control+z" if key == "Delete" else "Control+Shift+Z")
        np.testing.assert_allclose(page.boxes, [[100, 100, 300, 300]], atol=1)
    page.canvas.show_picture(np.zeros((50, 50, 3), np.uint8), [_item(10, 10, 30, 30)])
    page.press("b")  # on the picture before, which is seen until the kernel is heard of
    assert page.canvas.boxes == [_item(10, 10, 30, 30)]
    page.press("b")
    assert len(page.boxes) == 2
    page.page.locator("tbody input").first.fill("a name without a box")
    page.canvas.show_picture(np.zeros((50, 50, 3), np.uint8))
    page.ask()
    assert len(page.boxes) == 0
    assert page.page.locator("button", has_text="Undo").is_disabled()


@pytest.mark.browser
def test_zoom_keeps_what_is_under_the_mouse_and_boxes_are_drawn_where_one_sees(page):
    at = [round(value) for value in page.place(160, 300)]  # the wheel is told in whole pixels
    frame = page.page.locator("canvas").bounding_box()
    scale = min(frame["width"] / WIDTH, frame["height"] / HEIGHT)
    x, y = (160, 300) + (np.array(at) - page.place(160, 300)) / scale
    point = [round(at[0] - frame["x"]), round(at[1] - frame["y"])]
    page.page.mouse.move(*at)
    for _ in range(20):
        page.page.mouse.wheel(0, -100)
    page.settle()
    assert page.page.locator("output").inner_text() == "3200 %"
    np.testing.assert_allclose(page.color(*point), [160 * 255 / WIDTH, 300 * 255 / HEIGHT, 0], atol=4)
    for dx in (0, 96):  # three pixels of the picture
        page.page.mouse.move(at[0] + dx, at[1] + dx, steps=3)
        (page.page.mouse.up if dx else page.page.mouse.down)()
    page.settle()
    np.testing.assert_allclose(page.boxes, [[x, y, x + 3, y + 3]], atol=0.05)

    before = page.color(50, 50)
    page.page.mouse.move(frame["x"] + 50, frame["y"] + 50)
    page.page.mouse.down(button="middle")
    page.page.mouse.move(frame["x"] + 250, frame["y"] + 150, steps=4)
    page.page.mouse.up(button="middle")
    page.settle()
    np.testing.assert_allclose(page.color(250, 150), before, atol=2)
    page.press("0")
    expected = [(x - 60 / scale) * 255 / WIDTH, y * 255 / HEIGHT, 0]
    np.testing.assert_allclose(page.color(point[0] - 60, point[1]), expected, atol=4)
    assert len(page.boxes) == 1
    whole = page.page.locator("output").inner_text()
    for button, seen in (
        ("Its own pixels (1)", "100 %"),
        ("See it larger (mouse wheel)", "125 %"),
        ("Fit", whole),
    ):
        page.page.get_by_role("button", name=button).click()
        page.settle()
        assert page.page.locator("output").inner_text() == seen


@pytest.mark.browser
def test_boxes_out_of_sight_are_brought_to_the_middle(page):
    page.canvas.boxes = [_item(100, 100, 110, 110), _item(500, 300, 510, 310)]
    page.ask()
    page.page.locator("canvas").focus()
    page.press("n", *["+"] * 9, "Enter")
    page.page.keyboard.type("first")
    page.press("Enter", "n")
    box = page.page.locator("canvas").bounding_box()
    center = int(box["width"] / 2), int(box["height"] / 2)
    first, second = ([x * 255 / WIDTH, y * 255 / HEIGHT, 0] for x, y in ((105, 105), (505, 305)))
    np.testing.assert_allclose(page.color(*center), second, atol=8)
    page.press("p")
    np.testing.assert_allclose(page.color(*center), first, atol=8)
    page.press("n", "Control+z")  # the name of the other one
    np.testing.assert_allclose(page.color(*center), first, atol=8)
    assert page.canvas.boxes[0]["name"] == "object"


@pytest.mark.browser
def test_the_same_part_of_the_next_page_of_a_stack_is_seen(page):
    scale, image = page.page.locator("output"), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    whole = scale.inner_text()
    page.page.locator("canvas").focus()
    page.press("+", "+")
    closer = scale.inner_text()
    page.canvas.show_picture(image, page=1)
    page.ask()
    assert scale.inner_text() == closer != whole
    page.canvas.show_picture(image, page=1)  # of another stack
    page.ask()
    assert scale.inner_text() == whole


@pytest.mark.browser
def test_the_gesture_that_zooms_out_to_the_smallest_does_not_scroll_the_notebook(page):
    page.page.evaluate("document.body.style.height = '5000px'")
    page.page.mouse.move(*page.place(160, 200))

    def turn(dy):
        page.page.mouse.wheel(0, dy)
        page.page.wait_for_timeout(20)

    for dy in (-100, *[100] * 8):
        turn(dy)
    assert page.page.evaluate("scrollY") == 0
    page.page.wait_for_timeout(700)
    turn(100)
    page.page.wait_for_timeout(200)
    assert page.page.evaluate("scrollY") > 0


def _colored(page, color: str) -> np.ndarray:
    """Pixels of the canvas that have just this colour: [N, 2], (y, x)."""
    read = "c => [c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    width, *values = page.page.locator("canvas").evaluate(read)
    seen = np.reshape(values, (-1, width, 4))[..., :3]
    return np.argwhere((seen == [int(color[at : at + 2], 16) for at in (1, 3, 5)]).all(axis=2))


@pytest.mark.browser
def test_keys_alone_keep_the_selected_box_and_the_cross_in_sight(page):
    page.canvas.boxes = [_item(20, 20, 50, 50), _item(580, 340, 620, 380)]
    page.ask()
    first, second = page.canvas.colors[:2]
    page.page.locator("canvas").focus()
    page.press("n", *["+"] * 6)
    assert len(_colored(page, first)) and not len(_colored(page, second))
    page.press("n")
    assert len(_colored(page, second)) and not len(_colored(page, first))
    page.page.locator("tbody button").first.click()
    page.settle()
    assert len(_colored(page, first)) and not len(_colored(page, second))
    page.page.get_by_role("button", name="Its own pixels").click()
    page.settle()
    page.page.get_by_role("button", name="See it larger").click(click_count=12)
    page.settle()
    edges = _colored(page, first)
    page.press("c")
    assert len(edges) and len(_colored(page, "#000000")), "the cross"
    before = _colored(page, "#000000").mean(axis=0)
    page.press(*["ArrowRight"] * 60)  # further than the screen
    after = _colored(page, "#000000").mean(axis=0)
    width = page.page.locator("canvas").bounding_box()["width"]
    assert before[1] < after[1] < width


@pytest.mark.browser
def test_close_by_a_large_picture_shows_its_own_pixels_and_sharp_masks(chromium):
    from canvas_page import CanvasPage

    image = np.zeros((2000, 6000, 3), np.uint8)
    image[:, ::2] = 255  # lines that are grey in every smaller version
    canvas = Canvas()
    canvas.show_picture(image)
    canvas.boxes = [_item(2900, 900, 3100, 1100)]
    triangle = "M2900.0 900.0 3100.0 900.0 2900.0 1100.0Z"
    canvas.show_masks([{"of": [2900, 900, 3100, 1100], "path": triangle, "area": 20000, "quality": "good"}])
    canvas.opacity, canvas.ready = 1.0, True
    page = CanvasPage(chromium, canvas)
    np.testing.assert_allclose(page.color(20, 200), [128] * 3, atol=20)
    page.page.locator("canvas").focus()
    page.press("1", *["+"] * 10)
    page.page.wait_for_timeout(500)
    page.settle()
    frame = page.page.locator("canvas").bounding_box()
    line = "canvas => [...canvas.getContext('2d').getImageData(0, canvas.height - 3, canvas.width, 1).data]"
    seen = np.reshape(page.page.locator("canvas").evaluate(line), (-1, 4))[:, 0]
    assert {seen.min() < 40, seen.max() > 215} == {True}
    # The long side of the triangle, through the middle of the picture: it ends within a few pixels.
    middle = frame["width"] / 2, frame["height"] / 2
    colors = [page.color(*(round(side) + by for side in middle)) for by in (-6, 6)]
    red, green, blue = (int(canvas.colors[0][at : at + 2], 16) for at in (1, 3, 5))
    np.testing.assert_allclose(colors[0], [red, green, blue], atol=2)
    assert np.ptp(colors[1]) < 10, "grey outside the mask"
