"""The page in a browser: it sorts, filters and changes its colours, by mouse and keyboard, and asks no machine for anything."""

import shutil

import pytest

import parse_test_res
from tests.reports.runs import base2new, fewshot

LONG = "s" * 200  # a set's name
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"there is no browser: none of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A page of two sets and three methods, whose class names, and one error, are longer than a phone is wide."""
    root = tmp_path_factory.mktemp("page")
    names = ["a" * 60, "two words", "c"]
    for place, method in enumerate(("ZeroshotCLIP", "CoOp", "KgCoOp")):
        more = {
            "classwise": {name: {"total": 10, "correct": 7 + place, "accuracy": 70.0 + 10 * place} for name in names},
            "confused": {name: f"{(label + 1) % 3}:{3 - place}" for label, name in enumerate(names)},
            "identity": {"classes": names},
        }
        for dataset in ("dtd", "eurosat"):
            base2new(root, method, dataset, 1, 60.0 + 3 * place, 50.0 - place, **more)
        base2new(root, method, LONG, 1, 60.0, 50.0)
        for shots in (1, 4):
            fewshot(root, method, "dtd", shots, 1, 50.0 + shots + place)
    fewshot(root, "CoOp", "dtd", 16, 1, None, state="failed", why="NoRoom: " + "x" * 300)
    assert parse_test_res.main([str(root), "--report", str(root / "report.html")]) == 1  # for the run that failed
    return root / "report.html"


@pytest.fixture
def opened(browser, file):
    """Opens the page; at the end nothing has been said on the console, and nothing been asked for but the file."""
    contexts, said, asked = [], [], []

    def open_page(width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}


def column(page, number: int) -> list[str]:
    """What stands in the first table's column, of the rows that are shown."""
    rows = page.locator("table.sortable").first.locator("tbody tr:not(.out)")
    return rows.evaluate_all("(rows, n) => rows.map((row) => row.cells[n].innerText.trim())", number)


def test_sorting_and_back(opened):
    page = opened()
    before = column(page, 2)
    head = page.locator("table.sortable").first.locator("thead th").nth(2)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    figures = [float(text) for text in column(page, 2)]
    assert figures == sorted(figures, reverse=True) != [float(text) for text in before]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending" and [float(text) for text in column(page, 2)] == sorted(
        figures
    )
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "none" and column(page, 2) == before


def test_filters_and_choices_by_keyboard(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0  # it can be seen now
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "results"
    page.keyboard.press("Tab")  # Methods
    page.keyboard.press("Enter")
    for _ in range(3):  # all, none, the first method
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.value") == "ZeroshotCLIP/vit_b16"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
    assert "ZeroshotCLIP/vit_b16" in column(page, 1)
    page.keyboard.press("Space")
    assert "ZeroshotCLIP/vit_b16" not in column(page, 1) and "CoOp/vit_b16" in column(page, 1)
    assert " rows are shown." in page.locator("#shown").inner_text()
    page.get_by_text("Sets:").click()
    page.get_by_role("checkbox", name="dtd").focus()
    page.keyboard.press("Space")
    assert "dtd" not in column(page, 0) and "eurosat" in column(page, 0)
    assert page.locator("figure[data-set=dtd]").first.is_hidden()

    page.locator("#gain").focus()
    first = page.locator("article.gain:visible h3").inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator("article.gain:visible h3").inner_text() != first
    page.locator("#confusion-of").select_option(index=1)
    assert page.locator("#matrix caption").inner_text().startswith("KgCoOp/vit_b16, dtd, base to new: base")
    assert page.locator("#matrix tbody tr").first.locator("td").all_inner_texts() == ["9", "1", ""]


def test_dark_and_light(opened):
    def background(page) -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = opened(color_scheme="dark")
    light = opened(color_scheme="light")
    colours = background(dark), background(light)
    assert colours[0] != colours[1]
    light.get_by_role("button", name="Dark page").click()
    assert background(light) == colours[0]
    light.reload()
    assert background(light) == colours[0]  # it is kept
    light.get_by_role("button", name="Light page").click()
    assert background(light) == colours[1]


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_contrast(opened, scheme):
    """Every text has 4.5 to 1 against what is behind it, as WCAG 2's level AA asks."""
    page = opened(color_scheme=scheme)
    assert page.evaluate(LOW_CONTRAST) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_no_wider_than_its_window(opened, width):
    page = opened(width)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    small = "[...document.querySelectorAll('td, th, p, li, label')].map((each) => parseFloat(getComputedStyle(each).fontSize))"
    assert min(page.evaluate(small)) >= 12


def test_a_long_name_pushes_no_figure_out_of_sight(opened):
    wide = "(each) => each.scrollWidth > each.clientWidth"
    assert not opened(1280).locator(".scroll").first.evaluate(wide)


def test_a_printed_page_is_white_and_holds_all_of_a_table(opened):
    page = opened(718, color_scheme="dark")  # A4, less its margins
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") == 718
    hides = "(all) => all.filter((each) => getComputedStyle(each).overflow !== 'visible' || each.scrollWidth > each.clientWidth).length"
    assert page.locator(".scroll").evaluate_all(hides) == 0
    assert (
        page.locator(".matrix").is_visible()
        and page.locator(".choice:visible, nav:visible, .filters:visible").count() == 0
    )
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 32, 38)"
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 32, 38)"


def test_what_a_screen_reader_is_told(opened):
    page = opened()
    unnamed = "[...document.querySelectorAll('table')].filter((table) => !table.caption?.innerText.trim() && table.checkVisibility()).length"
    assert page.evaluate(unnamed) == 0
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("th[aria-sort]").count() == page.locator("th[aria-sort] button").count() > 0
    for role, name in (("combobox", "Comparison"), ("combobox", "Run"), ("navigation", "Parts of the page")):
        assert page.get_by_role(role, name=name, exact=True).count() == 1
    regions = page.locator(".scroll")
    assert regions.count() == page.locator(".scroll[tabindex='0'][role=region]").count() > 0
    duplicates = "(() => { const ids = [...document.querySelectorAll('[id]')].map((each) => each.id); return ids.length - new Set(ids).size; })()"
    assert page.evaluate(duplicates) == 0


def test_without_javascript(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("table.sortable").first.is_visible() and page.locator("article.gain").last.is_visible()
    assert page.locator(".filters").is_hidden()


LOW_CONTRAST = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const behind = (node) => {
    const layers = [];
    for (let each = node; each; each = each.parentElement) layers.unshift(parse(getComputedStyle(each).backgroundColor));
    return layers.reduce((below, [r, g, b, a]) => [r, g, b].map((value, n) => a * value + (1 - a) * below[n]), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const texts = [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility() && !(node instanceof SVGElement)
    && [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
  return texts.filter((node) => ratio(parse(getComputedStyle(node).color).slice(0, 3), behind(node)) < 4.5)
    .map((node) => `${node.tagName} ${node.className}: ${node.textContent.slice(0, 30)}`);
}"""
