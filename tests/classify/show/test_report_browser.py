"""The report in a real headless Chromium: it loads by itself, sorts, shows images on hover, downloads and prints."""

import csv
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from classify.measure.metrics import measure
from classify.measure.results import Predictions, Result, load_results
from classify.measure.saving import save_result
from classify.show.report import write_report
from features.datasets import open_dataset
from tests.classify.show.test_report import HOSTILE

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def chromium():
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a chromium (`apt-get install chromium`)")
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (`pip install playwright`)")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


class Opened:
    """A page from a file, with all that it complained of and asked for."""

    def __init__(self, browser, path: Path, **settings) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **settings})
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("[data-confusion] svg")


@pytest.fixture
def opened(chromium, report_folder):
    """Open the small real page with other settings of the browser; closed at the end."""
    contexts = []

    def opening(**settings) -> Opened:
        opened = Opened(chromium, report_folder.page, **settings)
        contexts.append(opened.context)
        return opened

    yield opening
    for context in contexts:
        context.close()


def test_it_loads_by_itself(opened):
    one = opened()
    assert one.complaints == []
    assert [url for url in one.asked if not url.startswith("data:")] == [one.page.url]
    for part in ("[data-confusion] svg", "[data-gallery] figure", "[data-map] svg", "[id$=curve-0] svg.wide"):
        assert one.page.locator(part).first.is_visible(), part


def test_it_lets_nothing_in(opened):
    page = opened().page
    refused = page.evaluate(
        """() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
            const image = new Image();
            image.src = "http://127.0.0.1:9/pixel.png";
            document.body.append(image);
        })"""
    )
    assert refused == "img-src"


def _column(table, number: int) -> list[str | None]:
    return table.evaluate("(table, at) => [...table.tBodies[0].rows].map((row) => row.cells[at].dataset.v)", number)


def test_tables_sort_by_click_and_key(opened):
    page = opened().page
    table = page.locator("[id$=-models] table")
    headers = table.locator("thead th").all_inner_texts()
    accuracy = next(place for place, text in enumerate(headers) if text.startswith("test accuracy"))
    before = [float(value) for value in _column(table, accuracy)]
    header = table.locator("thead th").nth(accuracy)
    header.locator("button").click()
    assert [float(value) for value in _column(table, accuracy)] == sorted(before, reverse=True)
    assert header.get_attribute("aria-sort") == "descending"
    header.locator("button").press("Enter")
    assert [float(value) for value in _column(table, accuracy)] == sorted(before)
    assert header.get_attribute("aria-sort") == "ascending"
    table.locator("thead th button").first.click()
    names = _column(table, 0)
    assert names == sorted(names) and header.get_attribute("aria-sort") == "none"
    # What is not known stands last, whichever way.
    p_value = headers.index(next(text for text in headers if re.match(r"p\b(?!a)", text)))
    for _ in range(2):
        table.locator("thead th button").nth(p_value).click()
        assert _column(table, p_value)[-1] is None and None not in _column(table, p_value)[:-1]


# Pixels of the canvas in the tip, without their opacity; nothing until the picture has been decoded and drawn on it.
_DRAWN = """() => {
    const canvas = document.querySelector("#tip canvas");
    if (!canvas) return null;
    const data = [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
    return data.every((value, place) => place % 4 < 3 || value === 255) && data.filter((_, place) => place % 4 === 0);
}"""


def test_hovering_a_map_shows_the_image_itself(opened, report_folder, monkeypatch):
    monkeypatch.setenv("LAYERPROBE_HOME", str(report_folder.home))
    page = opened(reduced_motion="reduce").page
    tip = page.locator("#tip")
    rows = set()
    images = open_dataset("digits").load("test").images
    for place in (7, 31):
        spot = page.locator("[data-map] .spot").nth(place)
        spot.scroll_into_view_if_needed()
        # Scrolling hides the tip: what it sends is sent before the second of two frames is drawn.
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        spot.dispatch_event("pointermove", {"clientX": 100, "clientY": 100})
        assert tip.is_visible()
        row = int(re.search(r"test image (\d+)", tip.inner_text()).group(1))
        pixels = page.wait_for_function(_DRAWN).json_value()
        assert np.array_equal(np.array(pixels).reshape(images[row].shape), images[row])
        rows.add(row)
    assert len(rows) == 2
    page.locator("[data-map] svg").dispatch_event("pointerleave")
    assert not tip.is_visible()


def test_points_are_reached_by_the_arrow_keys(opened):
    page = opened().page
    chart = page.locator("[id$=curve-0] svg.wide")
    chart.focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#tip").inner_text()
    page.keyboard.press("ArrowRight")
    assert "%" in first and page.locator("#tip").inner_text() != first
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()


def test_another_model_can_be_chosen(opened, report_folder):
    page = opened().page
    saved = next(each for each in load_results(report_folder.results) if each.result.config["head"] == "convnet")
    metrics = saved.result.metrics
    page.locator("select[data-choose=confusion]").select_option(f"r-{saved.result.digest[:10]}")
    told = page.locator("[data-confusion] [data-tip]").evaluate_all("(cells) => cells.map((each) => each.dataset.tip)")
    counts = [int(re.search(r"\n([\d,]+) of", each).group(1).replace(",", "")) for each in told]
    assert counts == [count for row in metrics.confusion for count in row]
    page.locator("select[data-choose=errors]").select_option(f"r-{saved.result.digest[:10]}")
    wrong = metrics.n - metrics.correct
    assert f"of {wrong} wrong test images" in page.locator("[data-counted]").inner_text()
    method = page.locator("[data-map] svg").get_attribute("aria-label")
    page.locator("[data-methods] input[value=PCA]").check()
    assert method.startswith("t-SNE") and page.locator("[data-map] svg").get_attribute("aria-label").startswith("PCA")


def test_every_figure_downloads_as_an_svg_that_stands_alone(opened, tmp_path):
    one = opened(color_scheme="dark")
    buttons = one.page.locator("button.download")
    names = set()
    for place in range(buttons.count()):
        with one.page.expect_download() as download:
            buttons.nth(place).click()
        target = tmp_path / download.value.suggested_filename
        download.value.save_as(target)
        names.add(target.name)
        tree = ElementTree.parse(target).getroot()
        assert tree.tag == "{http://www.w3.org/2000/svg}svg" and float(tree.get("width")) > 100
        assert tree.find("{http://www.w3.org/2000/svg}title").text
        text = target.read_text()
        assert "var(" not in text and "light-dark" not in text and " class=" not in text
        # Drawn for paper whatever the theme is: letters are dark.
        assert "rgb(82, 93, 107)" in text or "rgb(23, 32, 43)" in text
    assert len(names) == buttons.count() == one.page.locator("figure.figure").count() >= 6
    assert one.complaints == []


def _contrasts(page) -> dict[str, float]:
    """The contrast of letters with what lies behind them, after WCAG 2, for the page's kinds of text."""
    return page.evaluate(
        """() => {
            const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
                .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const behind = (node) => {
                for (; node; node = node.parentElement) {
                    const found = numbers(getComputedStyle(node).backgroundColor);
                    if (found.length === 3 || found[3] > 0) return found;
                }
            };
            const kinds = [".headline", "h1", ".note", "figcaption", "a", "td", "thead button", "svg .label", ".count",
                ".facts .detail", "summary", ".glyph", "footer p", ".brand span", "select", ".download",
                ".segments span", ".segments input:checked + span"];
            const told = {};
            for (const kind of kinds) {
                for (const node of document.querySelectorAll(kind)) {
                    const style = getComputedStyle(node);
                    const letters = numbers(node.closest("svg") ? style.fill : style.color);
                    const [one, other] = [light(letters), light(behind(node))];
                    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
                    told[kind] = Math.min(told[kind] ?? 99, contrast);
                }
            }
            return told;
        }"""
    )


def test_both_themes_can_be_read_and_chosen(opened):
    grounds = []
    for scheme in ("light", "dark"):
        page = opened(color_scheme=scheme).page
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        contrasts = _contrasts(page)
        assert len(contrasts) == 18 and min(contrasts.values()) >= 4.5, contrasts
    assert grounds[0] != grounds[1]
    button = page.locator("#theme")
    assert button.inner_text() == "Light theme"
    button.click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == grounds[0]
    assert button.inner_text() == "Dark theme"


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_never_scrolls_sideways(opened, width):
    page = opened(viewport={"width": width, "height": 800}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.locator("svg.chart:visible text").evaluate_all(
        """(texts) => texts.map((each) => {
            const at = each.getScreenCTM();
            return Math.hypot(at.a, at.b) * parseFloat(getComputedStyle(each).fontSize);
        })"""
    )
    assert len(sizes) > 20 and min(sizes) > 8


def test_it_prints(opened):
    page = opened(color_scheme="dark").page
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", printed)) >= 3
    page.emulate_media(media="print")
    assert not page.locator("#theme").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.headline')).color") == "rgb(23, 32, 43)"


def test_a_row_leads_to_where_its_numbers_come_from(opened, report_folder):
    page = opened().page
    link = page.locator("[id$=-models] tbody a").first
    target = page.locator(link.get_attribute("href"))
    assert not target.locator("dl").is_visible()
    link.click()
    page.wait_for_function("(id) => document.querySelector(id).open", arg=link.get_attribute("href"))
    text = target.inner_text()
    assert "python -m classify compare --dataset digits" in text and "torch=" in text and "SHA-256" in text


def test_hostile_names_stay_text(chromium, tmp_path):
    labels = np.arange(40) % 4
    predicted = (labels + (np.arange(40) > 35)) % 4
    config = {"dataset": HOSTILE[2], "dataset_sha256": "0" * 64, "layer": HOSTILE[1], "head": HOSTILE[0]}
    result = Result(
        config=config, metrics=measure(labels, predicted, classes=HOSTILE), command=HOSTILE[0], validation_accuracy=0.9
    )
    save_result(tmp_path, result, Predictions(np.arange(40), labels, predicted))
    one = Opened(chromium, write_report(tmp_path, tmp_path / "page.html", command=HOSTILE[0]))
    one.page.locator("svg [data-tip]").nth(1).dispatch_event("pointermove", {"clientX": 50, "clientY": 50})
    assert HOSTILE[0] in one.page.locator("#tip").inner_text()
    assert one.page.evaluate("window.pwned") is None and one.complaints == []
    assert one.page.locator("main img").count() == 0
    assert HOSTILE[0] in one.page.locator(".sources").evaluate("(node) => node.textContent")
    one.context.close()


@pytest.mark.parametrize("number", [0, 1])
def test_tables_download_as_csv_without_the_script(opened, number):
    one = opened()
    link = one.page.locator('a[download$=".csv"]:visible').nth(number)
    with one.page.expect_download() as download:
        link.click()
    rows = list(csv.reader(Path(download.value.path()).read_text(encoding="utf-8").splitlines()))
    assert len(rows) > 2 and len({len(row) for row in rows}) == 1 and one.complaints == []


def test_the_contents_stay_in_view_and_tell_where_one_is(opened):
    page = opened().page
    page.set_viewport_size({"width": 1400, "height": 900})
    page.wait_for_selector(".toc details[open]")
    page.locator('.toc a[href$="-map"]').click()
    page.wait_for_selector(".toc a[aria-current][href$='-map']")
    box = page.locator(".toc").bounding_box()
    assert box["y"] >= 0 and page.evaluate("scrollY") > 900


def test_on_a_phone_the_contents_are_folded_and_accuracy_is_in_the_first_screen(opened):
    page = opened(viewport={"width": 390, "height": 700}, has_touch=True, reduced_motion="reduce").page
    for part in (".facts dd", ".headline"):
        box = page.locator(part).first.bounding_box()
        assert box["y"] + box["height"] < 700
    assert not page.locator(".toc a").first.is_visible()
    page.locator(".toc summary").click()
    page.locator('.toc a[href$="-models"]').click()
    assert not page.locator(".toc a").first.is_visible()
    # It stays at the top, and the accuracy of a model is beside its name.
    page.wait_for_function("() => scrollY > 700")
    assert page.locator(".toc summary").bounding_box()["y"] < 20
    cell = page.locator("[id$=-models] tbody tr").first.locator("td").first.bounding_box()
    assert cell["x"] + cell["width"] < 390
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    lines = page.locator("a.name").evaluate_all(
        """(names) => names.map((name) =>
            name.getBoundingClientRect().height / parseFloat(getComputedStyle(name).lineHeight))"""
    )
    assert lines and max(lines) < 2.2


def test_wrong_cells_are_seen_in_the_dark(opened):
    page = opened(color_scheme="dark").page
    seen = page.evaluate(
        """() => { const style = (name) => getComputedStyle(document.querySelector(name));
            return [style('.cell.wrong').stroke, style('.cell:not(.wrong):not(.right)').stroke]; }"""
    )
    assert seen[0] == "rgb(240, 154, 92)" and seen[0] != seen[1]
