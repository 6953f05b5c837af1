"""The evaluation of dictionaries: whose numbers are measured (trained ones and their controls), and how measurements become rows."""
