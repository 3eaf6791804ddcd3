"""Each guard of the protocol, taken out: the simulation finds a run that breaks the guarantee."""

import pytest
from support.guard_search import find_out
from support.simulated_guards import GUARDS
from support.simulated_kafka_guards import KAFKA_GUARDS


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.line)
def test_without_its_guard_the_guarantee_breaks_and_with_it_holds(guard, data_dirs):
    find_out(guard, data_dirs)


@pytest.mark.parametrize("guard", KAFKA_GUARDS, ids=lambda guard: guard.line)
def test_without_its_guard_on_kafka_the_guarantee_breaks_and_with_it_holds(guard, data_dirs):
    find_out(guard, data_dirs)
