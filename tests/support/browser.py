"""A headless Chromium; a test module asks for it with `pytest_plugins`."""

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from support.programs import needed

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--ignore-certificate-errors",
    "--window-size=1000,700",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser with a profile of its own; ends with the module."""
    options = ChromeOptions()
    options.binary_location = needed("chromium", "chromium")
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    driver = Chrome(options, Service(needed("chromedriver", "chromium-driver")))
    yield driver
    driver.quit()
