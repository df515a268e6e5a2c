"""The HTTP interface: application, reading path and authentication."""
