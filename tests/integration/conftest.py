# SPDX-License-Identifier: Apache-2.0
import pytest

import harness


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than about ten seconds; not in the default run")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its processes logged."""
    outcome = yield
    report = outcome.get_result()
    world = getattr(item, "funcargs", {}).get("world")
    if report.failed and world is not None:
        for name, text in world.logs():
            report.sections.append((f"log of {name}", text))


class SkippingWorld(harness.World):
    def server(self, *args, **options):
        try:
            return super().server(*args, **options)
        except harness.Unavailable as error:
            pytest.skip(str(error))


@pytest.fixture
def world(tmp_path):
    """Starts servers, proxies and gunyu, and ends them all."""
    made = SkippingWorld(tmp_path)
    yield made
    made.close()


@pytest.fixture
def pair(world):
    """A source and an empty target of the default versions."""
    return world.source(), world.target()
