import pytest
from learner_ranks import Ranks


@pytest.fixture(scope="session")
def ranks():
    """Runs a function on two ranks."""
    pool = Ranks()
    yield pool
    pool.close()
