"""How a source is opened: under allow-lists, with errors that say what is wrong with a file."""
