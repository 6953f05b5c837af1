"""Published reference numbers as JSON; :func:`harness.leaderboard.published.load_published` reads them."""
