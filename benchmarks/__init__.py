"""Measurements with the command that made them; never part of the tests."""
