"""The page, in a real browser: Chromium without a screen, driven through its own driver."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image as PillowImage
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from detector.bundles.bundle import Bundle
from tests.support.images import scene
from tests.support.serving import Running, serving

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and its driver, of the same version"
)

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Page:
    """What a visitor sees and does."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, true: Any) -> Any:
        return WebDriverWait(self.driver, 30).until(lambda _: true())

    def open(self, url: str) -> None:
        self.driver.get(url)
        self.until(lambda: "classes" in self.one("#model").text)

    def choose(self, *files: Path) -> None:
        self.one("#files").send_keys("\n".join(map(str, files)))

    def set_threshold(self, value: float) -> None:
        self.driver.execute_script(
            "const slider = document.getElementById('threshold');"
            "slider.value = arguments[0]; slider.dispatchEvent(new Event('input'));",
            value,
        )

    def boxes(self) -> list[str]:
        return [text.get_attribute("textContent") or "" for text in self.all(".boxes text")]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def page(downloads: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(str(DRIVER))
    driver = webdriver.Chrome(options, service)
    yield Page(driver)
    driver.quit()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a photo.png"
    PillowImage.fromarray(scene(5)).save(path)
    return path


@needs_browser
def test_from_upload_to_download(
    page: Page, running: Running, photo: Path, downloads: Path
) -> None:
    page.open(running.url)
    page.choose(photo)
    page.until(lambda: page.one("figcaption").text)
    assert "120 × 90 pixels" in page.one("figcaption").text
    page.set_threshold(0.05)
    found = running.detector.detect(photo).detections
    assert page.boxes() == [f"{label} {score:.2f}" for label, score, _ in found][::-1]
    x1, y1, x2, y2 = found[0].box
    best = page.all(".boxes rect.box")[-1]
    shape = [float(best.get_attribute(name) or "nan") for name in ("x", "y", "width", "height")]
    assert shape == [x1, y1, x2 - x1, y2 - y1]

    middle = sorted(score for _, score, _ in found)[len(found) // 2]
    page.set_threshold(round(middle, 2))
    assert 0 < len(page.boxes()) < len(found)
    page.set_threshold(0.05)
    label = found[0].label
    page.one(f'#class-list input[value="{label}"]').send_keys(Keys.SPACE)
    assert not any(text.startswith(label) for text in page.boxes())
    assert len(page.boxes()) == sum(other != label for other, _, _ in found)

    assert page.all(".regions rect") == []
    page.one("#proposals").send_keys(Keys.SPACE)
    assert len(page.all(".regions rect")) == running.detector.detect(photo).proposals["merged"]

    page.one(".download-json").click()
    page.one(".download-image").click()
    drawn = downloads / "a photo-detections.png"
    content = downloads / "a photo.json"
    page.until(lambda: drawn.exists() and content.exists())
    time.sleep(0.2)
    kept = json.loads(content.read_text())
    assert {item["label"] for item in kept["detections"]} == {o for o, _, _ in found} - {label}
    with PillowImage.open(drawn) as opened:
        assert opened.size == (120, 90)
    logged = page.driver.get_log("browser")  # type: ignore[no-untyped-call]
    assert [line for line in logged if line["level"] != "DEBUG"] == []


@needs_browser
def test_several_photos_and_an_error(page: Page, running: Running, tmp_path: Path) -> None:
    files = []
    for number in range(2):
        files.append(tmp_path / f"{number}.png")
        PillowImage.fromarray(scene(number)).save(files[-1])
    files.insert(1, tmp_path / "text.png")
    files[1].write_text("I am no image")
    page.open(running.url)
    page.choose(*files)
    page.until(lambda: len([c for c in page.all("figcaption") if c.text]) == 2)
    names = [heading.text for heading in page.all(".photo h2")]
    assert names == ["0.png", "text.png", "1.png"]
    assert page.one(".photo.failed .state").text.startswith("not an image: allowed are JPEG")
    page.one(".photo.failed .remove").click()
    assert len(page.all(".photo")) == 2


@needs_browser
def test_a_photo_that_the_browser_cannot_show(page: Page, running: Running, tmp_path: Path) -> None:
    tiff, turned = tmp_path / "a.tiff", tmp_path / "b.webp"
    PillowImage.fromarray(scene(1)).save(tiff)
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.fromarray(scene(1)).save(turned, exif=exif)
    page.open(running.url)
    page.choose(tiff)
    page.until(lambda: page.one("figcaption").text)
    assert "cannot show" in (page.one("img").get_attribute("alt") or "")
    assert page.one(".download-json").is_displayed()
    assert not page.one(".download-image").is_displayed()
    page.choose(turned)
    page.until(lambda: "90 × 120" in page.all("figcaption")[1].text)
    image = page.all(".photo img")[1]
    shown = [image.get_property(side) for side in ("naturalWidth", "naturalHeight")]
    assert shown in ([90, 120], [0, 0])  # upright, or not at all


@needs_browser
def test_after_a_failure_it_can_be_tried_again(
    page: Page, running: Running, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError

    page.open(running.url)
    with monkeypatch.context() as failing:
        failing.setattr("detector.regions.ensemble.Ensemble.classify", fail)
        page.choose(photo)
        page.until(lambda: page.one(".retry").is_displayed())
    assert "error of the service" in page.one(".state").text
    assert not page.one(".download-json").is_displayed()
    page.one(".retry").click()
    assert not page.one(".retry").is_displayed()
    assert page.driver.switch_to.active_element == page.one(".remove"), "not lost with the button"
    page.until(lambda: page.one("figcaption").text)


SECOND_IS_LATE_AND_HAS_ANOTHER_CLASS = """
    const real = window.fetch;
    let number = 0;
    window.fetch = async (...request) => {
        const response = await real(...request);
        if (!String(request[0]).startsWith("/detect")) return response;
        const [answer, { classes }] = [await response.json(), await (await real("/model")).json()];
        const [first] = answer.detections;
        answer.detections = [first];
        if (number++ > 0) {
            const other = classes.find((name) => name !== first.label);
            answer.detections.push({ ...first, label: other });
            await new Promise((resolve) => setTimeout(resolve, 1000));
        }
        return new Response(JSON.stringify(answer));
    };
"""


@needs_browser
def test_the_focus_stays_while_photos_come(
    page: Page, running: Running, photo: Path, tmp_path: Path
) -> None:
    page.open(running.url)
    page.driver.execute_script(SECOND_IS_LATE_AND_HAS_ANOTHER_CLASS)
    page.choose(photo)
    page.until(lambda: page.all("#class-list input"))
    (box,) = page.all("#class-list input")
    box.send_keys(Keys.SPACE)
    value = box.get_attribute("value")
    other = tmp_path / "other.png"
    PillowImage.fromarray(scene(7)).save(other)
    page.choose(other)
    box.send_keys(Keys.NULL)
    page.until(lambda: len([c for c in page.all("figcaption") if c.text]) == 2)
    assert len(page.all("#class-list input")) > 1, "the list has changed"
    assert page.driver.switch_to.active_element.get_attribute("value") == value


@needs_browser
def test_dropped_photos(page: Page, running: Running) -> None:
    page.open(running.url)
    page.driver.execute_script(
        """
        const canvas = Object.assign(document.createElement("canvas"), {width: 90, height: 30});
        canvas.getContext("2d").fillRect(20, 5, 30, 20);
        canvas.toBlob((blob) => {
          const data = new DataTransfer();
          data.items.add(new File([blob], "dropped.png", {type: "image/png"}));
          const event = new DragEvent("drop", {dataTransfer: data, bubbles: true});
          document.body.dispatchEvent(event);
        });
        """
    )
    page.until(lambda: page.all("figcaption") and page.one("figcaption").text)
    assert page.one(".photo h2").text == "dropped.png"


@needs_browser
def test_keyboard_and_screen_reader(page: Page, running: Running, photo: Path) -> None:
    page.open(running.url)
    page.choose(photo)
    page.until(lambda: page.one("figcaption").text)
    page.set_threshold(0.05)
    described = page.one("svg").get_attribute("aria-label") or ""
    assert any(name in described for name in ("cat", "dog", "person"))
    assert page.one("#status").get_attribute("role") == "status"
    for control in page.all("input, select"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    for button in page.all(".actions button"):
        assert button.accessible_name or not button.is_displayed()
    page.driver.execute_script("document.activeElement.blur()")
    reached = []
    for _ in range(12):
        webdriver.ActionChains(page.driver).send_keys(Keys.TAB).perform()
        reached.append(page.driver.switch_to.active_element.get_attribute("id"))
    assert [i for i in reached if i][:4] == ["files", "threshold", "preset", "proposals"]


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 900)])
@needs_browser
def test_nothing_sticks_out(
    page: Page, running: Running, photo: Path, width: int, height: int
) -> None:
    page.driver.set_window_size(width, height)
    page.open(running.url)
    page.choose(photo)
    page.until(lambda: page.one("figcaption").text)
    sizes = page.driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert sizes[0] <= sizes[1]


@needs_browser
def test_a_key_is_asked_for(page: Page, tiny_bundle: Bundle, photo: Path) -> None:
    key = "0123456789abcdef"
    with serving(tiny_bundle, keys=(key,)) as running:
        page.open(running.url)
        assert not page.one("#key-form").is_displayed()
        page.choose(photo)
        page.until(lambda: page.one("#key-form").is_displayed())
        page.one("#key").send_keys(key, Keys.ENTER)
        assert page.driver.switch_to.active_element == page.one("#files"), "not lost with the form"
        page.until(lambda: page.one("figcaption").text)


@needs_browser
def test_the_description_of_the_interface_is_rendered(
    page: Page, running: Running, photo: Path
) -> None:
    page.driver.get(f"{running.url}/docs")
    page.until(lambda: "/detect" in page.one("#swagger-ui").text)
    text = page.one("#swagger-ui").text
    assert "Find the objects in an image" in text
    assert "Readiness probe" in text
    assert "Unable to render" not in text

    # It also sends a request, all under the policy that forbids what comes from elsewhere.
    page.one(".opblock-post .opblock-summary").click()
    page.until(lambda: page.all(".try-out__btn"))
    page.one(".try-out__btn").click()
    page.until(lambda: page.all("input[type=file]"))
    page.one("input[type=file]").send_keys(str(photo))
    page.one(".execute").click()
    page.until(lambda: page.all(".live-responses-table"))
    assert '"detections"' in page.one(".live-responses-table").text


def test_nothing_is_loaded_from_elsewhere(client: httpx2.Client) -> None:
    page, docs = client.get("/").text, client.get("/docs").text
    for text in (page, docs):
        assert re.findall(r"""(?:src|href)=["'](?!/)""", text) == []
    script = client.get("/page/page.js").text
    assert set(re.findall(r"https?://[^\"' ]+", script)) == {"http://www.w3.org/2000/svg"}
    assets = re.findall(r"""["'](/(?:docs|page)/[^"']+)["']""", page + docs)
    assert len(assets) >= 5
    for asset in assets:
        assert client.get(asset).status_code == 200, asset
    for path in ("/", "/docs"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self'")
        assert "unsafe" not in policy
