"""How the levels of a source mean colours and light: code points, HDR metadata, tone mapping."""
