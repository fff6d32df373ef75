"""Inert test material: documents, archives and mails that look harmful and cannot do anything."""
