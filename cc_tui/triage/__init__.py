"""Triage reports for people and programs: collected by chaoscontrol.triage, written here."""
