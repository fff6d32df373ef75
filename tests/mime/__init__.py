"""Tests of netinspect.mime."""
