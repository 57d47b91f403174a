"""How people run Hanse: the command line, the engines, the report."""
