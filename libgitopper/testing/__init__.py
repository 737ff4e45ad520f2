"""Shows that a plugin keeps its contract: test classes to subclass, for builtins and third parties.

It needs pytest. Each module holds the contract of one hook.
"""

import pkgutil

import pytest

# A failure tells what was compared, as in a test of one's own.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
