"""Static pages: a leaderboard's site, and the report of one run. They need no network and no model."""
