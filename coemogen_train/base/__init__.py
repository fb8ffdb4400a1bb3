"""Base models as users have them, and sampling from them."""
