"""The documentation. As a package, so that no other one called `docs` is found by the tests."""
