"""What all HTML pages of viptt have in common: frame, looks, safety, and how numbers are written."""

from pipeline.pages.environment import Environment, environment, policy, require_new, require_own
from pipeline.pages.numbers import number, share

__all__ = ["Environment", "environment", "number", "policy", "require_new", "require_own", "share"]
