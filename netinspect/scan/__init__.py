"""Scan engines behind one small contract: content in, findings or the reason for none out."""
