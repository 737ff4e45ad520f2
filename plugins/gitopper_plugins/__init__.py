"""The builtin plugins, each registered by entry point as a third party's would be."""
