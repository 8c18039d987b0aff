"""How the fuzzing suites run: the same cases in every run, and as many of them as are asked for.

``TIDEMARK_FUZZ_CASES`` is the number of cases of all suites together; each test has a share of them.
"""

from __future__ import annotations

import os
from datetime import timedelta

from hypothesis import HealthCheck, Phase, settings

#: What runs by default.
DEFAULT_CASES = 12_000
#: A case that takes longer is a failure. Far more than any needs, so that a busy machine fails none.
DEADLINE_S = 5.0


def cases(share: int) -> int:
    """Return how many cases a test has that is given so many of `DEFAULT_CASES`."""
    asked = int(os.environ.get("TIDEMARK_FUZZ_CASES", DEFAULT_CASES))
    return max(1, share * asked // DEFAULT_CASES)


def fuzz(share: int) -> settings:
    """Return the settings of a test that has so many of the cases.

    Derandomized: a find comes with a change of the code or its description, not by chance in somebody else's run.
    """
    return settings(
        max_examples=cases(share),
        derandomize=True,
        database=None,
        deadline=timedelta(seconds=DEADLINE_S),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.filter_too_much,
            HealthCheck.function_scoped_fixture,
        ],
    )
