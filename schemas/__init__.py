"""What both wings agree on: the hit, closed reasons and names, the settings, and the SQL. Imports nothing of ours."""
