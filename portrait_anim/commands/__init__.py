"""The command line: what is typed becomes calls of the other rooms, and what they say is shown. Exports nothing."""
