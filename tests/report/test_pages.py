"""`hpctf report` as people see it: on a desk, on a phone, in the dark, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpctf import Run
from hpctf.report.write import write_report
from tests.support.browser import PHONE, Tab, tab
from tests.support.reported import submit
from tests.support.studies import CURVES, Studies
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """A run that completed, and one with another parameter that failed."""
    folder = tmp_path_factory.mktemp("reported")
    return [submit(folder / "runs", folder, rate=rate, fail=rate == 0.1) for rate in (0.002, 0.1)]


@pytest.fixture(scope="module")
def pages(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports: of each run, of both, and of a study."""
    folder = tmp_path_factory.mktemp("reports")
    completed, failed = runs
    study = Studies(folder).ended("s_1_ab", CURVES)
    return {
        "completed": write_report([completed], folder / "completed.html"),
        "failed": write_report([failed], folder / "failed.html"),
        "both": write_report(runs, folder / "both.html"),
        "study": write_report([study], folder / "study.html"),
    }


@contextmanager
def opened(browser: Browser, page: Path, **options: Any) -> Iterator[Tab]:
    """Open a report, which asks for nothing and has no errors, whatever is done with it."""
    with tab(browser, page, **options) as here:
        yield here
        assert (here.requests, here.errors) == ([], [])


def panel(here: Tab, name: str) -> Locator:
    """Return the panel of a metric."""
    return here.page.locator("figure.panel", has=here.page.locator("h3", has_text=name)).first


def range_of(one: Locator) -> list[float]:
    """Return from where to where a panel is shown."""
    return [float(word) for word in str(one.get_attribute("data-range")).split()]


def box_of(one: Locator) -> dict[str, float]:
    """Return where a panel's curves are on the page, scrolled to."""
    over = one.locator(".u-over")
    over.scroll_into_view_if_needed()
    found = over.bounding_box()
    assert found is not None
    return dict(found)


@pytest.mark.parametrize("name", ["completed", "failed", "both", "study"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_report_is_accessible_and_fits_a_phone(
    browser: Browser, pages: dict[str, Path], name: str, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with opened(browser, pages[name], viewport=PHONE, color_scheme=scheme) as here:
        wide = here.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"]
        for summary in here.page.locator("summary").all():
            summary.click()
        found = Axe().run(here.page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_lines_stand_out_from_the_page(
    browser: Browser, pages: dict[str, Path], scheme: str
) -> None:
    """3 : 1 for graphics (WCAG 2.1, 1.4.11), which axe cannot measure in a canvas."""
    ratio = """() => {
        const css = getComputedStyle(document.documentElement);
        const light = (hex) => [1, 3, 5].map((n) => parseInt(hex.slice(n, n + 2), 16) / 255)
            .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
        const of = (name) => light(css.getPropertyValue(name).trim());
        const page = of("--page");
        return [...Array(8).keys()].map((n) => of(`--c${n}`)).map((line) =>
            (Math.max(line, page) + 0.05) / (Math.min(line, page) + 0.05));
    }"""
    with opened(browser, pages["completed"], color_scheme=scheme) as here:
        assert min(here.page.evaluate(ratio)) >= 3
        drawn = here.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert drawn == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 21, 28)"}[scheme]


def test_hovering_shows_the_values_there(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["completed"]) as here:
        loss = panel(here, "loss")
        assert loss.locator(".at").inner_text() == "step 2999 (last)"
        box = box_of(loss)
        here.page.mouse.move(box["x"] + 1, box["y"] + box["height"] / 2)
        assert loss.locator(".at").inner_text().startswith("step ")
        value = float(loss.locator("output").first.inner_text())
        step = float(loss.locator(".at").inner_text().split()[1])
        assert step < 50 and 0.9 < value <= 1


def test_dragging_zooms_and_a_double_click_shows_all(
    browser: Browser, pages: dict[str, Path]
) -> None:
    with opened(browser, pages["completed"]) as here:
        loss, mouse = panel(here, "loss"), here.page.mouse
        assert range_of(loss) == [0, 2999]
        box = box_of(loss)
        middle = box["y"] + box["height"] / 2
        mouse.move(box["x"] + box["width"] * 0.25, middle)
        mouse.down()
        mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
        mouse.up()
        low, high = range_of(loss)
        assert abs(low - 750) < 40 and abs(high - 1500) < 40
        mouse.dblclick(box["x"] + box["width"] / 2, middle)
        assert range_of(loss) == [0, 2999]


def test_the_wheel_zooms_a_chart_that_was_clicked_and_else_scrolls(
    browser: Browser, pages: dict[str, Path]
) -> None:
    with opened(browser, pages["completed"]) as here:
        loss, mouse = panel(here, "loss"), here.page.mouse
        box = box_of(loss)
        mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        begun = here.page.evaluate("scrollY")
        mouse.wheel(0, 40)
        wait_until(lambda: here.page.evaluate("scrollY") > begun)
        assert range_of(loss) == [0, 2999]
        box = box_of(loss)
        mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        mouse.wheel(0, -40)
        wait_until(lambda: range_of(loss) != [0, 2999])
        low, high = range_of(loss)
        assert 0 < low < high < 2999


def test_buttons_and_keys_zoom_too(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["completed"], viewport=PHONE, has_touch=True) as here:
        loss = panel(here, "loss")
        loss.get_by_role("button", name="Zoom in: loss").tap()
        assert range_of(loss) == [749.75, 2249.25]
        loss.get_by_role("button", name="Zoom out: loss").tap()
        assert range_of(loss) == [0, 2999]
        loss.locator(".chart").focus()
        here.page.keyboard.press("+")
        assert range_of(loss)[0] > 0
        here.page.keyboard.press("0")
        here.page.keyboard.press("ArrowLeft")
        assert "(last)" not in loss.locator(".at").inner_text()


def test_axis_smoothing_and_log_scale_redraw(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["completed"]) as here:
        loss = panel(here, "loss")
        loss.get_by_label("log scale: loss").check()
        here.page.get_by_label("Across").first.select_option("time")
        assert not loss.locator(".at").inner_text().startswith("step")
        before = loss.locator("output").first.inner_text()
        here.page.get_by_label("Smoothing").first.fill("0.9")
        after = loss.locator("output").first.inner_text()
        assert float(after) > float(before)  # the mean of a falling curve lags behind
        loss.get_by_role("checkbox", name="worker-0").uncheck()
        assert loss.locator(".at").inner_text() == ""


def test_what_is_no_number_is_told_and_leaves_a_gap(
    browser: Browser, pages: dict[str, Path]
) -> None:
    with opened(browser, pages["completed"]) as here:
        gaps = panel(here, "with gaps")
        assert "nan at 7, nan at 8, inf at 30" in gaps.locator(".bad").inner_text()
        box = box_of(gaps)
        here.page.mouse.move(box["x"] + box["width"] * 30 / 39, box["y"] + 10)
        assert gaps.locator("output").inner_text() == "inf"


def test_a_peak_is_still_there_in_a_thinned_line(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["completed"]) as here:
        loss = panel(here, "loss")
        assert "of 3,000 points are shown" in loss.inner_text()
        loss.locator("summary").click()
        highest = loss.locator("table").first.locator("tbody td").nth(3).inner_text()
        assert float(highest) > 5
        box = box_of(loss)
        here.page.mouse.move(box["x"] + box["width"] * 1234 / 2999, box["y"] + 10)
        assert here.page.evaluate(
            "JSON.parse(document.getElementById('panels').textContent)[0].lines[0].y.some("
            "(y) => y > 5)"
        )


@pytest.mark.parametrize("name", ["completed", "failed", "both"])
def test_other_peoples_text_stays_text(browser: Browser, pages: dict[str, Path], name: str) -> None:
    alerts: list[str] = []
    with opened(browser, pages[name]) as here:
        here.page.on("dialog", lambda box: alerts.append(box.message))
        here.page.reload()
        assert alerts == []
        assert here.page.locator("h3", has_text="</script><script>alert(1)").count()
        assert here.page.locator("img[src=x]").count() == 0


def test_the_page_may_ask_for_nothing(browser: Browser, pages: dict[str, Path]) -> None:
    ask = "fetch('file:///etc/hostname').then(() => 'went', () => 'refused')"
    with tab(browser, pages["completed"]) as here:
        assert here.page.evaluate(ask) == "refused"
        assert any("Content Security Policy" in error for error in here.errors)


def test_a_click_on_a_column_sorts_the_runs(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["both"]) as here:
        table = here.page.get_by_role("table", name="The runs")
        heads = table.locator("thead th").all_inner_texts()
        column = heads.index("rate")
        head = table.get_by_role("button", name="rate")

        def rates() -> list[str]:
            rows = table.locator("tbody tr").all()
            return [row.locator("td").nth(column - 1).inner_text() for row in rows]

        head.click()
        assert rates() == ["0.002", "0.1"]
        head.click()
        assert rates() == ["0.1", "0.002"]
        assert table.locator("th[aria-sort=descending]").inner_text() == "rate"


def test_several_runs_lie_over_each_other(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["both"]) as here:
        loss = panel(here, "loss")
        assert loss.locator(".lines li").count() == 2
        values = [float(text) for text in loss.locator("output").all_inner_texts()]
        assert values[0] > values[1]  # the lower rate falls more slowly


def test_a_printed_report_is_light_and_whole(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["completed"], color_scheme="dark") as here:
        here.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        here.page.emulate_media(media="print")
        drawn = here.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert drawn == "rgb(255, 255, 255)"
        assert not here.page.locator("nav").is_visible()
