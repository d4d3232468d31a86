"""Videos that others write: files that appear in a folder, logged as they are whole."""
