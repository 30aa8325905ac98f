"""Everything that decides, as pure functions over frozen data: no clock, no files, no asyncio."""
