"""Drives Debian's headless Chromium by selenium and Debian's chromedriver; downloads nothing."""

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_S = 60
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --force-device-scale-factor=1"
).split()


def why_no_browser() -> str:
    """Returns why there is no browser, or an empty text."""
    return "" if CHROMIUM and DRIVER else "no Chromium: apt-get install chromium chromium-driver"


class Browser:
    """A tab of Chromium."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, fragment: str = "") -> None:
        """Opens a page from a file and forgets earlier requests and complaints."""
        self.driver.get("about:blank")
        self.requests()
        self.complaints()
        self.driver.get(page.as_uri() + fragment)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def command(self, name: str, **parameters: object) -> Any:
        """Runs a command of the browser's DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def size(self, width: int, height: int, scale: float = 1) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def scheme(self, name: str, media: str = "") -> None:
        """Sets a dark or light colour scheme; `media` may be print."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.command("Emulation.setEmulatedMedia", media=media, features=[feature])

    def complaints(self) -> list[str]:
        """Returns the console's new errors and warnings, including violations of the page's policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Returns every newly requested address."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]

    def press(self, keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(keys).perform()

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def to_questions(self) -> None:
        """Scrolls down to the report's list, until it is drawn."""
        self.run("document.getElementById('questions').scrollIntoView()")
        until(self.cards)

    def cards(self) -> int:
        """Returns how many questions of the report are drawn."""
        return int(self.run("return document.querySelectorAll('article').length"))

    def count(self) -> str:
        """Returns how many questions the report says it shows."""
        return str(self.run("return document.getElementById('shown').textContent"))

    def focus(self) -> str:
        """Returns the beginning of the element that has the keyboard's focus."""
        return str(self.run("return document.activeElement.outerHTML.slice(0, 200)"))

    def picture(self) -> bytes:
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])


def until(what: Callable[[], object]) -> None:
    """Waits until an asynchronous change of the page."""
    limit = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < limit, "the page did not come to it"
        time.sleep(0.05)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Provides a browser with its profile in `folder`."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
