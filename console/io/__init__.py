"""One thin module for each thing outside the program. Nothing here decides anything."""
