# SPDX-License-Identifier: Apache-2.0
import shutil

import pytest

import harness

FAILED = pytest.StashKey[bool]()


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than about ten seconds; not in the default run")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its processes logged."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.stash[FAILED] = True
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
def tmp_path(request, tmp_path):
    """Only a failed test leaves its files: all of them together are tens of GiB."""
    yield tmp_path
    if not request.node.stash.get(FAILED, False):
        shutil.rmtree(tmp_path, ignore_errors=True)


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
