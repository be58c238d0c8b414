"""Searching for the schedule of faults that breaks a system."""
