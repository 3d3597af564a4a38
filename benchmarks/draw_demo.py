# Copyright 2026 The transformers-crossvit authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""
Draws docs/results/demo.png, the page of examples/demo with the model of the quickstart, in Chromium (the Debian packages chromium and
chromium-driver).

    python -m benchmarks.draw_demo          20 seconds, after `make quickstart`
"""

import shutil
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from benchmarks.demo_load import serve
from benchmarks.pages import QUICKSTART, RESULTS, check_quickstart


def draw(path: Path):
    # Held-out scans. The first is clicked on.
    digits = [str(sorted((QUICKSTART / "digits" / "test" / digit).iterdir())[0]) for digit in "358"]
    options = webdriver.ChromeOptions()
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    model = str(QUICKSTART / "model")
    with (
        serve("--models", model, "--examples", *digits) as (address, _, _),
        webdriver.Chrome(options, Service(shutil.which("chromedriver"))) as driver,
    ):
        metrics = {"width": 1280, "height": 660, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(address)
        for selector in ("button.gallery-item", "input[value=rollout]"):
            WebDriverWait(driver, 20).until(lambda _: driver.find_elements(By.CSS_SELECTOR, selector))[0].click()
            WebDriverWait(driver, 20).until(lambda _: driver.find_elements(By.CSS_SELECTOR, ".maps img"))
        # The maps by rollout come in the place of those by attention.
        WebDriverWait(driver, 20).until(lambda _: driver.find_elements(By.CSS_SELECTOR, "[alt='Map by rollout']"))
        driver.save_screenshot(str(path))
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    check_quickstart()
    draw(RESULTS / "demo.png")
    print(f"wrote {RESULTS / 'demo.png'}")
