"""The command line: parse, ask the station, print, exit code."""
