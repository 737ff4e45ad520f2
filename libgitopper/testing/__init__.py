"""Shows that a plugin keeps its contract: test classes to subclass, for builtins and third parties.

It needs pytest. Each module holds the contract of one hook.
"""
