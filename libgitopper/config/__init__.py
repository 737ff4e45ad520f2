"""The strict configuration: TOML in, frozen values out, and every mistake told at once with its remedy."""

from libgitopper.config.api import Api, AuthSettings, Webhook
from libgitopper.config.loading import (
    Config,
    Overrides,
    default_fetch_user,
    default_mount,
    load_config,
    parse_config,
)
from libgitopper.config.values import format_duration, parse_duration

__all__ = [
    "Api",
    "AuthSettings",
    "Config",
    "Overrides",
    "Webhook",
    "default_fetch_user",
    "default_mount",
    "format_duration",
    "load_config",
    "parse_config",
    "parse_duration",
]
