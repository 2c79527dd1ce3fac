# SPDX-License-Identifier: Apache-2.0
"""Waits for what is to become so."""

import os
import time

import redis

# A sanitized program on a busy machine is several times slower; the waits scale with it.
PATIENCE = float(os.environ.get("GUNYU_TEST_PATIENCE", "1"))


def wait_until(condition, what, timeout=20.0, interval=0.02):
    """Calls condition until it returns something true, which is returned. What it raises counts as no."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        last = None
        try:
            last = condition()
            if last:
                return last
        except (redis.RedisError, OSError, ValueError, KeyError, IndexError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout * PATIENCE:.0f} s still not: {what}; last seen: {last!r}")
        time.sleep(interval)
