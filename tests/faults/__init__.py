"""What becomes of a run under each fault, with real servers, real clients and real kills."""
