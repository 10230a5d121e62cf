"""Flows over HTTP: REST, live events and the page; needs the extra `api`, which nothing outside of this room does."""
