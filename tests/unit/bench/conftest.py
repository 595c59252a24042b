import pytest


@pytest.fixture(autouse=True, scope="session")
def own_equation_cache(tmp_path_factory):
    """Tests neither read nor fill the user's cache of rendered formulas."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLMRL_CACHE", str(tmp_path_factory.mktemp("equations")))
        yield
