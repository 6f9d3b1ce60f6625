import pytest

# So that a failed check there says what differed.
for _name in ("backends", "outside", "strict"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")
