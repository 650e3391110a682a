"""The command line, which turns what is typed into calls of the other rooms and shows the results. Exports nothing."""
