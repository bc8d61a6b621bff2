# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests."""

from hypothesis import settings

# A loaded machine is no reason to fail: time is what benchmarks measure.
settings.register_profile("headwater", deadline=None)
settings.load_profile("headwater")
