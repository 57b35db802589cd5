"""Pages opened in headless Chromium, and what they did there."""

from __future__ import annotations

import base64
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HOW = "Chromium and its driver are needed: apt-get install chromium chromium-driver"
PHONE, DESKTOP = 390, 1280  # CSS pixels
DRAWN = 60.0  # seconds that plots may take on a busy machine


def missing() -> str | None:
    """What is not installed, in words; None when all is there."""
    if not any(map(shutil.which, BROWSERS)) or not shutil.which("chromedriver"):
        return HOW
    return None


@dataclass(frozen=True)
class Screen:
    """What a page is looked at with.

    Attributes:
        width: CSS pixels.
        dark: whether its owner prefers the dark.
    """

    width: int = DESKTOP
    dark: bool = False


class Chromium:
    """A browser; `quit` it."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = next(path for name in BROWSERS if (path := shutil.which(name)))
        for argument in ("headless=new", "disable-dev-shm-usage", "hide-scrollbars", "force-color-profile=srgb"):
            options.add_argument(f"--{argument}")
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def open(self, page: Path, screen: Screen | None = None) -> None:
        """Open a file, and wait until its plots are drawn."""
        screen = screen or Screen()
        phone = screen.width < 600
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=screen.width, height=900, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        self.prefer(screen.dark)
        self.requests()
        self.complaints()
        self.driver.get(page.as_uri())
        self.wait("return document.documentElement.dataset.drawn !== undefined")

    def wait(self, script: str) -> None:
        """Wait until a script's answer is true."""
        WebDriverWait(self.driver, DRAWN, 0.02).until(lambda driver: driver.execute_script(script))

    def ask(self, script: str) -> Any:
        """What a script answers."""
        return self.driver.execute_script(script)

    def prefer(self, dark: bool) -> None:
        """Prefer the dark, or the light."""
        value = "dark" if dark else "light"
        self._command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def complaints(self) -> list[str]:
        """What came to the console since it was last asked for: errors, and warnings of libraries and of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[str]:
        """URLs that were asked for since the last call; `data:` URLs are in the page already."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                url = message["params"].get("request", message["params"])["url"]
                if not url.startswith("data:"):
                    found.append(url)
        return found

    def screenshot(self, path: Path) -> None:
        """The whole page, however long, as PNG."""
        size = self.ask(
            "const {scrollWidth, scrollHeight} = document.documentElement; return [scrollWidth, scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self._command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self._command("Page.printToPDF")["data"])

    def paper(self, on: bool) -> None:
        """Show it as on paper."""
        self._command("Emulation.setEmulatedMedia", media="print" if on else "")

    def _command(self, name: str, **arguments: Any) -> dict[str, Any]:
        return self.driver.execute_cdp_cmd(name, arguments)

    def quit(self) -> None:
        self.driver.quit()
