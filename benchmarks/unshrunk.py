"""A pytest plugin for `mutants`: a mutant is killed by the first example that fails, however large."""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "unshrunk",
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    deadline=None,
)


def pytest_configure() -> None:
    """Take the place of the profile of the tests' own conftest."""
    settings.load_profile("unshrunk")
