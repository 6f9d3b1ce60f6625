import pytest

# Rewrite asserts in these helpers too, so that a failure shows the difference.
for _name in ("backends", "outside", "strict"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")
